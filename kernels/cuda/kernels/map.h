// What the element-by-element kernel is given.
#pragma once
#include "../launch.h"
#include "views.h"

namespace ecad::cuda {

constexpr int kMapRank = 6, kMapThreads = 256;

struct MapOperand {
  Ref ref;
  int64_t strides[kMapRank];  // bytes; of the last dim too: in runs
  Elem elem;
  int32_t pad;
};

struct MapParams {
  Head head;
  uint32_t dims[kMapRank];  // the last in runs
  uint32_t runs;            // all of them
  int32_t act;
  MapOperand a, b, y;
};

enum class MapOp { kMove2, kMove4, kMove8, kMove16, kUnary, kAdd };  // kMove: so many bytes a run

// wide: runs of kVector elements (kUnary, kAdd), else of one.
Status launch_map(StreamHandle, MapOp, bool wide, const MapParams&);

}  // namespace ecad::cuda
