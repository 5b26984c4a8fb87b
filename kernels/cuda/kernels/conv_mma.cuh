// Convolution in bfloat16 on mma.sync as an implicit matrix product: pixels of y by (taps x channels) by channels of y.
//
// Computes     y[b, i, j, o] = bias[o] + sum over p, q, c of x[b, stride i - pad + p, stride j - pad + q, c] w[o, c, p, q], x being 0 outside.
// Inputs       x [B,H,W,Ci] bfloat16, pixels at multiples of 16 bytes, Ci a multiple of 8; w packed [Co, (p, q, c)] bfloat16; bias [Co] float32 or null.
//              Output y [B,Ho,Wo,Co] float32 or bfloat16, Co dense, other strides free.
// Accumulates  in float32, in the order of (p, q, c), 16 at a time in the tensor core; the same on every run. Bias and one rounding at the end.
// Grid/block   grid (ceil(B Ho Wo / 128), ceil(Co / kTileN)), 256 threads: 4 x 2 warps of 32 pixels x kTileN / 2 channels. The depth advances by 64
//              values = 8 units of 16 bytes through 3 stages filled by cp.async; a unit belongs to one tap, so zero padding is a copy of 0 bytes.
//              Units are swizzled by the row. Shared memory: 3 (128 + kTileN) 128 bytes: 72 KB (kTileN 64), 96 KB (128).
// Expected     reads through L2: ceil(Co / kTileN) B Ho Wo taps Ci 2 (taps of neighbours hit L1/L2; HBM sees x once) + blocks kTileN taps Ci 2, writes
//              B Ho Wo Co |y|; FLOPs 2 B Ho Wo Co taps Ci. Limited by the tensor cores for Ci, Co >= 64.
// Edge cases   pixels, channels and depth outside are zeros and not stored.
// Bank conflicts none in the main loop. y goes out in pieces of 8 (bfloat16) or 16 bytes, 16-byte runs of four lanes.
// Twin         kernels/ref/linear.cpp: ref_conv2d.
// Not here     float32 x, unaligned x or Ci not a multiple of 8 (conv_direct.cuh).
#pragma once
#include "conv.h"
#include "elements.cuh"

namespace ecad::cuda {

template <int kTileN_>
struct ConvMmaConfig {
  static constexpr int kTileM = 128, kTileN = kTileN_, kStages = 3, kThreads = 256;
  static constexpr int kLine = 128;  // bytes of a row of a stage: 64 values
  static constexpr uint32_t kStageBytes = (kTileM + kTileN) * kLine, kSmemBytes = kStages * kStageBytes;
  static constexpr int kTilesN = kTileN / 16, kRowsN = kTileN / 32;  // n8 tiles of a warp; rows of w that a thread copies
  static_assert(kSmemBytes <= 99 * 1024, "sm_86 and sm_89 have 99 KB");
};

namespace conv {

struct Pixel { int b, i, j; };
ECAD_DEVICE Pixel pixel_of(const ConvParams& p, int m) {
  const int row = m / p.out_width;
  return {row / p.out_height, row % p.out_height, m % p.out_width};
}

// What a thread copies: unit thread % 8 of rows thread / 8 + 32 i of x, and of w.
template <class C>
class Copier {
 public:
  ECAD_DEVICE Copier(const ConvParams& p, int first_m, int first_n, int thread) : units_(p.in_channels / 8), depth_(p.kernel_height * p.kernel_width * p.in_channels / 8), unit_(thread % 8) {
    const char* x = resolve<const char>(p.head.frame, p.x.ref);
    const int row = thread / 8;
    to_ = static_cast<uint32_t>(row * C::kLine + ((unit_ ^ row % 8) << 4));
    ECAD_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int m = first_m + row + 32 * i;
      const bool live = m < p.batch * p.out_height * p.out_width;
      const Pixel at = pixel_of(p, live ? m : 0);
      row_[i] = live ? at.i * p.stride - p.pad : -(1 << 30);  // outside whatever the tap
      column_[i] = at.j * p.stride - p.pad;
      from_[i] = x + at.b * p.x.batch;
    }
    ECAD_UNROLL
    for (int i = 0; i < C::kRowsN; ++i) {
      const int n = first_n + row + 32 * i;
      weights_[i] = n < p.out_channels ? static_cast<const char*>(p.weights) + static_cast<int64_t>(n) * depth_ * 16 : nullptr;
    }
  }

  // The next 64 values of every row to the stage.
  ECAD_DEVICE void copy(const ConvParams& p, uint32_t stage) {
    const bool live = unit_ < depth_;
    const int tap = unit_ / units_, row = tap / p.kernel_width, column = tap % p.kernel_width, offset = unit_ % units_ * 16;
    ECAD_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int at_row = row_[i] + row, at_column = column_[i] + column;
      const bool inside = live && at_row >= 0 && at_row < p.height && at_column >= 0 && at_column < p.width;
      ptx::cp_async<16>(stage + to_ + static_cast<uint32_t>(i * 32 * C::kLine), from_[i] + (inside ? at_row * p.x.row + at_column * p.x.pixel + offset : 0), inside ? 16 : 0);
    }
    ECAD_UNROLL
    for (int i = 0; i < C::kRowsN; ++i) {
      const bool inside = live && weights_[i] != nullptr;
      ptx::cp_async<16>(stage + C::kTileM * C::kLine + to_ + static_cast<uint32_t>(i * 32 * C::kLine), inside ? weights_[i] + unit_ * 16 : static_cast<const char*>(p.weights), inside ? 16 : 0);
    }
    unit_ += 8;
  }

 private:
  const char* from_[4];
  const char* weights_[C::kRowsN];
  int row_[4], column_[4];
  int units_, depth_, unit_;  // units of a pixel, of a row of w, and the next one to copy
  uint32_t to_;
};

// acc += x w^T over one stage.
template <class C>
ECAD_DEVICE void multiply_stage(float (&acc)[2][C::kTilesN][4], uint32_t stage, int warp, int lane) {
  const uint32_t x = stage + static_cast<uint32_t>((warp / 2 * 32 + lane % 16) * C::kLine);
  const uint32_t w = stage + static_cast<uint32_t>((C::kTileM + warp % 2 * (C::kTileN / 2) + lane % 8 + lane / 16 * 8) * C::kLine);
  ECAD_UNROLL
  for (int k = 0; k < 4; ++k) {
    const uint32_t at_x = static_cast<uint32_t>(((2 * k + lane / 16) ^ lane % 8) << 4), at_w = static_cast<uint32_t>(((2 * k + lane / 8 % 2) ^ lane % 8) << 4);
    uint32_t a[2][4];
    ECAD_UNROLL
    for (int i = 0; i < 2; ++i) ptx::ldmatrix<4>(a[i], x + static_cast<uint32_t>(16 * i * C::kLine) + at_x);
    ECAD_UNROLL
    for (int pair = 0; pair < C::kTilesN / 2; ++pair) {
      uint32_t b[4];
      ptx::ldmatrix<4>(b, w + static_cast<uint32_t>(16 * pair * C::kLine) + at_w);
      ECAD_UNROLL
      for (int i = 0; i < 2; ++i) {
        ptx::mma_m16n8k16(acc[i][2 * pair], a[i], b[0], b[1]);
        ptx::mma_m16n8k16(acc[i][2 * pair + 1], a[i], b[2], b[3]);
      }
    }
  }
}

}  // namespace conv

template <class C>
ECAD_KERNEL ECAD_BOUNDS(C::kThreads) conv_mma_kernel(ECAD_PARAMS(ConvParams) p) {
  using namespace conv;
  enter(p.head);
  const int thread = static_cast<int>(ptx::thread_id()), lane = thread % 32, warp = thread / 32;
  const int first_m = static_cast<int>(ptx::block_x()) * C::kTileM, first_n = static_cast<int>(ptx::block_y()) * C::kTileN;
  const int tiles = (p.kernel_height * p.kernel_width * p.in_channels + 63) / 64;
  const uint32_t smem = ptx::smem_base();
  Copier<C> copier(p, first_m, first_n, thread);
  for (int s = 0; s < C::kStages - 1; ++s) {
    if (s < tiles) copier.copy(p, smem + static_cast<uint32_t>(s) * C::kStageBytes);
    ptx::cp_async_commit();
  }
  float acc[2][C::kTilesN][4] = {};
  for (int t = 0; t < tiles; ++t) {
    ptx::cp_async_wait<C::kStages - 2>();
    ptx::block_sync();  // the stage is there, and nobody reads the one before any more
    if (t + C::kStages - 1 < tiles) copier.copy(p, smem + static_cast<uint32_t>((t + C::kStages - 1) % C::kStages) * C::kStageBytes);
    ptx::cp_async_commit();
    multiply_stage<C>(acc, smem + static_cast<uint32_t>(t % C::kStages) * C::kStageBytes, warp, lane);
  }
  ptx::cp_async_wait<0>();

  char* y = resolve<char>(p.head.frame, p.y.ref);
  const int bytes = elem_bytes(p.y.elem);
  ECAD_UNROLL
  for (int i = 0; i < 2; ++i) {
    ECAD_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int m = first_m + warp / 2 * 32 + 16 * i + 8 * half + lane / 4;
      if (m >= p.batch * p.out_height * p.out_width) continue;
      const Pixel at = pixel_of(p, m);
      char* to = y + at.b * p.y.batch + at.i * p.y.row + at.j * p.y.pixel;
      ECAD_UNROLL
      for (int n = 0; n < C::kTilesN; ++n) {
        ECAD_UNROLL
        for (int j = 0; j < 2; ++j) {
          const int channel = first_n + warp % 2 * (C::kTileN / 2) + 8 * n + lane % 4 * 2 + j;
          if (channel >= p.out_channels) continue;
          const float b = p.bias != nullptr ? ptx::ld_global<float>(p.bias + channel) : 0.f;
          store_one(to + channel * bytes, p.y.elem, acc[i][n][2 * half + j] + b);
        }
      }
    }
  }
}

}  // namespace ecad::cuda
