// What the convolution kernels are given.
#pragma once
#include "group_norm.h"  // ImageView

namespace ecad::cuda {

struct ConvParams {
  Head head;
  ImageView x, y;
  const void* weights;  // conv_mma: bfloat16 [Co, taps Ci]; conv_direct: float32 [taps Ci, Co]
  const float* bias;    // [Co] or null
  int32_t batch, height, width, in_channels;
  int32_t out_height, out_width, out_channels;
  int32_t kernel_height, kernel_width, stride, pad;
};

Status launch_conv_mma(StreamHandle, const ConvParams&);     // x bfloat16 and wide
Status launch_conv_direct(StreamHandle, const ConvParams&);

}  // namespace ecad::cuda
