// Queries and keys before joint attention: rms norm of every head, then rotary position embedding.
//
// Computes: u = x / sqrt(mean(x^2) + eps) * w over each head; y[2m] = u[2m] c - u[2m+1] s, y[2m+1] = u[2m+1] c + u[2m] s, c and s being elements 2m and
//   2m+1 of the token's row of rope.
// Inputs: q, k [B,N,H D] float32 or bfloat16, rows dense, batch and token strides free; wq, wk [D] and rope [N,D] float32 or bfloat16.
// Outputs: q', k' like q; each may be its input itself. Rounded once, at the stores.
// Accumulates in: float32; the sum of squares: a thread's 8 kParts elements in order, then a butterfly over 16 lanes. Deterministic.
// Grid/block: grid (N, B), 256 threads: a block is one token, each of its 16 half warps a head of q or k at a time. A thread owns the same 8 kParts elements of
//   every head it meets, so that weights and angles stay in registers; pairs lie in one thread.
// Expected: bytes = B N H D (|q| + |q'| + |k| + |k'|), and what the caches serve: per token 16 times its row of rope and both weights. FLOPs 18 B N H D. Limited
//   by HBM; no GPU has run it yet.
// Edge cases: D even up to 512; D not a multiple of 8, or rows that are not 16-byte aligned, go element by element; half warps past the last head are masked.
// Bank conflicts: none, there is no shared memory.
// Twin: kernels/ref/norm.cpp, ref_qk_norm_rope.
// Not supported: float16 and float64 operands, D > 512.
#pragma once
#include "elements.cuh"
#include "qk_norm_rope.h"

namespace ecad::cuda {

// kParts: vectors of a head that a thread owns, 16 vectors apart.
template <int kParts_>
struct QkNormRopeConfig {
  static constexpr int kParts = kParts_, kThreads = 256, kLanes = 16, kUnits = kThreads / kLanes;  // kUnits: heads at a time
  static constexpr int kMaxDepth = kLanes * kVector * kParts;
};

namespace qk {

// Elements of part `part` of a head that this thread owns: the first, and how many of 8 exist.
struct Span { int first, lanes; };
template <class Config>
ECAD_DEVICE Span span(int part, int lane, int depth) {
  const int first = (part * Config::kLanes + lane) * kVector, left = depth - first;
  return {first, left >= kVector ? kVector : left > 0 ? left : 0};
}

template <class Config>
ECAD_DEVICE void load_row(const char* row, Elem elem, bool wide, int lane, int depth, float (&v)[Config::kParts][kVector]) {
  ECAD_UNROLL
  for (int part = 0; part < Config::kParts; ++part) {
    const Span s = span<Config>(part, lane, depth);
    ECAD_UNROLL
    for (int i = 0; i < kVector; ++i) v[part][i] = 0.f;
    if (s.lanes > 0) load_vector(row + s.first * elem_bytes(elem), elem, wide, s.lanes, v[part]);
  }
}

}  // namespace qk

template <class Config>
ECAD_KERNEL ECAD_BOUNDS(Config::kThreads) qk_norm_rope_kernel(ECAD_PARAMS(QkNormRopeParams) p) {
  using namespace qk;
  enter(p.head);
  const int thread = static_cast<int>(ptx::thread_id()), lane = thread % Config::kLanes;
  const int64_t token = ptx::block_x(), sample = ptx::block_y();
  const float inverse = 1.f / static_cast<float>(p.depth);
  float turn[Config::kParts][kVector], weight[Config::kParts][kVector];
  load_row<Config>(resolve<const char>(p.head.frame, p.rope.ref) + token * p.rope.token, p.rope.elem, p.rope.wide, lane, p.depth, turn);
  for (int which = 0; which < 2; ++which) {
    const TokenView &from = p.x[which], &to = p.y[which], &factor = p.weight[which];
    load_row<Config>(resolve<const char>(p.head.frame, factor.ref), factor.elem, factor.wide, lane, p.depth, weight);
    const char* x = resolve<const char>(p.head.frame, from.ref) + sample * from.batch + token * from.token;
    char* y = resolve<char>(p.head.frame, to.ref) + sample * to.batch + token * to.token;
    for (int base = 0; base < p.heads; base += Config::kUnits) {
      const int head = base + thread / Config::kLanes;
      const int depth = head < p.heads ? p.depth : 0;  // 0: nothing to load or to store
      float v[Config::kParts][kVector], sum = 0.f;
      load_row<Config>(x + static_cast<int64_t>(head) * p.depth * elem_bytes(from.elem), from.elem, from.wide, lane, depth, v);
      ECAD_UNROLL
      for (int part = 0; part < Config::kParts; ++part) {
        ECAD_UNROLL
        for (int i = 0; i < kVector; ++i) sum += v[part][i] * v[part][i];
      }
      ECAD_UNROLL
      for (int offset = Config::kLanes / 2; offset > 0; offset /= 2) sum += ptx::shfl_xor(sum, static_cast<uint32_t>(offset));
      const float scale = 1.f / sqrtf(sum * inverse + p.eps);
      ECAD_UNROLL
      for (int part = 0; part < Config::kParts; ++part) {
        ECAD_UNROLL
        for (int i = 0; i < kVector; i += 2) {
          const float a = v[part][i] * scale * weight[part][i], b = v[part][i + 1] * scale * weight[part][i + 1];
          v[part][i] = a * turn[part][i] - b * turn[part][i + 1];
          v[part][i + 1] = b * turn[part][i] + a * turn[part][i + 1];
        }
        const Span s = span<Config>(part, lane, depth);
        if (s.lanes > 0) store_vector(y + (static_cast<int64_t>(head) * p.depth + s.first) * elem_bytes(to.elem), to.elem, to.wide, s.lanes, v[part]);
      }
    }
  }
}

}  // namespace ecad::cuda
