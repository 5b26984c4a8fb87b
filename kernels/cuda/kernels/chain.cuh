// Residual chain: any number of cached component outputs added to the residual stream in one pass, then normalised and modulated.
//
// Computes: x' = x + sum_i g_i s_i (g absent: 1); y = norm(x') (* weight + bias) * (1 + scale) + shift. Either output may be absent.
// Inputs: x [B,N,C] float32 or bfloat16; s_i likewise; g_i, scale, shift [1 or B,C]; weight, bias [C] float32 or bfloat16. Rows dense, batch and token
//   strides free. Outputs x', y [B,N,C]; x' may be x itself. Rounded once, at the stores.
// Accumulates in: float32, terms in operand order; row sums: a thread's 8 channels in order, then a butterfly over 16 lanes, then the parts
//   of the row in order. Deterministic, and the same for every kTokens. The variance is taken around the mean, from the row in registers.
// Grid/block: grid (ceil(N / (groups kTokens)), B). A thread owns 8 channels of kTokens adjacent tokens, so that a gate vector is loaded once for
//   kTokens rows; `width` threads (a multiple of 16: half warps are the unit of the row sums) span a row, `groups` rows of threads a block.
//   Shared memory: 32 bytes per term of a batch of 64, and 8 width / 16 groups kTokens bytes for the row sums.
// Expected: bytes = B N C (|x| + |x'| + |y| + sum |s_i|) + B ceil(N / kTokens) C (sum |g_i| + |scale| + |shift| + |weight| + |bias|), |t| being an element's
//   bytes and 0 where absent; the second part is served by the caches. FLOPs 2 n B N C + 10 B N C with a layer norm. Limited by HBM: no GPU has run it yet.
//   A float32 row is loaded and stored as two 16-byte halves 32 bytes apart, so each of those instructions uses half of its sectors, the next one the rest.
// Edge cases: any C up to 8192; rows that are not 16-byte aligned, or C not a multiple of 8, go element by element; tokens past N are masked;
//   more than kMaxChainTerms terms are added in several passes through a float32 sum (ops_chain.cpp).
// Bank conflicts: none; the row sums are read as broadcasts.
// Twin: kernels/ref/norm.cpp, ref_chain.
// Not supported: float16 and float64 operands, C > 8192.
#pragma once
#include "chain.h"
#include "elements.cuh"

namespace ecad::cuda {

// kFast: every operand is wide and every slot bfloat16, so loads of several terms are in flight at once.
template <int kTokens_, bool kFast_, int kTerms_>
struct ChainConfig {
  static constexpr int kTokens = kTokens_, kTerms = kTerms_;
  static constexpr bool kFast = kFast_;
  static constexpr int kUnroll = kTokens == 1 ? 4 : 2;
  static constexpr int kBatch = 64;            // terms whose addresses are in shared memory at a time
  static constexpr uint32_t kHalfTable = kBatch * 16;  // first slot and gate addresses, then token strides and element types
  static uint32_t smem_bytes(int width, int groups) { return 2 * kHalfTable + 2u * static_cast<uint32_t>(width / 16 * groups * kTokens) * 4u; }
};

namespace chain {

// Where a thread stands.
struct Place {
  int token, count;  // first token and how many of its kTokens exist
  int column, lanes; // first channel and how many of 8 exist
  bool wide;
};

ECAD_DEVICE int64_t words(uint32_t low, uint32_t high) { return static_cast<int64_t>(static_cast<uint64_t>(high) << 32 | low); }
ECAD_DEVICE const char* address(uint32_t low, uint32_t high) { return reinterpret_cast<const char*>(words(low, high)); }

template <class Config>
ECAD_DEVICE void load_rows(const char* p, int64_t token_bytes, Elem elem, const Place& at, float (&v)[Config::kTokens][kVector]) {
  ECAD_UNROLL
  for (int r = 0; r < Config::kTokens; ++r)
    if (r < at.count) load_vector(p + r * token_bytes, elem, at.wide, at.lanes, v[r]);
}

template <class Config>
ECAD_DEVICE void store_rows(char* p, int64_t token_bytes, Elem elem, const Place& at, const float (&v)[Config::kTokens][kVector]) {
  ECAD_UNROLL
  for (int r = 0; r < Config::kTokens; ++r)
    if (r < at.count) store_vector(p + r * token_bytes, elem, at.wide, at.lanes, v[r]);
}

// Row sums over `parts` half warps, of kTokens values each. `area` holds groups * parts * kTokens floats and is not written again before the
// next barrier but one.
template <class Config>
ECAD_DEVICE void row_sums(float (&v)[Config::kTokens], uint32_t area, int group, int groups, int parts, int thread) {
  constexpr int R = Config::kTokens;
  ECAD_UNROLL
  for (int offset = 8; offset > 0; offset /= 2) {
    ECAD_UNROLL
    for (int r = 0; r < R; ++r) v[r] += ptx::shfl_xor(v[r], static_cast<uint32_t>(offset));
  }
  const int half = thread / 16;  // half warps follow each other along the row, then along the groups
  if (thread % 16 == 0 && group < groups) {
    ECAD_UNROLL
    for (int r = 0; r < R; ++r) ptx::st_shared(area + static_cast<uint32_t>(half * R + r) * 4u, v[r]);
  }
  ptx::block_sync();
  ECAD_UNROLL
  for (int r = 0; r < R; ++r) v[r] = 0.f;
  if (group >= groups) return;
  for (int part = 0; part < parts; ++part) {
    ECAD_UNROLL
    for (int r = 0; r < R; ++r) v[r] += ptx::ld_shared<float>(area + static_cast<uint32_t>((group * parts + part) * R + r) * 4u);
  }
}

// acc += gate * slot for kUnroll terms from `term` on. table: shared memory, as filled by chain_kernel.
template <class Config, int kTerms>
ECAD_DEVICE void add_terms(uint32_t table, int term, const Place& at, float (&acc)[Config::kTokens][kVector]) {
  constexpr int R = Config::kTokens;
  ptx::u32x4 raw[kTerms][R];
  const char* gates[kTerms];
  Elem gate_elems[kTerms];
  ECAD_UNROLL
  for (int u = 0; u < kTerms; ++u) {
    const uint32_t entry = table + static_cast<uint32_t>(term + u) * 16;
    const auto a = ptx::ld_shared<ptx::u32x4>(entry), b = ptx::ld_shared<ptx::u32x4>(entry + Config::kHalfTable);
    const int64_t token_bytes = words(b.x, b.y);
    const char* slot = address(a.x, a.y);
    gates[u] = address(a.z, a.w);
    gate_elems[u] = static_cast<Elem>(b.w);
    slot += at.token * token_bytes + at.column * 2;
    ECAD_UNROLL
    for (int r = 0; r < R; ++r) raw[u][r] = ptx::ld_global_nc_if<ptx::u32x4, ptx::Cache::kNoL1>(slot + r * token_bytes, r < at.count);
  }
  ECAD_UNROLL
  for (int u = 0; u < kTerms; ++u) {
    float gate[kVector] = {1.f, 1.f, 1.f, 1.f, 1.f, 1.f, 1.f, 1.f};
    if (gates[u] != nullptr) load_vector(gates[u] + at.column * elem_bytes(gate_elems[u]), gate_elems[u], true, kVector, gate);
    ECAD_UNROLL
    for (int r = 0; r < R; ++r) {
      float s[kVector];
      unpack_bf16(raw[u][r], s);
      ECAD_UNROLL
      for (int i = 0; i < kVector; ++i) acc[r][i] += gate[i] * s[i];
    }
  }
}

// The same for one term of any element types and alignment.
template <class Config>
ECAD_DEVICE void add_term(uint32_t table, int term, const Place& at, float (&acc)[Config::kTokens][kVector]) {
  const uint32_t entry = table + static_cast<uint32_t>(term) * 16;
  const auto a = ptx::ld_shared<ptx::u32x4>(entry), b = ptx::ld_shared<ptx::u32x4>(entry + Config::kHalfTable);
  const Elem slot_elem = static_cast<Elem>(b.z), gate_elem = static_cast<Elem>(b.w);
  const int64_t token_bytes = words(b.x, b.y);
  const char* slot = address(a.x, a.y) + at.token * token_bytes + at.column * elem_bytes(slot_elem);
  const char* gate_at = address(a.z, a.w);
  float gate[kVector] = {1.f, 1.f, 1.f, 1.f, 1.f, 1.f, 1.f, 1.f};
  if (gate_at != nullptr) load_vector(gate_at + at.column * elem_bytes(gate_elem), gate_elem, at.wide, at.lanes, gate);
  for (int r = 0; r < Config::kTokens; ++r) {
    if (r >= at.count) continue;
    float s[kVector];
    load_vector(slot + r * token_bytes, slot_elem, at.wide, at.lanes, s);
    ECAD_UNROLL
    for (int i = 0; i < kVector; ++i) acc[r][i] += gate[i] * s[i];
  }
}

// acc becomes norm(acc). Every thread of the block takes part; those without a row or column hold zeros.
template <class Config>
ECAD_DEVICE void normalise(float (&acc)[Config::kTokens][kVector], const Place& at, Norm norm, float eps, int cols, uint32_t area, int group, int groups, int width, int thread) {
  constexpr int R = Config::kTokens;
  const int parts = width / 16;
  const float inverse = 1.f / static_cast<float>(cols);
  float sum[R];
  if (norm == Norm::kLayer) {
    ECAD_UNROLL
    for (int r = 0; r < R; ++r) {
      sum[r] = 0.f;
      ECAD_UNROLL
      for (int i = 0; i < kVector; ++i) sum[r] += acc[r][i];
    }
    row_sums<Config>(sum, area, group, groups, parts, thread);
    ECAD_UNROLL
    for (int r = 0; r < R; ++r) {
      ECAD_UNROLL
      for (int i = 0; i < kVector; ++i) acc[r][i] -= i < at.lanes ? sum[r] * inverse : 0.f;
    }
  }
  ECAD_UNROLL
  for (int r = 0; r < R; ++r) {
    sum[r] = 0.f;
    ECAD_UNROLL
    for (int i = 0; i < kVector; ++i) sum[r] += acc[r][i] * acc[r][i];
  }
  row_sums<Config>(sum, area + static_cast<uint32_t>(groups * parts * R) * 4u, group, groups, parts, thread);
  ECAD_UNROLL
  for (int r = 0; r < R; ++r) {
    const float scale = 1.f / sqrtf(sum[r] * inverse + eps);
    ECAD_UNROLL
    for (int i = 0; i < kVector; ++i) acc[r][i] *= scale;
  }
}

// acc = acc (* weight + bias) (* (1 + scale) + shift), whichever are there.
template <class Config, class Params>
ECAD_DEVICE void modulate(float (&acc)[Config::kTokens][kVector], const Params& p, const Place& at, int sample) {
  const auto load = [&](const SampleView& view, float (&v)[kVector]) {
    load_vector(resolve<const char>(p.head.frame, view.ref) + sample * view.batch + at.column * elem_bytes(view.elem), view.elem, at.wide, at.lanes, v);
  };
  const auto apply = [&](const SampleView& factor_view, float one, const SampleView& term_view) {
    float factor[kVector] = {}, term[kVector] = {};
    if (factor_view.present) load(factor_view, factor);
    if (term_view.present) load(term_view, term);
    ECAD_UNROLL
    for (int r = 0; r < Config::kTokens; ++r) {
      ECAD_UNROLL
      for (int i = 0; i < kVector; ++i) acc[r][i] = acc[r][i] * (one + factor[i]) + term[i];
    }
  };
  if (p.weight.present || p.bias.present) apply(p.weight, p.weight.present ? 0.f : 1.f, p.bias);
  if (p.scale.present) apply(p.scale, 1.f, p.shift);
}

}  // namespace chain

template <class Config>
ECAD_KERNEL chain_kernel(ECAD_PARAMS(ChainParams<Config::kTerms>) p) {
  using namespace chain;
  constexpr int R = Config::kTokens;
  enter(p.head);
  const int thread = static_cast<int>(ptx::thread_id()), sample = static_cast<int>(ptx::block_y());
  const int group = thread / p.width, column = thread % p.width * kVector;
  const int first = (static_cast<int>(ptx::block_x()) * p.groups + group) * R;
  Place at;
  at.token = first;
  at.column = column;
  at.lanes = p.cols - column < kVector ? (p.cols > column ? p.cols - column : 0) : kVector;
  at.count = group >= p.groups || at.lanes == 0 || first >= p.tokens ? 0 : p.tokens - first < R ? p.tokens - first : R;
  at.wide = Config::kFast || p.wide != 0;
  const uint32_t table = ptx::smem_base(), area = table + 2 * Config::kHalfTable;

  float acc[R][kVector] = {};
  load_rows<Config>(resolve<const char>(p.head.frame, p.x.ref) + sample * p.x.batch + at.token * p.x.token + column * elem_bytes(p.x.elem), p.x.token, p.x.elem, at, acc);
  for (int base = 0; base < p.num_terms; base += Config::kBatch) {
    const int n = p.num_terms - base < Config::kBatch ? p.num_terms - base : Config::kBatch;
    if (base > 0) ptx::block_sync();
    for (int i = thread; i < n; i += static_cast<int>(ptx::block_threads())) {
      const ChainTerm& term = p.terms[base + i];
      const uint64_t slot = reinterpret_cast<uint64_t>(resolve<const char>(p.head.frame, term.slot.ref) + sample * term.slot.batch);
      const uint64_t gate = term.gate.present ? reinterpret_cast<uint64_t>(resolve<const char>(p.head.frame, term.gate.ref) + sample * term.gate.batch) : 0;
      const uint32_t entry = table + static_cast<uint32_t>(i) * 16;
      ptx::st_shared(entry, ptx::u32x4{static_cast<uint32_t>(slot), static_cast<uint32_t>(slot >> 32), static_cast<uint32_t>(gate), static_cast<uint32_t>(gate >> 32)});
      const auto stride = static_cast<uint64_t>(term.slot.token);
      ptx::st_shared(entry + Config::kHalfTable, ptx::u32x4{static_cast<uint32_t>(stride), static_cast<uint32_t>(stride >> 32), static_cast<uint32_t>(term.slot.elem), static_cast<uint32_t>(term.gate.elem)});
    }
    ptx::block_sync();
    if (at.count == 0) continue;
    int term = 0;
    if constexpr (Config::kFast) {
      for (; term + Config::kUnroll <= n; term += Config::kUnroll) add_terms<Config, Config::kUnroll>(table, term, at, acc);
      for (; term < n; ++term) add_terms<Config, 1>(table, term, at, acc);
    } else {
      for (; term < n; ++term) add_term<Config>(table, term, at, acc);
    }
  }
  if (p.sum.present)
    store_rows<Config>(resolve<char>(p.head.frame, p.sum.ref) + sample * p.sum.batch + at.token * p.sum.token + column * elem_bytes(p.sum.elem), p.sum.token, p.sum.elem, at, acc);
  if (!p.y.present) return;
  if (p.norm != Norm::kNone) normalise<Config>(acc, at, p.norm, p.eps, p.cols, area, group, p.groups, p.width, thread);
  if (at.count == 0) return;
  modulate<Config>(acc, p, at, sample);
  store_rows<Config>(resolve<char>(p.head.frame, p.y.ref) + sample * p.y.batch + at.token * p.y.token + column * elem_bytes(p.y.elem), p.y.token, p.y.elem, at, acc);
}

}  // namespace ecad::cuda
