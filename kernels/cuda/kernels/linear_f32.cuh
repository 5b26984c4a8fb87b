// linear and gated linear in float32: models whose stream is float32, and every input that is not bfloat16 alone.
//
// Computes     as linear_mma.cuh.
// Inputs       x: float32 or bfloat16 views; w: packed float32 (linear.h); b: float32 [n] or null. Wide: float32 alone, rows that start at multiples of
//              16 bytes; otherwise x is read element by element.
// Output       y: bfloat16 or float32, dense last dim, any row strides; does not overlap x.
// Accumulates  fused multiply-adds in float32, in the order of k; the same on every run. One rounding more when y is bfloat16.
// Grid/block   one block of 256 threads per 64 x 64 tile of y, a thread 4 rows x 4 columns; k advances by 32 (one 128-byte line per row)
//              through a ring of 3 stages filled by cp.async. Shared memory 48 KB. No tensor cores: TF32 would not be float32.
// Expected     reads 4 m k tiles_n + 128 k_tiles n tiles_m bytes through L2 (and the bias), writes m n sizeof(y). 2 m n k FLOPs (twice
//              for gated). Limit: CUDA cores; simple rather than fast, no released model runs its large products here.
// Edge cases   any m, n, k from 1; rows and columns outside are zeros and never stored.
// Bank conflicts none in the main loop; four-way where float32 results are put into shared memory on their way out, more at the ends of y.
// Measured     no GPU has run it yet: the emulator shows values, races, bank conflicts and bytes, not speed.
// Twin         kernels/ref/linear.cpp: ref_linear, ref_gated_linear.
// Not here     float16 and float64 inputs (refused when the op is bound).
#pragma once
#include "linear_loader.cuh"

namespace ecad::cuda {

template <bool Gated_, bool WideX_, class Y_>
struct LinearF32Config {
  static constexpr int TileM = 64, TileN = 64, Stages = 3, Threads = 256;
  static constexpr bool Gated = Gated_;
  using Y = Y_;
  using Loader = LinearLoader<float, TileM, TileN, Threads, WideX_>;
  using Staging = LinearStaging<Y, TileM, Gated ? TileN / 2 : TileN>;
  static constexpr int SmemBytes = Stages * Loader::StageBytes;
  static_assert(Staging::Bytes <= SmemBytes, "the result is laid out over the ring");
};

template <class C>
ECAD_KERNEL ECAD_BOUNDS(C::Threads, 2) linear_f32(ECAD_PARAMS(LinearParams) p) {
  using Staging = typename C::Staging;
  constexpr int kStage = C::Loader::StageBytes;
  enter(p.head);
  const u32 smem = ptx::smem_base();
  const int thread = static_cast<int>(ptx::thread_id());
  const TileAt tile = tile_at(static_cast<int>(ptx::block_x()), p.tiles_m, p.tiles_n);
  const int first_row = tile.m * C::TileM, first_n = tile.n * C::TileN;
  // Rows ty + 16 i; columns tx + 8 j, eight lanes side by side and the other eight 32 columns on: gate (even j) and up (odd j) of an element meet in
  // a thread, and eight neighbouring lines are read without a bank conflict.
  const int ty = thread / 16, tx = thread % 8 + thread / 8 % 2 * 32;

  typename C::Loader loader(p, first_row, first_n, thread);
  ECAD_UNROLL
  for (int s = 0; s < C::Stages - 1; ++s) {
    if (loader.more()) loader.copy(smem + s * kStage);
    ptx::cp_async_commit();
  }
  float acc[4][4] = {};
  int stage = 0;
  for (int t = 0; t < p.k_tiles; ++t) {
    ptx::cp_async_wait<C::Stages - 2>();
    ptx::block_sync();
    if (loader.more()) loader.copy(smem + (stage == 0 ? C::Stages - 1 : stage - 1) * kStage);
    ptx::cp_async_commit();
    const u32 base = smem + stage * kStage;
    ECAD_UNROLL
    for (int chunk = 0; chunk < 8; ++chunk) {
      ptx::f32x4 x[4], w[4];
      ECAD_UNROLL
      for (int i = 0; i < 4; ++i) x[i] = ptx::ld_shared<ptx::f32x4>(base + line_chunk(ty + 16 * i, chunk));
      ECAD_UNROLL
      for (int j = 0; j < 4; ++j) w[j] = ptx::ld_shared<ptx::f32x4>(base + line_chunk(C::TileM + tx + 8 * j, chunk));
      ECAD_UNROLL
      for (int i = 0; i < 4; ++i)
        ECAD_UNROLL
        for (int j = 0; j < 4; ++j) acc[i][j] = dot4(x[i], w[j], acc[i][j]);
    }
    stage = stage + 1 == C::Stages ? 0 : stage + 1;
  }
  ptx::cp_async_wait<0>();
  ptx::block_sync();

  ECAD_UNROLL
  for (int j = 0; j < 4; j += C::Gated ? 2 : 1) {
    float v[4];
    ECAD_UNROLL
    for (int i = 0; i < 4; ++i) v[i] = acc[i][j];
    const int n = first_n + tx + 8 * j;
    if (!C::Gated && p.bias != nullptr && n < p.n) {
      const float b = ptx::ld_global_nc<float>(p.bias + n);
      ECAD_UNROLL
      for (int i = 0; i < 4; ++i) v[i] += b;
    }
    activate(p.act, v);
    if (C::Gated)
      ECAD_UNROLL
      for (int i = 0; i < 4; ++i) v[i] *= acc[i][j + (C::Gated ? 1 : 0)];
    const int column = C::Gated ? tx % 8 + tx / 32 * 16 + 4 * j : tx + 8 * j;
    ECAD_UNROLL
    for (int i = 0; i < 4; i += 2) {  // lanes of neighbouring columns exchange: the even one puts both columns of row i, the odd one those of row i + 1
      const float other = ptx::shfl_xor(tx % 2 == 0 ? v[i + 1] : v[i], 1);
      if (tx % 2 == 0) Staging::put(smem, ty + 16 * i, column, v[i], other);
      else Staging::put(smem, ty + 16 * i + 16, column - 1, other, v[i + 1]);
    }
  }
  ptx::block_sync();
  Staging::template store<C::Threads>(smem, p, first_row, C::Gated ? first_n / 2 : first_n, thread);
}

template <class C>
Status launch_linear_f32(StreamHandle stream, const LinearParams& p) {
  return launch<linear_f32<C>>(stream, {{static_cast<uint32_t>(p.tiles_m * p.tiles_n)}, C::Threads, C::SmemBytes}, p);
}

}  // namespace ecad::cuda
