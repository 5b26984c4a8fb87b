// What the group-norm kernels are given.
#pragma once
#include "../../core/program.h"
#include "../launch.h"
#include "views.h"

namespace ecad::cuda {

// An image [B,H,W,C], C dense; strides in bytes.
struct ImageView {
  Ref ref;
  int64_t batch, row, pixel;
  Elem elem;
  int32_t pad;
};

struct GroupNormParams {
  Head head;
  ImageView x, y;
  SampleView weight, bias;     // [C]
  float* sums;                 // scratch: per sample, piece and channel the shift, the sum and the sum of squares of what is left
  float* factors;              // scratch: per sample [3][C] mean, rstd weight, bias
  double per_value;            // 1 / values of a group
  float eps;
  int32_t width, pixels, channels, groups, act;
  int32_t piece, pieces;       // pixels of a piece, pieces of an image
  int32_t vectors, columns, lanes;  // runs of a pixel; of which a block spans `columns`, `lanes` pixels at a time
};

// wide: x and y are wide.
Status launch_group_norm(StreamHandle, bool wide, int32_t batch, const GroupNormParams&);
inline size_t group_norm_scratch(int64_t batch, int64_t pieces, int64_t channels) { return static_cast<size_t>(batch * (pieces + 1) * channels * 3) * sizeof(float); }

}  // namespace ecad::cuda
