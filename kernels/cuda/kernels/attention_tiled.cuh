// Attention on the ordinary float32 units: what attention_mma.cuh does not take (float32 and mixed operands, unaligned rows, head dims up to 512,
// any scale).
//
// Computes     as attention_mma.cuh, in float32 from the loads on.
// Inputs       q, k, v, y, bias: float32 or bfloat16 each, any row strides, D up to kDepth. counts as there.
// Accumulates  in float32: dot products along D in order, 32 at a time; keys in order, 64 at a time, with a running maximum. Deterministic.
// Grid/block   grid (ceil(Nq / 64), H, B), 256 threads; a thread owns 4 queries (4 ty + i), of the scores 4 keys (tx + 16 j), of y 4 columns of every
//              64. Shared memory: slices of 64 rows x 32 columns of q and of k (pitch 36), or 64 keys x 64 columns of v (pitch 68), and 64 x 64
//              probabilities (pitch 68): 35 KB.
// Expected     bytes = B H (ceil(Nq / 64) count D (|q| 64 / 64 per key tile + |k| + |v|) + Nq D |y|): queries are read again for every 64 keys, from L2.
//              FLOPs = 4 B H Nq count D. Limited by shared memory: 16 loads of 16 bytes for 64 multiply-adds of a thread and 4 columns.
// Edge cases   queries, keys and columns outside are zeros in shared memory; keys outside the count are not read, so NaN there is never seen.
// Bank conflicts none: rows of k are 36 words apart, q and probabilities are read as broadcasts.
// Twin         kernels/ref/attention.cpp: ref_attention.
// Not here     D > 512, float16, float64.
#pragma once
#include "attention.h"
#include "attention_count.cuh"
#include "elements.cuh"

namespace ecad::cuda {

template <int kDepth_>
struct AttentionTiledConfig {
  static constexpr int kDepth = kDepth_;
  static constexpr int kThreads = 256, kRows = 64, kSlice = 32;
  static constexpr int kBlocks = kDepth / 64;  // of 64 columns of y
  static constexpr uint32_t kSlicePitch = 4 * (kSlice + 4), kPitch = 4 * (64 + 4);
  static constexpr uint32_t kProbabilities = 2 * kRows * kSlicePitch;  // behind both slices; a slice of v is smaller than they are
  static constexpr uint32_t kSmemBytes = kProbabilities + kRows * kPitch;
  static_assert(kRows * kPitch <= kProbabilities, "v takes the place of q and k");
};

namespace attention_tiled {

// rows [first, first + 64) x columns [column, column + kColumns) of one head to shared memory, as float32; outside rows `end` and columns `depth`: 0.
template <int kColumns>
ECAD_DEVICE void copy_slice(uint32_t to, uint32_t pitch, const TokenView& view, const char* base, int first, int end, int column, int depth, int thread) {
  constexpr int kVectors = kColumns / kVector;
  const int bytes = static_cast<int>(elem_bytes(view.elem));
  for (int i = thread; i < 64 * kVectors; i += 256) {
    const int row = i / kVectors, at = column + i % kVectors * kVector;
    float v[kVector] = {};
    const int lanes = depth - at < kVector ? depth - at : kVector;
    if (first + row < end && lanes > 0) load_vector(base + (first + row) * view.token + at * bytes, view.elem, view.wide && lanes == kVector, lanes, v);
    const uint32_t cell = to + static_cast<uint32_t>(row) * pitch + static_cast<uint32_t>(i % kVectors * kVector) * 4u;
    const uint32_t half = i % kVectors / 4 % 2 * 16;  // a quarter warp that spans 256 bytes writes every unit of 16 once
    const ptx::f32x4 low{v[0], v[1], v[2], v[3]}, high{v[4], v[5], v[6], v[7]};
    ptx::st_shared(cell + half, half == 0 ? low : high);
    ptx::st_shared(cell + 16 - half, half == 0 ? high : low);
  }
}

// sum += a . b
ECAD_DEVICE float dot(const ptx::f32x4& a, const ptx::f32x4& b, float sum) { return ptx::fma_rn(a.w, b.w, ptx::fma_rn(a.z, b.z, ptx::fma_rn(a.y, b.y, ptx::fma_rn(a.x, b.x, sum)))); }

// scores += q k^T over one slice.
template <class C>
ECAD_DEVICE void multiply_slice(float (&scores)[4][4], uint32_t smem, int tx, int ty) {
  const uint32_t q = smem + static_cast<uint32_t>(4 * ty) * C::kSlicePitch, k = smem + static_cast<uint32_t>(C::kRows + tx) * C::kSlicePitch;
  for (uint32_t d = 0; d < C::kSlice; d += 4) {
    ptx::f32x4 a[4], b[4];
    ECAD_UNROLL
    for (uint32_t i = 0; i < 4; ++i) {
      a[i] = ptx::ld_shared<ptx::f32x4>(q + i * C::kSlicePitch + 4 * d);
      b[i] = ptx::ld_shared<ptx::f32x4>(k + 16 * i * C::kSlicePitch + 4 * d);
    }
    ECAD_UNROLL
    for (int i = 0; i < 4; ++i) {
      ECAD_UNROLL
      for (int j = 0; j < 4; ++j) scores[i][j] = dot(a[i], b[j], scores[i][j]);
    }
  }
}

// y += p v over one block of 64 columns.
template <class C>
ECAD_DEVICE void multiply_values(float (&y)[4][4], uint32_t smem, int tx, int ty) {
  const uint32_t p = smem + C::kProbabilities + static_cast<uint32_t>(4 * ty) * C::kPitch, v = smem + static_cast<uint32_t>(16 * tx);
  for (uint32_t key = 0; key < C::kRows; key += 4) {
    ptx::f32x4 a[4];
    ECAD_UNROLL
    for (uint32_t i = 0; i < 4; ++i) a[i] = ptx::ld_shared<ptx::f32x4>(p + i * C::kPitch + 4 * key);
    ECAD_UNROLL
    for (uint32_t n = 0; n < 4; ++n) {
      const ptx::f32x4 b = ptx::ld_shared<ptx::f32x4>(v + (key + n) * C::kPitch);
      ECAD_UNROLL
      for (int i = 0; i < 4; ++i) {
        const float w = n == 0 ? a[i].x : n == 1 ? a[i].y : n == 2 ? a[i].z : a[i].w;
        y[i][0] = ptx::fma_rn(w, b.x, y[i][0]);
        y[i][1] = ptx::fma_rn(w, b.y, y[i][1]);
        y[i][2] = ptx::fma_rn(w, b.z, y[i][2]);
        y[i][3] = ptx::fma_rn(w, b.w, y[i][3]);
      }
    }
  }
}

}  // namespace attention_tiled

template <class C>
ECAD_KERNEL ECAD_BOUNDS(C::kThreads, 1) attention_tiled_kernel(ECAD_PARAMS(AttentionParams) p) {
  using namespace attention_tiled;
  constexpr float kLog2e = 1.4426950408889634f;
  enter(p.head);
  const int thread = static_cast<int>(ptx::thread_id()), tx = thread % 16, ty = thread / 16;
  const int first = static_cast<int>(ptx::block_x()) * C::kRows, head = static_cast<int>(ptx::block_y()), sample = static_cast<int>(ptx::block_z());
  const int count = key_count(p, sample, thread);
  if (count == 0) return;
  const auto base = [&](const TokenView& view) { return resolve<char>(p.head.frame, view.ref) + sample * view.batch + static_cast<int64_t>(head) * p.depth * elem_bytes(view.elem); };
  const char *q = base(p.q), *k = base(p.k), *v = base(p.v);
  const char* bias = p.bias.present ? resolve<const char>(p.head.frame, p.bias.ref) + head * p.bias.batch : nullptr;
  const int end = p.causal && first + C::kRows < count ? first + C::kRows : count;
  const uint32_t smem = ptx::smem_base();

  float y[C::kBlocks][4][4] = {}, most[4], total[4] = {};
  for (int i = 0; i < 4; ++i) most[i] = -kInfinity;
  for (int key = 0; key < end; key += C::kRows) {
    float scores[4][4] = {};
    for (int d = 0; d < p.depth; d += C::kSlice) {
      ptx::block_sync();
      copy_slice<C::kSlice>(smem, C::kSlicePitch, p.q, q, first, p.queries, d, p.depth, thread);
      copy_slice<C::kSlice>(smem + C::kRows * C::kSlicePitch, C::kSlicePitch, p.k, k, key, count, d, p.depth, thread);
      ptx::block_sync();
      multiply_slice<C>(scores, smem, tx, ty);
    }
    ECAD_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = first + 4 * ty + i;
      float top = -kInfinity;
      ECAD_UNROLL
      for (int j = 0; j < 4; ++j) {
        const int at = key + tx + 16 * j;
        float s = p.scale * scores[i][j];
        if (bias != nullptr && row < p.queries && at < count) s += load_one(bias + row * p.bias.token + at * static_cast<int>(elem_bytes(p.bias.elem)), p.bias.elem);
        if (at >= count || (p.causal && at > row)) s = -kInfinity;
        scores[i][j] = s;
        top = fmaxf(top, s);
      }
      ECAD_UNROLL
      for (int offset = 8; offset > 0; offset /= 2) top = fmaxf(top, ptx::shfl_xor(top, static_cast<uint32_t>(offset)));
      const float now = fmaxf(most[i], top), at_most = now == -kInfinity ? 0.f : now;  // a tile may be biased away whole
      const float keep = ptx::ex2_approx((most[i] - at_most) * kLog2e);
      most[i] = now;
      float sum = 0.f;
      ECAD_UNROLL
      for (int j = 0; j < 4; ++j) {
        const float e = ptx::ex2_approx((scores[i][j] - at_most) * kLog2e);
        sum += e;
        ptx::st_shared(smem + C::kProbabilities + static_cast<uint32_t>(4 * ty + i) * C::kPitch + static_cast<uint32_t>(tx + 16 * j) * 4u, e);
      }
      total[i] = total[i] * keep + sum;
      ECAD_UNROLL
      for (int c = 0; c < C::kBlocks; ++c) {
        ECAD_UNROLL
        for (int n = 0; n < 4; ++n) y[c][i][n] *= keep;
      }
    }
    ECAD_UNROLL
    for (int c = 0; c < C::kBlocks; ++c) {
      if (64 * c >= p.depth) continue;
      ptx::block_sync();
      copy_slice<64>(smem, C::kPitch, p.v, v, key, count, 64 * c, p.depth, thread);
      ptx::block_sync();
      multiply_values<C>(y[c], smem, tx, ty);
    }
  }

  char* out = base(p.y);
  const int bytes = static_cast<int>(elem_bytes(p.y.elem));
  ECAD_UNROLL
  for (int i = 0; i < 4; ++i) {
    float sum = total[i];
    ECAD_UNROLL
    for (int offset = 8; offset > 0; offset /= 2) sum += ptx::shfl_xor(sum, static_cast<uint32_t>(offset));
    const int row = first + 4 * ty + i;
    if (row >= p.queries) continue;
    ECAD_UNROLL
    for (int c = 0; c < C::kBlocks; ++c) {
      ECAD_UNROLL
      for (int n = 0; n < 4; ++n) {
        const int column = 64 * c + 4 * tx + n;
        if (column < p.depth) store_one(out + row * p.y.token + column * bytes, p.y.elem, y[c][i][n] / sum);
      }
    }
  }
}

}  // namespace ecad::cuda
