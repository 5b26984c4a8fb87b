// Rows: conversion, activations, chains with norm and modulation, group norm. Compiled once per instruction set, see simd.h.
#pragma once

namespace ecad {
namespace ECAD_SIMD_NAMESPACE {

// Runs the statement with T bound to the storage type of dtype.
#define ECAD_WITH_TYPE(dtype, T, ...)                              \
  switch (dtype) {                                                 \
    case DType::kBF16: { using T = BF16; __VA_ARGS__; break; }     \
    case DType::kF16: { using T = F16; __VA_ARGS__; break; }       \
    default: { using T = F32; __VA_ARGS__; break; }                \
  }

#define ECAD_WITH_ACT(act, A, ...)                                                         \
  switch (act) {                                                                           \
    case Act::kGeluTanh: { constexpr Act A = Act::kGeluTanh; __VA_ARGS__; break; }         \
    case Act::kGeluErf: { constexpr Act A = Act::kGeluErf; __VA_ARGS__; break; }           \
    case Act::kSilu: { constexpr Act A = Act::kSilu; __VA_ARGS__; break; }                 \
    case Act::kQuickGelu: { constexpr Act A = Act::kQuickGelu; __VA_ARGS__; break; }       \
    case Act::kRelu: { constexpr Act A = Act::kRelu; __VA_ARGS__; break; }                 \
    default: { constexpr Act A = Act::kNone; __VA_ARGS__; break; }                         \
  }

template <class X, class Y, Act A>
void unary_row(const void* x, void* y, int64_t n) {
  int64_t i = 0;
  for (; i + W <= n; i += W) put<Y>(y, i, activate<A>(get<X>(x, i)));
  if (i < n) put<Y>(y, i, activate<A>(get<X>(x, i, static_cast<int>(n - i))), static_cast<int>(n - i));
}

void convert(const void* x, DType xt, void* y, DType yt, int64_t n) {
  if (xt == yt) {
    if (x != y) std::memcpy(y, x, static_cast<size_t>(n) * (xt == DType::kF32 ? 4 : 2));
    return;
  }
  ECAD_WITH_TYPE(xt, X, ECAD_WITH_TYPE(yt, Y, unary_row<X, Y, Act::kNone>(x, y, n)))
}

void unary(const void* x, DType xt, void* y, DType yt, int64_t n, Act act) {
  ECAD_WITH_ACT(act, A, ECAD_WITH_TYPE(xt, X, ECAD_WITH_TYPE(yt, Y, unary_row<X, Y, A>(x, y, n))))
}

template <class T>
ECAD_INLINE vf get_step(const void* p, int64_t i, int step, int n) {
  return step ? get<T>(p, i, n) : set(sum(get<T>(p, 0, 1)));
}

template <class A, class B, class Y>
void add_row(const void* a, int a_step, const void* b, int b_step, void* y, int64_t n) {
  int64_t i = 0;
  for (; i + W <= n; i += W) put<Y>(y, i, get_step<A>(a, i, a_step, W) + get_step<B>(b, i, b_step, W));
  const int m = static_cast<int>(n - i);
  if (m > 0) put<Y>(y, i, get_step<A>(a, i, a_step, m) + get_step<B>(b, i, b_step, m), m);
}

void add(const void* a, DType at, int a_step, const void* b, DType bt, int b_step, void* y, DType yt, int64_t n) {
  ECAD_WITH_TYPE(at, A, ECAD_WITH_TYPE(bt, B, ECAD_WITH_TYPE(yt, Y, add_row<A, B, Y>(a, a_step, b, b_step, y, n))))
}

template <class Y, Act A>
void glu_row(const float* g, const float* u, void* y, int64_t n) {
  int64_t i = 0;
  for (; i + W <= n; i += W) put<Y>(y, i, activate<A>(load(g + i)) * load(u + i));
  const int m = static_cast<int>(n - i);
  if (m > 0) put<Y>(y, i, activate<A>(load(g + i, m)) * load(u + i, m), m);
}

void glu(const float* g, const float* u, void* y, DType yt, int64_t n, Act act) {
  ECAD_WITH_ACT(act, A, ECAD_WITH_TYPE(yt, Y, glu_row<Y, A>(g, u, y, n)))
}

// ---- chain -------------------------------------------------------------------------------------------------------

// An absent gate is 1, which leaves the sum to the bit what it is without.
template <class S, class G, int K>
ECAD_INLINE void add_terms_at(float* acc, const void* const* s, const RowsPtr* t, int64_t i, int n) {
  vf a = load(acc + i, n);
  for (int k = 0; k < K; ++k) {
    const void* gate = t[2 * k + 1].data;
    a = fma(gate ? get<G>(gate, i, n) : set(1.f), get<S>(s[k], i, n), a);
  }
  store(acc + i, a, n);
}

// acc += sum over K terms of g s, in order; one pass over the accumulators for K terms. Terms lie far apart in memory: the `next` K are fetched meanwhile.
template <class S, class G, int K>
void add_terms(const ChainRows& c, const RowsPtr* t, int next) {
  for (int64_t r = 0; r < c.rows; ++r) {
    float* acc = c.scratch + r * c.cols;
    const void* s[K];
    for (int k = 0; k < K; ++k) s[k] = t[2 * k].row(r).data;
    int64_t i = 0;
    if (next == K) {
      const void* ahead[K];
      for (int k = 0; k < K; ++k) ahead[k] = t[2 * (K + k)].row(r).data;
      for (; i + W <= c.cols; i += W) {
        for (int k = 0; k < K; ++k) __builtin_prefetch(row(ahead[k], i, S{}));
        add_terms_at<S, G, K>(acc, s, t, i, W);
      }
    }
    for (; i + W <= c.cols; i += W) add_terms_at<S, G, K>(acc, s, t, i, W);
    if (i < c.cols) add_terms_at<S, G, K>(acc, s, t, i, static_cast<int>(c.cols - i));
  }
}

template <class S, class G>
void add_group(const ChainRows& c, const RowsPtr* t, int count, int next) {
  switch (count) {
    case 4: add_terms<S, G, 4>(c, t, next); break;
    case 3: add_terms<S, G, 3>(c, t, next); break;
    case 2: add_terms<S, G, 2>(c, t, next); break;
    default: add_terms<S, G, 1>(c, t, next); break;
  }
}

// How many of the first n terms, at most 4, have one type of s and one of g. Some may have no gate: cross-attention has none.
int same_types(const RowsPtr* t, int n, DType* gate) {
  bool gated = false;
  int k = 0;
  for (; k < std::min(4, n) && t[2 * k].dtype == t->dtype; ++k) {
    const RowsPtr& g = t[2 * k + 1];
    if (!g.data) continue;
    if (gated && g.dtype != *gate) break;
    gated = true;
    *gate = g.dtype;
  }
  return k;
}

void add_all_terms(const ChainRows& c) {
  for (int32_t k = 0; k < c.num_terms;) {
    const RowsPtr* t = c.terms + 2 * k;
    DType gate = DType::kF32, other;
    const int count = same_types(t, c.num_terms - k, &gate), next = same_types(t + 2 * count, c.num_terms - k - count, &other);
    ECAD_WITH_TYPE(t->dtype, S, ECAD_WITH_TYPE(gate, G, add_group<S, G>(c, t, count, next)))
    k += count;
  }
}

float row_sum(const float* p, int64_t n) {
  vf a = zero(), b = zero();
  int64_t i = 0;
  for (; i + 2 * W <= n; i += 2 * W) {
    a = a + load(p + i);
    b = b + load(p + i + W);
  }
  if (i + W <= n) { a = a + load(p + i); i += W; }
  if (i < n) b = b + load(p + i, static_cast<int>(n - i));
  return sum(a + b);
}

// Sum of (p - mean)^2.
float row_squares(const float* p, float mean, int64_t n) {
  const vf m = set(mean);
  vf a = zero(), b = zero();
  int64_t i = 0;
  for (; i + 2 * W <= n; i += 2 * W) {
    const vf d = load(p + i) - m, e = load(p + i + W) - m;
    a = fma(d, d, a);
    b = fma(e, e, b);
  }
  if (i + W <= n) { const vf d = load(p + i) - m; a = fma(d, d, a); i += W; }
  if (i < n) {
    const int k = static_cast<int>(n - i);
    const vf d = keep(load(p + i, k) - m, k, zero());
    b = fma(d, d, b);
  }
  return sum(a + b);
}

// y = (v - mean) * rstd (* (1 + m) or * m) + a: m multiplies, a adds; either may be absent.
template <class M, class Y, bool kMul, bool kOnePlus, bool kAdd>
ECAD_INLINE void affine_at(const float* v, vf mean, vf rstd, const void* m, const void* a, void* y, int64_t i, int n) {
  const vf one = set(kOnePlus ? 1.f : 0.f);
  vf x = (load(v + i, n) - mean) * rstd;
  if constexpr (kMul && kAdd) x = fma(x, get<M>(m, i, n) + one, get<M>(a, i, n));
  else if constexpr (kMul) x = x * (get<M>(m, i, n) + one);
  else if constexpr (kAdd) x = x + get<M>(a, i, n);
  put<Y>(y, i, x, n);
}
template <class M, class Y, bool kMul, bool kOnePlus, bool kAdd>
void affine_row(const float* v, float mean, float rstd, const void* m, const void* a, void* y, int64_t n) {
  const vf mu = set(mean), r = set(rstd);
  int64_t i = 0;
  for (; i + W <= n; i += W) affine_at<M, Y, kMul, kOnePlus, kAdd>(v, mu, r, m, a, y, i, W);
  if (i < n) affine_at<M, Y, kMul, kOnePlus, kAdd>(v, mu, r, m, a, y, i, static_cast<int>(n - i));
}

template <bool kOnePlus>
void affine(const float* v, float mean, float rstd, RowPtr m, RowPtr a, void* y, DType yt, int64_t n) {
  if (m.data && a.data && m.dtype != a.dtype) {  // rare: two passes, the first in place in float32
    float* tmp = const_cast<float*>(v);
    ECAD_WITH_TYPE(m.dtype, M, affine_row<M, F32, true, kOnePlus, false>(v, mean, rstd, m.data, nullptr, tmp, n))
    ECAD_WITH_TYPE(a.dtype, M, ECAD_WITH_TYPE(yt, Y, affine_row<M, Y, false, false, true>(tmp, 0.f, 1.f, nullptr, a.data, y, n)))
  } else if (m.data && a.data) {
    ECAD_WITH_TYPE(m.dtype, M, ECAD_WITH_TYPE(yt, Y, affine_row<M, Y, true, kOnePlus, true>(v, mean, rstd, m.data, a.data, y, n)))
  } else if (m.data) {
    ECAD_WITH_TYPE(m.dtype, M, ECAD_WITH_TYPE(yt, Y, affine_row<M, Y, true, kOnePlus, false>(v, mean, rstd, m.data, nullptr, y, n)))
  } else if (a.data) {
    ECAD_WITH_TYPE(a.dtype, M, ECAD_WITH_TYPE(yt, Y, affine_row<M, Y, false, false, true>(v, mean, rstd, nullptr, a.data, y, n)))
  } else {
    ECAD_WITH_TYPE(yt, Y, affine_row<F32, Y, false, false, false>(v, mean, rstd, nullptr, nullptr, y, n))
  }
}

// What follows the sum: norm and modulation of one row v, in place or into y.
void chain_norm(const ChainRows& c, float* v, void* y) {
  float mean = 0.f, rstd = 1.f;
  const float n = static_cast<float>(c.cols);
  if (c.norm == Norm::kLayer) mean = row_sum(v, c.cols) / n;
  if (c.norm != Norm::kNone) rstd = 1.f / std::sqrt(row_squares(v, mean, c.cols) / n + c.eps);
  if ((c.weight.data || c.bias.data) && c.scale.data) {
    affine<false>(v, mean, rstd, c.weight, c.bias, v, DType::kF32, c.cols);
    affine<true>(v, 0.f, 1.f, c.scale, c.shift, y, c.y_dtype, c.cols);
  } else if (c.scale.data) {
    affine<true>(v, mean, rstd, c.scale, c.shift, y, c.y_dtype, c.cols);
  } else {
    affine<false>(v, mean, rstd, c.weight, c.bias, y, c.y_dtype, c.cols);
  }
}

void chain(const ChainRows& c) {
  for (int64_t r = 0; r < c.rows; ++r) convert(c.x.row(r).data, c.x.dtype, c.scratch + r * c.cols, DType::kF32, c.cols);
  add_all_terms(c);
  for (int64_t r = 0; r < c.rows; ++r) {
    float* v = c.scratch + r * c.cols;
    if (c.sum) convert(v, DType::kF32, static_cast<char*>(c.sum) + r * c.sum_step, c.sum_dtype, c.cols);
    if (c.y) chain_norm(c, v, static_cast<char*>(c.y) + r * c.y_step);
  }
}

// ---- queries and keys --------------------------------------------------------------------------------------------

template <class X>
float head_squares(const void* x, int64_t n) {
  vf a = zero(), b = zero();
  int64_t i = 0;
  for (; i + 2 * W <= n; i += 2 * W) {
    const vf c = get<X>(x, i), d = get<X>(x, i + W);
    a = fma(c, c, a);
    b = fma(d, d, b);
  }
  for (; i < n; i += W) {
    const vf c = get<X>(x, i, static_cast<int>(std::min<int64_t>(W, n - i)));
    a = fma(c, c, a);
  }
  return sum(a + b);
}

template <class X, class Y>
void norm_rope_row(const void* x, void* y, int64_t heads, int64_t dim, const float* weight, const float* rope, float eps) {
  for (int64_t h = 0; h < heads; ++h) {
    const void* head = row(x, h * dim, X{});
    void* out = row(y, h * dim, Y{});
    const vf r = set(1.f / std::sqrt(head_squares<X>(head, dim) / static_cast<float>(dim) + eps));
    int64_t i = 0;
    for (; i + W <= dim; i += W) put<Y>(out, i, rotate(get<X>(head, i) * r * load(weight + i), load(rope + i)));
    const int n = static_cast<int>(dim - i);
    if (n > 0) put<Y>(out, i, rotate(get<X>(head, i, n) * r * load(weight + i, n), load(rope + i, n)), n);
  }
}

void norm_rope(const void* x, DType xt, void* y, DType yt, int64_t heads, int64_t dim, const float* weight, const float* rope, float eps) {
  ECAD_WITH_TYPE(xt, X, ECAD_WITH_TYPE(yt, Y, norm_rope_row<X, Y>(x, y, heads, dim, weight, rope, eps)))
}

// ---- group norm --------------------------------------------------------------------------------------------------

template <class X>
ECAD_INLINE void channel_sums_at(const void* x, int64_t stride, int64_t count, int64_t c, int n, float* shift, float* total, float* square) {
  const vf s = get<X>(x, c, n);
  vf a = zero(), b = zero();
  for (int64_t p = 0; p < count; ++p) {
    const vf d = get<X>(x, p * stride + c, n) - s;
    a = a + d;
    b = fma(d, d, b);
  }
  store(shift + c, s, n);
  store(total + c, a, n);
  store(square + c, b, n);
}
template <class X>
void channel_sums_of(const void* x, int64_t stride, int64_t count, int64_t channels, float* shift, float* total, float* square) {
  int64_t c = 0;
  for (; c + W <= channels; c += W) channel_sums_at<X>(x, stride, count, c, W, shift, total, square);
  if (c < channels) channel_sums_at<X>(x, stride, count, c, static_cast<int>(channels - c), shift, total, square);
}

void channel_sums(const void* x, DType xt, int64_t stride, int64_t count, int64_t channels, float* shift, float* total, float* square) {
  ECAD_WITH_TYPE(xt, X, channel_sums_of<X>(x, stride, count, channels, shift, total, square))
}

template <class X, class Y, Act A>
ECAD_INLINE void normalize_at(const void* x, const float* mean, const float* factor, const float* bias, void* y, int64_t i, int n) {
  put<Y>(y, i, activate<A>(fma(get<X>(x, i, n) - load(mean + i, n), load(factor + i, n), load(bias + i, n))), n);
}
template <class X, class Y, Act A>
void normalize_row(const void* x, const float* mean, const float* factor, const float* bias, void* y, int64_t n) {
  int64_t i = 0;
  for (; i + W <= n; i += W) normalize_at<X, Y, A>(x, mean, factor, bias, y, i, W);
  if (i < n) normalize_at<X, Y, A>(x, mean, factor, bias, y, i, static_cast<int>(n - i));
}

void normalize(const void* x, DType xt, const float* mean, const float* factor, const float* bias, void* y, DType yt, int64_t n, Act act) {
  ECAD_WITH_ACT(act, A, ECAD_WITH_TYPE(xt, X, ECAD_WITH_TYPE(yt, Y, normalize_row<X, Y, A>(x, mean, factor, bias, y, n))))
}

}  // namespace ECAD_SIMD_NAMESPACE
}  // namespace ecad
