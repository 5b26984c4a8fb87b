// Attention in bfloat16 on mma.sync: every architecture from sm_80 on.
//
// Computes     y[b, i, h] = sum_j p_j v[b, j, h], p = softmax over the keys j < counts[b] (causal: j <= i) of scale q[b, i, h] . k[b, j, h] + bias[h, i, j].
// Inputs       q [B,Nq,H D], k, v [B,Nk,H D] bfloat16, rows at multiples of 16 bytes, D a multiple of 8 up to kDepth; counts int32 [B] in device
//              memory, or none; bias [H,Nq,Nk] float32 or bfloat16, or none. Output y [B,Nq,H D] bfloat16, rows at multiples of 16 bytes.
// Accumulates  in float32: scores, the running maximum, sums of probabilities (before they are rounded) and y; probabilities are rounded to
//              bfloat16 for the second product. Keys in order, 64 at a time: the same on every run and for every kTilesM.
// Grid/block   grid (ceil(Nq / kQueries), H, B), 4 warps; a warp owns 16 kTilesM queries, so kQueries is 64 or 128. Keys and values come through two
//              stages of 64 keys filled by cp.async; queries pass through the second stage into registers. A row of shared memory is an odd
//              number of 16-byte units (D = 72: 144 bytes as it is; else one unit of padding), so ldmatrix is free of bank conflicts without
//              a swizzle. D = 72 is four m16n8k16 and one m16n8k8: nothing is padded. Shared memory: 256 (16 kUnits + (0 or 16)) bytes:
//              36 KB for D = 64 and 72, 68 KB for D = 128.
// Expected     bytes = 2 B H D (2 Nq + 2 blocks count) (+ bias), blocks = ceil(Nq / kQueries), of which HBM sees keys and values about once (L2);
//              FLOPs = 4 B H Nq count D. Limited by the tensor cores for Nq, count >= 512, by exp2 at D = 72 (about 80 % of the matrix time).
// Edge cases   queries outside are zeros and not stored. Keys outside the count are filled with zeros instead of being read and masked to
//              -infinity: NaN there is never seen. Causal: tiles behind the last query of the block are skipped; NaN in a key or value
//              inside the count may reach earlier queries of its tile. A count outside 1..Nk is reported and the block ends.
// Bank conflicts none in the main loop; two-way where y is read back for D <= 32, else none.
// Twin         kernels/ref/attention.cpp: ref_attention.
// Not here     other dtypes, unaligned rows, scale <= 0, D > 128 (attention_tiled.cuh).
#pragma once
#include "attention.h"
#include "attention_count.cuh"
#include "elements.cuh"

namespace ecad::cuda {

template <int kDepth_, int kTilesM_, bool kBias_>
struct AttentionMmaConfig {
  static constexpr int kDepth = kDepth_, kTilesM = kTilesM_;
  static constexpr bool kBias = kBias_;
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  static constexpr int kQueries = 16 * kTilesM * kWarps, kKeys = 64;
  static constexpr int kUnits = kDepth / 8;                 // 16-byte units of a row
  static constexpr int kPitch = 16 * (kUnits | 1);          // bytes of a row in shared memory
  static constexpr int kSteps = kDepth / 16;                // m16n8k16 along the head dim
  static constexpr bool kTail = kDepth % 16 == 8;           // and one m16n8k8
  static constexpr int kTilesN = kKeys / 8, kTilesD = kDepth / 8;
  static constexpr uint32_t kTileBytes = kKeys * kPitch, kStageBytes = 2 * kTileBytes, kSmemBytes = 2 * kStageBytes;
  static_assert(kDepth % 8 == 0 && kQueries * kPitch <= static_cast<int>(kStageBytes), "queries pass through one stage");
  static_assert(kSmemBytes <= 99 * 1024, "sm_86 and sm_89 have 99 KB");
};

namespace attention {

constexpr float kLog2e = 1.4426950408889634f;

// Copies rows [first, first + kRows) of one head to shared memory; rows from `end` on and units behind the head dim become zeros.
template <class C, int kRows>
ECAD_DEVICE void copy_rows(uint32_t to, const char* base, int64_t row_bytes, int first, int end, int units, int thread) {
  constexpr int kChunks = kRows * C::kUnits;
  static_assert(kChunks % 32 == 0, "whole warps copy");
  for (int i = thread; i < kChunks; i += C::kThreads) {
    const int row = i / C::kUnits, unit = i % C::kUnits;
    const bool live = first + row < end && unit < units;
    ptx::cp_async<16>(to + static_cast<uint32_t>(row * C::kPitch + 16 * unit), base + (live ? (first + row) * row_bytes + 16 * unit : 0), live ? 16 : 0);
  }
}

template <class C>
struct Queries {
  uint32_t step[C::kTilesM][C::kSteps][4];
  uint32_t tail[C::kTilesM][2];
};

// The warp's rows of the queries, as fragments A.
template <class C>
ECAD_DEVICE void load_queries(Queries<C>& q, uint32_t smem, int warp, int lane) {
  ECAD_UNROLL
  for (int m = 0; m < C::kTilesM; ++m) {
    const uint32_t rows = smem + static_cast<uint32_t>((warp * 16 * C::kTilesM + m * 16 + lane % 16) * C::kPitch);
    ECAD_UNROLL
    for (int s = 0; s < C::kSteps; ++s) ptx::ldmatrix<4>(q.step[m][s], rows + static_cast<uint32_t>(16 * (2 * s + lane / 16)));
    if constexpr (C::kTail) ptx::ldmatrix<2>(q.tail[m], rows + 32u * C::kSteps);
  }
}

// scores = q k^T for the 64 keys of a tile.
template <class C>
ECAD_DEVICE void multiply_keys(float (&scores)[C::kTilesM][C::kTilesN][4], const Queries<C>& q, uint32_t keys, int lane) {
  ECAD_UNROLL
  for (int m = 0; m < C::kTilesM; ++m)
    for (int n = 0; n < C::kTilesN; ++n)
      for (int i = 0; i < 4; ++i) scores[m][n][i] = 0.f;
  const uint32_t row = keys + static_cast<uint32_t>((lane % 8 + lane / 16 * 8) * C::kPitch + lane / 8 % 2 * 16);
  ECAD_UNROLL
  for (int s = 0; s < C::kSteps; ++s) {
    ECAD_UNROLL
    for (int pair = 0; pair < C::kTilesN / 2; ++pair) {
      uint32_t b[4];
      ptx::ldmatrix<4>(b, row + static_cast<uint32_t>(pair * 16 * C::kPitch + 32 * s));
      ECAD_UNROLL
      for (int m = 0; m < C::kTilesM; ++m) {
        ptx::mma_m16n8k16(scores[m][2 * pair], q.step[m][s], b[0], b[1]);
        ptx::mma_m16n8k16(scores[m][2 * pair + 1], q.step[m][s], b[2], b[3]);
      }
    }
  }
  if constexpr (C::kTail) {
    ECAD_UNROLL
    for (int four = 0; four < C::kTilesN / 4; ++four) {
      uint32_t b[4];
      ptx::ldmatrix<4>(b, keys + static_cast<uint32_t>((four * 32 + lane) * C::kPitch + 32 * C::kSteps));
      ECAD_UNROLL
      for (int m = 0; m < C::kTilesM; ++m)
        for (int n = 0; n < 4; ++n) ptx::mma_m16n8k8(scores[m][4 * four + n], q.tail[m][0], q.tail[m][1], b[n]);
    }
  }
}

// y += p v for the 64 keys of a tile; probabilities are the scores' registers, rounded.
template <class C>
ECAD_DEVICE void multiply_values(float (&y)[C::kTilesM][C::kTilesD][4], const float (&p)[C::kTilesM][C::kTilesN][4], uint32_t values, int lane) {
  ECAD_UNROLL
  for (int s = 0; s < C::kKeys / 16; ++s) {
    uint32_t a[C::kTilesM][4];
    ECAD_UNROLL
    for (int m = 0; m < C::kTilesM; ++m) {
      a[m][0] = ptx::pack_bf16(p[m][2 * s][0], p[m][2 * s][1]);
      a[m][1] = ptx::pack_bf16(p[m][2 * s][2], p[m][2 * s][3]);
      a[m][2] = ptx::pack_bf16(p[m][2 * s + 1][0], p[m][2 * s + 1][1]);
      a[m][3] = ptx::pack_bf16(p[m][2 * s + 1][2], p[m][2 * s + 1][3]);
    }
    const uint32_t row = values + static_cast<uint32_t>((16 * s + lane % 16) * C::kPitch);
    ECAD_UNROLL
    for (int pair = 0; pair < C::kTilesD / 2; ++pair) {
      uint32_t b[4];
      ptx::ldmatrix<4, true>(b, row + static_cast<uint32_t>(16 * (2 * pair + lane / 16)));
      ECAD_UNROLL
      for (int m = 0; m < C::kTilesM; ++m) {
        ptx::mma_m16n8k16(y[m][2 * pair], a[m], b[0], b[1]);
        ptx::mma_m16n8k16(y[m][2 * pair + 1], a[m], b[2], b[3]);
      }
    }
    if constexpr (C::kTilesD % 2 == 1) {
      uint32_t b[2];
      ptx::ldmatrix<2, true>(b, row + 16u * (C::kTilesD - 1));
      ECAD_UNROLL
      for (int m = 0; m < C::kTilesM; ++m) ptx::mma_m16n8k16(y[m][C::kTilesD - 1], a[m], b[0], b[1]);
    }
  }
}

// Scores of one tile to probabilities, and y and the sums of earlier tiles to the new maximum. A thread holds rows lane / 4 and 8 more of each
// tile of 16, so four lanes share a row.
template <class C>
ECAD_DEVICE void soften(float (&scores)[C::kTilesM][C::kTilesN][4], float (&y)[C::kTilesM][C::kTilesD][4], float (&most)[C::kTilesM][2], float (&total)[C::kTilesM][2], float factor) {
  ECAD_UNROLL
  for (int m = 0; m < C::kTilesM; ++m) {
    ECAD_UNROLL
    for (int half = 0; half < 2; ++half) {
      float top = scores[m][0][2 * half];
      ECAD_UNROLL
      for (int n = 0; n < C::kTilesN; ++n) top = fmaxf(top, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
      top = fmaxf(top, ptx::shfl_xor(top, 1));
      top = fmaxf(top, ptx::shfl_xor(top, 2));
      const float now = fmaxf(most[m][half], top * factor), base = now == -kInfinity ? 0.f : now;  // a tile may be biased away whole
      const float keep = ptx::ex2_approx(most[m][half] - base);
      most[m][half] = now;
      float sum = 0.f;
      ECAD_UNROLL
      for (int n = 0; n < C::kTilesN; ++n) {
        ECAD_UNROLL
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          scores[m][n][i] = ptx::ex2_approx(scores[m][n][i] * factor - base);
          sum += scores[m][n][i];
        }
      }
      total[m][half] = total[m][half] * keep + sum;
      ECAD_UNROLL
      for (int d = 0; d < C::kTilesD; ++d) {
        y[m][d][2 * half] *= keep;
        y[m][d][2 * half + 1] *= keep;
      }
    }
  }
}

// scores = scale log2(e) scores + log2(e) bias, inside the bias.
template <class C>
ECAD_DEVICE void add_bias(float (&scores)[C::kTilesM][C::kTilesN][4], const AttentionParams& p, int head, int row, int key) {
  const char* bias = resolve<const char>(p.head.frame, p.bias.ref) + head * p.bias.batch;
  const int bytes = static_cast<int>(elem_bytes(p.bias.elem));
  ECAD_UNROLL
  for (int m = 0; m < C::kTilesM; ++m) {
    ECAD_UNROLL
    for (int n = 0; n < C::kTilesN; ++n) {
      ECAD_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int r = row + 16 * m + i / 2 * 8, j = key + 8 * n + i % 2;
        const float b = r < p.queries && j < p.keys ? load_one(bias + r * p.bias.token + j * bytes, p.bias.elem) : 0.f;
        scores[m][n][i] = scores[m][n][i] * (p.scale * kLog2e) + b * kLog2e;
      }
    }
  }
}

// Keys that a row may not see become -infinity.
template <class C>
ECAD_DEVICE void mask(float (&scores)[C::kTilesM][C::kTilesN][4], bool causal, int count, int row, int key) {
  ECAD_UNROLL
  for (int m = 0; m < C::kTilesM; ++m) {
    ECAD_UNROLL
    for (int n = 0; n < C::kTilesN; ++n) {
      ECAD_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int r = row + 16 * m + i / 2 * 8, j = key + 8 * n + i % 2;
        if (j >= count || (causal && j > r)) scores[m][n][i] = -kInfinity;
      }
    }
  }
}

// y / total, rounded, through the warp's own rows of shared memory to 16-byte stores.
template <class C>
ECAD_DEVICE void store_result(const float (&y)[C::kTilesM][C::kTilesD][4], float (&total)[C::kTilesM][2], const AttentionParams& p, uint32_t smem, int first, int head, int sample, int warp, int lane) {
  const uint32_t rows = smem + static_cast<uint32_t>(warp * 16 * C::kTilesM * C::kPitch);
  ECAD_UNROLL
  for (int m = 0; m < C::kTilesM; ++m) {
    ECAD_UNROLL
    for (int half = 0; half < 2; ++half) {
      float sum = total[m][half];
      sum += ptx::shfl_xor(sum, 1);
      sum += ptx::shfl_xor(sum, 2);
      const float inverse = 1.f / sum;
      const uint32_t to = rows + static_cast<uint32_t>((16 * m + 8 * half + lane / 4) * C::kPitch + lane % 4 * 4);
      ECAD_UNROLL
      for (int d = 0; d < C::kTilesD; ++d) ptx::st_shared(to + 16u * d, ptx::pack_bf16(y[m][d][2 * half] * inverse, y[m][d][2 * half + 1] * inverse));
    }
  }
  ptx::warp_sync();
  char* out = resolve<char>(p.head.frame, p.y.ref) + sample * p.y.batch + static_cast<int64_t>(head) * p.depth * 2;
  const int first_row = first + warp * 16 * C::kTilesM;
  for (int i = lane; i < 16 * C::kTilesM * C::kUnits; i += 32) {
    const int row = i / C::kUnits, unit = i % C::kUnits;
    if (first_row + row >= p.queries || unit >= p.depth / 8) continue;
    ptx::st_global(out + (first_row + row) * p.y.token + 16 * unit, ptx::ld_shared<ptx::u32x4>(rows + static_cast<uint32_t>(row * C::kPitch + 16 * unit)));
  }
}

}  // namespace attention

template <class C>
ECAD_KERNEL ECAD_BOUNDS(C::kThreads) attention_mma(ECAD_PARAMS(AttentionParams) p) {
  using namespace attention;
  enter(p.head);
  const int thread = static_cast<int>(ptx::thread_id()), lane = thread % 32, warp = thread / 32;
  const int first = static_cast<int>(ptx::block_x()) * C::kQueries, head = static_cast<int>(ptx::block_y()), sample = static_cast<int>(ptx::block_z());
  const int count = key_count(p, sample, thread);
  if (count == 0) return;
  const int64_t column = static_cast<int64_t>(head) * p.depth * 2;
  const int units = p.depth / 8;
  const char* k = resolve<const char>(p.head.frame, p.k.ref) + sample * p.k.batch + column;
  const char* v = resolve<const char>(p.head.frame, p.v.ref) + sample * p.v.batch + column;
  const int end = p.causal && first + C::kQueries < count ? first + C::kQueries : count;
  const int tiles = (end + C::kKeys - 1) / C::kKeys;
  const uint32_t smem = ptx::smem_base();
  copy_rows<C, C::kQueries>(smem + C::kStageBytes, resolve<const char>(p.head.frame, p.q.ref) + sample * p.q.batch + column, p.q.token, first, p.queries, units, thread);
  copy_rows<C, C::kKeys>(smem, k, p.k.token, 0, count, units, thread);
  copy_rows<C, C::kKeys>(smem + C::kTileBytes, v, p.v.token, 0, count, units, thread);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  ptx::block_sync();
  Queries<C> q;
  load_queries<C>(q, smem + C::kStageBytes, warp, lane);

  float y[C::kTilesM][C::kTilesD][4] = {}, most[C::kTilesM][2], total[C::kTilesM][2] = {};
  for (int m = 0; m < C::kTilesM; ++m) most[m][0] = most[m][1] = -kInfinity;
  const int row = first + warp * 16 * C::kTilesM + lane / 4;
  for (int t = 0; t < tiles; ++t) {
    ptx::cp_async_wait<0>();
    ptx::block_sync();  // the tile is there, and nobody reads the other stage any more
    const uint32_t stage = smem + static_cast<uint32_t>(t % 2) * C::kStageBytes;
    if (t + 1 < tiles) {
      const uint32_t next = smem + static_cast<uint32_t>((t + 1) % 2) * C::kStageBytes;
      copy_rows<C, C::kKeys>(next, k, p.k.token, (t + 1) * C::kKeys, count, units, thread);
      copy_rows<C, C::kKeys>(next + C::kTileBytes, v, p.v.token, (t + 1) * C::kKeys, count, units, thread);
      ptx::cp_async_commit();
    }
    float scores[C::kTilesM][C::kTilesN][4];
    multiply_keys<C>(scores, q, stage, lane);
    const int key = t * C::kKeys + lane % 4 * 2;
    if constexpr (C::kBias) add_bias<C>(scores, p, head, row, key);
    if ((t + 1) * C::kKeys > count || (p.causal && (t + 1) * C::kKeys > first + 1)) mask<C>(scores, p.causal != 0, count, row, key);
    soften<C>(scores, y, most, total, C::kBias ? 1.f : p.scale * kLog2e);
    multiply_values<C>(y, scores, stage + C::kTileBytes, lane);
  }
  ptx::block_sync();  // everybody has read the last stage: y is laid out over the stages
  store_result<C>(y, total, p, smem, first, head, sample, warp, lane);
}

}  // namespace ecad::cuda
