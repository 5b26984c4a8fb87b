// Heads of queries and keys in the epilogue of a product (linear.h: LinearHeads): what qk_norm_rope.cuh does to a tensor, done to the accumulators of
// linear_mma.cuh and linear_sm90.cuh.
//
// Computes     v = sum_k x[m, k] w[n, k] + b[n] as those kernels do; of the columns that are queries or keys, u = v / sqrt(mean(v^2) + eps) weight over each head, then
//              y[2i] = u[2i] c - u[2i+1] s, y[2i+1] = u[2i+1] c + u[2i] s with c, s elements 2i and 2i+1 of the token's row of rope. Other columns: y = v.
// Rounding     once, when y is stored: norm and rotation see float32. The two ops that this replaces round v to bfloat16 between them, so the result is nearer to the exact
//              one than theirs (tested), and differs from it in the last bit of bfloat16.
// Accumulates  in float32; the sum of squares: a thread's columns in order, then a butterfly over the 4 lanes of a row; of a head that two warps share, the two halves in
//              order. The same on every run.
// Layout       a tile holds whole heads: a warp has some, or one half of one (head dim 128 in tiles of 64 columns a warp). A thread has two neighbouring columns of
//              each group of 8, so pairs lie in one thread.
// Expected     beside the product's bytes, from L2: rope, 4 D bytes a row for each warp's heads (heads that lie side by side in a warp share them); weights, 32 bytes a
//              warp for every column of a head. It saves 8 m H D bytes of memory traffic and a launch. FLOPs 9 a column, as there.
// Edge cases   rows outside read no rope and are not stored; heads of v, and columns outside, are left as they are.
// Twin         kernels/ref/norm.cpp: ref_qk_norm_rope behind kernels/ref/linear.cpp: ref_linear.
// Measured     no GPU has run it yet.
// Not here     other head dims than 64 and 128, other types than bfloat16, activations, products of few rows (linear_stream.cuh): two ops, two kernels.
#pragma once
#include "linear_epilogue.cuh"

namespace ecad::cuda {

// The weight of the head that column n belongs to; null where it is neither of queries nor of keys.
ECAD_DEVICE const float* head_weight(const LinearParams& p, int n) {
  ECAD_UNROLL
  for (int which = 0; which < 2; ++which)
    if (n >= p.heads.first[which] && n < p.heads.first[which] + p.heads.width) return resolve<const float>(p.head.frame, p.heads.weight[which]);
  return nullptr;
}

// Adds the bias and finishes the heads in a warp's 8 Groups columns from first_n on. at(group, r, k): this thread's accumulator in row first_row + lane / 4 + 8 r and column
// 8 group + 2 (lane % 4) + k of them. end_row: where rows end. Where a head is wider, `half` says which part the warp has, and the two warps exchange sums at the shared
// address `sums`, 8 bytes for each of 8 Rows rows: then every thread of the block must come here.
template <int HeadDim, int Groups, int Rows, class At>
ECAD_DEVICE void finish_heads(const LinearParams& p, const At& at, int first_row, int end_row, int first_n, int lane, u32 sums, int half) {
  constexpr bool kShared = 8 * Groups < HeadDim;
  constexpr int kHeads = kShared ? 1 : 8 * Groups / HeadDim, kGroups = Groups / kHeads;  // groups of a head in this warp
  static_assert(kShared ? 16 * Groups == HeadDim : 8 * Groups % HeadDim == 0, "a warp has whole heads, or half of one");
  const int in_group = lane % 4 * 2;
  ECAD_UNROLL
  for (int g = 0; g < Groups; ++g) {
    float v[2 * Rows];
    ECAD_UNROLL
    for (int i = 0; i < 2 * Rows; ++i) v[i] = at(g, i / 2, i % 2);
    add_bias(p, first_n + 8 * g + in_group, v);
    ECAD_UNROLL
    for (int i = 0; i < 2 * Rows; ++i) at(g, i / 2, i % 2) = v[i];
  }
  const float* weight[kHeads];
  float scale[kHeads][Rows];
  bool any = false;
  ECAD_UNROLL
  for (int h = 0; h < kHeads; ++h) {
    weight[h] = head_weight(p, first_n + h * HeadDim);
    any = any || weight[h] != nullptr;
  }
  if (!any) return;  // the same in all warps that share a head
  ECAD_UNROLL
  for (int h = 0; h < kHeads; ++h) {
    ECAD_UNROLL
    for (int r = 0; r < Rows; ++r) {
      float sum = 0.f;
      ECAD_UNROLL
      for (int g = h * kGroups; g < (h + 1) * kGroups; ++g) sum += at(g, r, 0) * at(g, r, 0) + at(g, r, 1) * at(g, r, 1);
      sum += ptx::shfl_xor(sum, 1);
      sum += ptx::shfl_xor(sum, 2);
      scale[h][r] = sum;
    }
  }
  if constexpr (kShared) {
    const u32 own = sums + static_cast<u32>(lane / 4 * 8);
    if (lane % 4 == 0) {
      ECAD_UNROLL
      for (int r = 0; r < Rows; ++r) ptx::st_shared(own + static_cast<u32>(64 * r + 4 * half), scale[0][r]);
    }
    ptx::block_sync();
    ECAD_UNROLL
    for (int r = 0; r < Rows; ++r) {
      const auto both = ptx::ld_shared<ptx::f32x2>(own + static_cast<u32>(64 * r));
      scale[0][r] = both.x + both.y;
    }
  }
  ECAD_UNROLL
  for (int h = 0; h < kHeads; ++h)
    ECAD_UNROLL
    for (int r = 0; r < Rows; ++r) scale[h][r] = 1.f / sqrtf(scale[h][r] * (1.f / HeadDim) + p.heads.eps);

  const int in_head = (kShared ? half * 8 * Groups : 0) + in_group;
  const float* turn[Rows];
  bool inside[Rows];
  ECAD_UNROLL
  for (int r = 0; r < Rows; ++r) {
    const int row = first_row + lane / 4 + 8 * r;
    inside[r] = row < end_row;
    turn[r] = resolve<const float>(p.head.frame, p.heads.rope) + (inside[r] ? row % p.heads.tokens : 0) * p.heads.rope_stride + in_head;
  }
  ECAD_UNROLL
  for (int g = 0; g < kGroups; ++g) {
    ptx::f32x2 angle[Rows];
    ECAD_UNROLL
    for (int r = 0; r < Rows; ++r) angle[r] = ptx::ld_global_nc_if<ptx::f32x2>(turn[r] + 8 * g, inside[r]);
    ECAD_UNROLL
    for (int h = 0; h < kHeads; ++h) {
      if (weight[h] == nullptr) continue;
      const auto w = ptx::ld_global_nc<ptx::f32x2>(weight[h] + in_head + 8 * g);
      ECAD_UNROLL
      for (int r = 0; r < Rows; ++r) {
        float &even = at(h * kGroups + g, r, 0), &odd = at(h * kGroups + g, r, 1);
        const float a = even * scale[h][r] * w.x, b = odd * scale[h][r] * w.y;
        even = a * angle[r].x - b * angle[r].y;
        odd = b * angle[r].x + a * angle[r].y;
      }
    }
  }
}

}  // namespace ecad::cuda
