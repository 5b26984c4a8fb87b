// Convolution on the ordinary float32 units: float32 images, few or odd channels, unaligned pixels.
//
// Computes     as conv_mma.cuh. x, y float32 or bfloat16, C dense, other strides free; w packed [(p, q, c), Co] and bias in float32.
// Accumulates  in float32, in the order of (p, q, c), starting at the bias. Deterministic.
// Grid/block   grid (ceil(B Ho Wo / 64), ceil(Co / 64)), 256 threads; a thread owns 4 pixels x 4 channels. The depth advances by 16 values:
//              16 x 64 of x and of w in shared memory, 9 KB.
// Expected     reads ceil(Co / 64) B Ho Wo taps Ci |x| + blocks (64 taps Ci 4 + 4096 of bias) through the caches, writes B Ho Wo Co |y|; FLOPs 2 B Ho Wo Co taps Ci. Limited by
//              shared memory: 2 loads of 16 bytes for 16 multiply-adds.
// Edge cases   pixels, channels and depth outside are zeros and not stored.
// Bank conflicts none in the multiplications; two-way where values of x are written.
// Twin         kernels/ref/linear.cpp: ref_conv2d.
// Not here     float16, float64.
#pragma once
#include "conv.h"
#include "elements.cuh"

namespace ecad::cuda {

struct ConvDirectConfig {
  static constexpr int kTile = 64, kSlice = 16, kThreads = 256;
  static constexpr uint32_t kPitch = (kTile + 4) * 4, kWeights = kSlice * kPitch, kSmemBytes = 2 * kWeights;
};

ECAD_KERNEL ECAD_BOUNDS(ConvDirectConfig::kThreads) conv_direct_kernel(ECAD_PARAMS(ConvParams) p) {
  using C = ConvDirectConfig;
  enter(p.head);
  const int thread = static_cast<int>(ptx::thread_id()), tx = thread % 16, ty = thread / 16;
  const int first_m = static_cast<int>(ptx::block_x()) * C::kTile, first_n = static_cast<int>(ptx::block_y()) * C::kTile;
  const int depth = p.kernel_height * p.kernel_width * p.in_channels, pixels = p.batch * p.out_height * p.out_width;
  const uint32_t smem = ptx::smem_base();
  const char* x = resolve<const char>(p.head.frame, p.x.ref);
  const float* w = static_cast<const float*>(p.weights);
  const auto pixel_of = [&](int m, int (&at)[3]) {
    const int row = m / p.out_width;
    at[0] = row / p.out_height;
    at[1] = row % p.out_height;
    at[2] = m % p.out_width;
  };
  float acc[4][4];
  ECAD_UNROLL
  for (int j = 0; j < 4; ++j) {
    const int channel = first_n + 4 * tx + j;
    const float b = p.bias != nullptr && channel < p.out_channels ? ptx::ld_global<float>(p.bias + channel) : 0.f;
    ECAD_UNROLL
    for (int i = 0; i < 4; ++i) acc[i][j] = b;
  }
  for (int base = 0; base < depth; base += C::kSlice) {
    if (base > 0) ptx::block_sync();
    // thread % 16 is a place along the depth, so neighbours read neighbouring channels
    const int k = base + tx, channel = k % p.in_channels, tap = k / p.in_channels, row = tap / p.kernel_width, column = tap % p.kernel_width;
    for (int i = ty; i < C::kTile; i += 16) {
      float v = 0.f;
      if (first_m + i < pixels && k < depth) {
        int at[3];
        pixel_of(first_m + i, at);
        const int at_row = at[1] * p.stride - p.pad + row, at_column = at[2] * p.stride - p.pad + column;
        if (at_row >= 0 && at_row < p.height && at_column >= 0 && at_column < p.width)
          v = load_one(x + at[0] * p.x.batch + at_row * p.x.row + at_column * p.x.pixel + channel * elem_bytes(p.x.elem), p.x.elem);
      }
      ptx::st_shared(smem + static_cast<uint32_t>(tx) * C::kPitch + static_cast<uint32_t>(i) * 4u, v);
    }
    for (int i = thread; i < C::kSlice * C::kTile; i += C::kThreads) {
      const int at = base + i / C::kTile, n = first_n + i % C::kTile;
      const float v = at < depth && n < p.out_channels ? ptx::ld_global<float>(w + static_cast<int64_t>(at) * p.out_channels + n) : 0.f;
      ptx::st_shared(smem + C::kWeights + static_cast<uint32_t>(i / C::kTile) * C::kPitch + static_cast<uint32_t>(i % C::kTile) * 4u, v);
    }
    ptx::block_sync();
    ECAD_UNROLL
    for (uint32_t d = 0; d < C::kSlice; ++d) {
      const auto a = ptx::ld_shared<ptx::f32x4>(smem + d * C::kPitch + static_cast<uint32_t>(16 * ty)), b = ptx::ld_shared<ptx::f32x4>(smem + C::kWeights + d * C::kPitch + static_cast<uint32_t>(16 * tx));
      const float rows[4] = {a.x, a.y, a.z, a.w}, columns[4] = {b.x, b.y, b.z, b.w};
      ECAD_UNROLL
      for (int i = 0; i < 4; ++i) {
        ECAD_UNROLL
        for (int j = 0; j < 4; ++j) acc[i][j] = ptx::fma_rn(rows[i], columns[j], acc[i][j]);
      }
    }
  }
  char* y = resolve<char>(p.head.frame, p.y.ref);
  const int bytes = elem_bytes(p.y.elem);
  ECAD_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int m = first_m + 4 * ty + i;
    if (m >= pixels) continue;
    int at[3];
    pixel_of(m, at);
    char* to = y + at[0] * p.y.batch + at[1] * p.y.row + at[2] * p.y.pixel;
    ECAD_UNROLL
    for (int j = 0; j < 4; ++j)
      if (first_n + 4 * tx + j < p.out_channels) store_one(to + (first_n + 4 * tx + j) * bytes, p.y.elem, acc[i][j]);
  }
}

}  // namespace ecad::cuda
