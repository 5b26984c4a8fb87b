// linear and gated linear in bfloat16 on mma.sync: every architecture from sm_80 on.
//
// Computes     y[m, n] = act(sum_k x[m, k] w[n, k] + b[n]); gated: y[m, n] = act(sum_k x[m, k] wg[n, k]) * sum_k x[m, k] wu[n, k].
// Inputs       x: up to kLinearParts bfloat16 views of the same rows, concatenated along k; dense last dim, any row strides. Wide: rows start at
//              multiples of 16 bytes; otherwise elements are read one by one. w: packed bfloat16 (linear.h).
//              b: float32 [n] or null.
// Output       y: bfloat16 or float32, dense last dim, any row strides; does not overlap x.
// Accumulates  in float32, in the order of k, 16 at a time in the tensor core; the same on every run. One rounding, when y is stored.
// Grid/block   one block of 2 TileM threads per TileM x TileN tile of y, bands of 8 rows of tiles walked column by column so that
//              neighbours share x and w in L2. A warp owns 32 x TileN/2. k advances by 64 (one 128-byte line per row) through a ring of
//              Stages stages filled by cp.async; chunks of 16 bytes are swizzled by the row, so that cp.async and ldmatrix are free of bank
//              conflicts. Shared memory: Stages (TileM + TileN) 128 bytes, at most 96 KB (sm_86 and sm_89 have 99); the result is laid
//              out over it before it is stored in 16-byte chunks.
// Expected     reads 2 m k tiles_n + 128 k_tiles n tiles_m bytes through L2 (and the bias), writes m n sizeof(y); HBM sees x, w and y once when
//              a band fits L2. 2 m n k FLOPs (twice for gated). TileM TileN / (TileM + TileN) FLOPs per byte of L2 traffic: 64 for 128 x 128.
//              Limit: tensor cores; on Hopper mma.sync reaches about half of what wgmma does.
// Heads        with HeadDim, queries and keys among the columns are normalised and turned in the accumulators: linear_heads.cuh.
// Edge cases   rows and columns outside are filled with zeros and never stored; any m, n, k from 1.
// Bank conflicts none in the main loop, nor where whole warps store y; some at its ends.
// Measured     no GPU has run it yet: the emulator shows values, races, bank conflicts and bytes, not speed.
// Twin         kernels/ref/linear.cpp: ref_linear, ref_gated_linear.
// Not here     float32 inputs (linear_f32.cuh), other dtypes (refused when the op is bound).
#pragma once
#include "linear_heads.cuh"
#include "linear_loader.cuh"

namespace ecad::cuda {

template <int TileM_, int TileN_, int Stages_, bool Gated_, bool WideX_, class Y_, int HeadDim_ = 0>
struct LinearMmaConfig {
  static constexpr int TileM = TileM_, TileN = TileN_, Stages = Stages_, Threads = 2 * TileM;
  static constexpr bool Gated = Gated_;
  static constexpr int HeadDim = HeadDim_;  // 0: columns are not heads
  using Y = Y_;
  using Loader = LinearLoader<ptx::bf16, TileM, TileN, Threads, WideX_>;
  using Staging = LinearStaging<Y, TileM, Gated ? TileN / 2 : TileN>;
  static constexpr int SmemBytes = Stages * Loader::StageBytes;
  static_assert(TileM % 32 == 0 && TileN % 32 == 0, "a warp owns 32 rows, and columns 16 at a time");
  static_assert(SmemBytes <= 99 * 1024, "sm_86 and sm_89 have 99 KB");
  static constexpr int SumsAt = Staging::Bytes, SumsBytes = HeadDim > TileN / 2 ? TileM * 8 : 0;  // of heads that two warps share
  static_assert(Staging::Bytes + SumsBytes <= SmemBytes, "the result is laid out over the ring");
  static_assert(HeadDim == 0 || (!Gated && TileN % HeadDim == 0), "a tile holds whole heads");
};

template <class C>
ECAD_KERNEL ECAD_BOUNDS(C::Threads, 1) linear_mma(ECAD_PARAMS(LinearParams) p) {
  using Staging = typename C::Staging;
  constexpr int kTiles = C::TileN / 16, kStage = C::Loader::StageBytes;  // kTiles: a warp's tiles of 8 columns
  enter(p.head);
  const u32 smem = ptx::smem_base();
  const int thread = static_cast<int>(ptx::thread_id()), lane = thread % 32, warp_m = thread / 64, warp_n = thread / 32 % 2;
  const TileAt tile = tile_at(static_cast<int>(ptx::block_x()), p.tiles_m, p.tiles_n);
  const int first_row = tile.m * C::TileM, first_n = tile.n * C::TileN;

  typename C::Loader loader(p, first_row, first_n, thread);
  ECAD_UNROLL
  for (int s = 0; s < C::Stages - 1; ++s) {
    if (loader.more()) loader.copy(smem + s * kStage);
    ptx::cp_async_commit();
  }

  // ldmatrix: lanes 0..15 name the 16 lines of x at the even chunk, lanes 16..31 at the odd one. Of weights lanes 0..7 and 16..23 name 16 lines
  // at the even chunk, the others at the odd one.
  const u32 line_x = (warp_m * 32 + lane % 16) * kLineBytes, line_w = (C::TileM + warp_n * (C::TileN / 2) + lane % 8 + lane / 16 * 8) * kLineBytes;
  const int swizzle = lane % 8, odd_x = lane / 16, odd_w = lane / 8 % 2;
  float acc[2][kTiles][4] = {};
  int stage = 0;
  for (int t = 0; t < p.k_tiles; ++t) {
    ptx::cp_async_wait<C::Stages - 2>();
    ptx::block_sync();  // the stage is there for everyone, and everyone has read the stage that is filled next
    if (loader.more()) loader.copy(smem + (stage == 0 ? C::Stages - 1 : stage - 1) * kStage);
    ptx::cp_async_commit();
    const u32 base = smem + stage * kStage;
    ECAD_UNROLL
    for (int kk = 0; kk < 4; ++kk) {
      u32 a[2][4], b[kTiles / 2][4];
      ECAD_UNROLL
      for (int i = 0; i < 2; ++i) ptx::ldmatrix(a[i], base + line_x + i * 16 * kLineBytes + (((2 * kk + odd_x) ^ swizzle) << 4));
      ECAD_UNROLL
      for (int j = 0; j < kTiles / 2; ++j) ptx::ldmatrix(b[j], base + line_w + j * 16 * kLineBytes + (((2 * kk + odd_w) ^ swizzle) << 4));
      ECAD_UNROLL
      for (int i = 0; i < 2; ++i)
        ECAD_UNROLL
        for (int j = 0; j < kTiles; ++j) ptx::mma_m16n8k16(acc[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
    stage = stage + 1 == C::Stages ? 0 : stage + 1;
  }
  ptx::cp_async_wait<0>();
  ptx::block_sync();  // everyone has read the last stage

  if constexpr (C::HeadDim > 0)
    finish_heads<C::HeadDim, kTiles, 4>(p, [&](int group, int r, int k) -> float& { return acc[r / 2][group][r % 2 * 2 + k]; }, first_row + warp_m * 32, p.m, first_n + warp_n * (C::TileN / 2), lane,
                                        smem + C::SumsAt + warp_m * 256, warp_n);
  const int in_row = warp_m * 32 + lane / 4, in_n = warp_n * (C::TileN / 2) + lane % 4 * 2;
  ECAD_UNROLL
  for (int j = 0; j < kTiles; j += C::Gated ? 2 : 1) {
    float v[8];
    ECAD_UNROLL
    for (int i = 0; i < 8; ++i) v[i] = acc[i / 4][j][i % 4];
    if constexpr (C::HeadDim == 0) {
      if (!C::Gated) add_bias(p, first_n + in_n + 8 * j, v);
      activate(p.act, v);
    }
    if (C::Gated)
      ECAD_UNROLL
      for (int i = 0; i < 8; ++i) v[i] *= acc[i / 4][j + (C::Gated ? 1 : 0)][i % 4];
    const int column = C::Gated ? warp_n * (C::TileN / 4) + 4 * j + lane % 4 * 2 : in_n + 8 * j;
    ECAD_UNROLL
    for (int i = 0; i < 4; ++i) Staging::put(smem, in_row + 8 * i, column, v[2 * i], v[2 * i + 1]);
  }
  ptx::block_sync();
  Staging::template store<C::Threads>(smem, p, first_row, C::Gated ? first_n / 2 : first_n, thread);
}

template <class C>
Status launch_linear_mma(StreamHandle stream, const LinearParams& p) {
  return launch<linear_mma<C>>(stream, {{static_cast<uint32_t>(p.tiles_m * p.tiles_n)}, C::Threads, C::SmemBytes}, p);
}

}  // namespace ecad::cuda
