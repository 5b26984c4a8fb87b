// What the kernel that normalises and rotates queries and keys is given.
#pragma once
#include "../launch.h"
#include "views.h"

namespace ecad::cuda {

constexpr int kMaxRotatedHeadDim = 512;

struct QkNormRopeParams {
  Head head;
  TokenView x[2], y[2];  // q, k; q', k'
  TokenView weight[2];   // [D]
  TokenView rope;        // [N,D]: token is its stride
  int32_t heads, depth;
  float eps;
};

Status launch_qk_norm_rope(StreamHandle, int32_t batch, int32_t tokens, const QkNormRopeParams&);

}  // namespace ecad::cuda
