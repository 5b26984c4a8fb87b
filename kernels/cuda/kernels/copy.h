// y = x over strided views, converting between float32 and bfloat16, or moving elements of 2, 4 or 8 bytes as they are.
#pragma once
#include "../frame.h"
#include "../launch.h"

namespace ecad::cuda {

constexpr uint32_t kCopyThreads = 256;

enum class CopyKind : int32_t { kMove2, kMove4, kMove8, kNarrow, kWiden };  // narrow: float32 to bfloat16, rounded to nearest even

struct CopyParams {
  Head head;
  Ref in, out;
  int64_t count;                            // of units
  int64_t dims[3];                          // from the innermost unit outwards; the outermost one needs none
  int64_t in_strides[4], out_strides[4];    // in elements per unit of each dim
};

// One thread copies a unit: 16 bytes when `vector` (moves alone: dense last dims, aligned rows), else an element.
Status launch_copy(StreamHandle, CopyKind, bool vector, const CopyParams&);

}  // namespace ecad::cuda
