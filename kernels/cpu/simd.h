// A thin vector layer: float32 vectors of W lanes with partial loads and stores, and conversions from and to the 16-bit types. It is compiled
// once per instruction set by isa_*.cpp, which define ECAD_SIMD_LEVEL (0 generic, 1 AVX2, 2 AVX-512, 3 AVX-512 with BF16) and
// ECAD_SIMD_NAMESPACE, include every standard header first, and switch the target on around this code only: so no inline function of
// the standard library is ever compiled for a newer processor than the rest.
#pragma once

namespace ecad {
namespace ECAD_SIMD_NAMESPACE {

// Storage types as overload tags. Pointers to them are never dereferenced: loads go through memcpy or unaligned instructions.
struct F32 { static constexpr int kBytes = 4; };
struct BF16 { static constexpr int kBytes = 2; };
struct F16 { static constexpr int kBytes = 2; };

#define ECAD_INLINE inline __attribute__((always_inline))

#if ECAD_SIMD_LEVEL >= 2

constexpr int W = 16;
using vf = __m512;
using vi = __m512i;
using mask = __mmask16;

ECAD_INLINE mask first(int n) { return static_cast<mask>(n >= 16 ? 0xffffu : (1u << n) - 1u); }
ECAD_INLINE vf zero() { return _mm512_setzero_ps(); }
ECAD_INLINE vf set(float a) { return _mm512_set1_ps(a); }
ECAD_INLINE vf load(const float* p) { return _mm512_loadu_ps(p); }
ECAD_INLINE vf load(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
ECAD_INLINE void store(float* p, vf a) { _mm512_storeu_ps(p, a); }
ECAD_INLINE void store(float* p, vf a, int n) { _mm512_mask_storeu_ps(p, first(n), a); }
ECAD_INLINE vf fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
ECAD_INLINE vf fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
ECAD_INLINE vf max(vf a, vf b) { return _mm512_max_ps(a, b); }
ECAD_INLINE vf min(vf a, vf b) { return _mm512_min_ps(a, b); }
ECAD_INLINE mask less(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
ECAD_INLINE vf select(mask m, vf yes, vf no) { return _mm512_mask_blend_ps(m, no, yes); }
// Lanes 0..n-1 of a, the others of b.
ECAD_INLINE vf keep(vf a, int n, vf b) { return _mm512_mask_blend_ps(first(n), b, a); }
ECAD_INLINE vf round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
ECAD_INLINE vf scale2(vf a, vf n) { return _mm512_scalef_ps(a, n); }
// 1/a, at most 1 ulp off, for |a| from 2^-126 to 2^126: the 14 bits of the instruction and one step of Newton's.
ECAD_INLINE vf reciprocal(vf a) {
  const vf r = _mm512_rcp14_ps(a);
  return _mm512_fmadd_ps(r, _mm512_fnmadd_ps(a, r, _mm512_set1_ps(1.f)), r);
}
ECAD_INLINE vf abs(vf a) { return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffffff))); }
// Pairs of lanes (a, b) times (c, s): (a c - b s, b c + a s).
ECAD_INLINE vf rotate(vf x, vf t) { return _mm512_fmaddsub_ps(x, _mm512_moveldup_ps(t), _mm512_mul_ps(_mm512_permute_ps(x, 0xb1), _mm512_movehdup_ps(t))); }
ECAD_INLINE float sum(vf a) { return _mm512_reduce_add_ps(a); }
ECAD_INLINE float biggest(vf a) { return _mm512_reduce_max_ps(a); }

ECAD_INLINE vf widen(__m256i h) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }
#if ECAD_SIMD_LEVEL >= 3
ECAD_INLINE __m256i narrow(vf a) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(a)); }
#else
ECAD_INLINE __m256i narrow(vf a) {
  const vi u = _mm512_castps_si512(a);
  const vi odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  vi r = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd), 16);
  const vi quiet = _mm512_or_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40));
  r = _mm512_mask_mov_epi32(r, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), quiet);
  return _mm512_cvtepi32_epi16(r);
}
#endif
ECAD_INLINE vf load(const BF16* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
ECAD_INLINE vf load(const BF16* p, int n) { return widen(_mm256_maskz_loadu_epi16(first(n), p)); }
ECAD_INLINE void store(BF16* p, vf a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(a)); }
ECAD_INLINE void store(BF16* p, vf a, int n) { _mm256_mask_storeu_epi16(p, first(n), narrow(a)); }
ECAD_INLINE vf load(const F16* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
ECAD_INLINE vf load(const F16* p, int n) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p)); }
ECAD_INLINE __m256i narrow_half(vf a) { return _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
ECAD_INLINE void store(F16* p, vf a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_half(a)); }
ECAD_INLINE void store(F16* p, vf a, int n) { _mm256_mask_storeu_epi16(p, first(n), narrow_half(a)); }

#elif ECAD_SIMD_LEVEL == 1

constexpr int W = 8;
using vf = __m256;
using vi = __m256i;
using mask = __m256;

ECAD_INLINE vi first(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
ECAD_INLINE vf zero() { return _mm256_setzero_ps(); }
ECAD_INLINE vf set(float a) { return _mm256_set1_ps(a); }
ECAD_INLINE vf load(const float* p) { return _mm256_loadu_ps(p); }
ECAD_INLINE vf load(const float* p, int n) { return n >= W ? load(p) : _mm256_maskload_ps(p, first(n)); }
ECAD_INLINE void store(float* p, vf a) { _mm256_storeu_ps(p, a); }
ECAD_INLINE void store(float* p, vf a, int n) { if (n >= W) store(p, a); else _mm256_maskstore_ps(p, first(n), a); }
ECAD_INLINE vf fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
ECAD_INLINE vf fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
ECAD_INLINE vf max(vf a, vf b) { return _mm256_max_ps(a, b); }
ECAD_INLINE vf min(vf a, vf b) { return _mm256_min_ps(a, b); }
ECAD_INLINE mask less(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
ECAD_INLINE vf select(mask m, vf yes, vf no) { return _mm256_blendv_ps(no, yes, m); }
ECAD_INLINE vf keep(vf a, int n, vf b) { return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(first(n))); }
ECAD_INLINE vf round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
ECAD_INLINE vf reciprocal(vf a) { return _mm256_div_ps(_mm256_set1_ps(1.f), a); }
ECAD_INLINE vf abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.f), a); }
ECAD_INLINE vf rotate(vf x, vf t) { return _mm256_fmaddsub_ps(x, _mm256_moveldup_ps(t), _mm256_mul_ps(_mm256_permute_ps(x, 0xb1), _mm256_movehdup_ps(t))); }
ECAD_INLINE float sum(vf a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
ECAD_INLINE float biggest(vf a) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
// a * 2^n for whole n in [-252, 254], by two factors so that results below 2^-126 come out right.
ECAD_INLINE vf scale2(vf a, vf n) {
  const vi whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1), bias = _mm256_set1_epi32(127);
  const vf f1 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const vf f2 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23));
  return _mm256_mul_ps(_mm256_mul_ps(a, f1), f2);
}

ECAD_INLINE vf widen(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }
ECAD_INLINE __m128i narrow(vf a) {
  const vi u = _mm256_castps_si256(a), top = _mm256_srli_epi32(u, 16);
  const vi odd = _mm256_and_si256(top, _mm256_set1_epi32(1));
  const vi near = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd), 16);
  const vi quiet = _mm256_or_si256(top, _mm256_set1_epi32(0x40));
  const vi r = _mm256_blendv_epi8(near, quiet, _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)));
  return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}
ECAD_INLINE __m128i load16(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
ECAD_INLINE __m128i load16(const void* p, int n) {
  __m128i h = _mm_setzero_si128();
  std::memcpy(&h, p, static_cast<size_t>(2 * n));
  return h;
}
ECAD_INLINE void store16(void* p, __m128i h) { _mm_storeu_si128(static_cast<__m128i*>(p), h); }
ECAD_INLINE void store16(void* p, __m128i h, int n) { std::memcpy(p, &h, static_cast<size_t>(2 * n)); }
ECAD_INLINE vf load(const BF16* p) { return widen(load16(p)); }
ECAD_INLINE vf load(const BF16* p, int n) { return widen(load16(p, n)); }
ECAD_INLINE void store(BF16* p, vf a) { store16(p, narrow(a)); }
ECAD_INLINE void store(BF16* p, vf a, int n) { store16(p, narrow(a), n); }
ECAD_INLINE vf load(const F16* p) { return _mm256_cvtph_ps(load16(p)); }
ECAD_INLINE vf load(const F16* p, int n) { return _mm256_cvtph_ps(load16(p, n)); }
ECAD_INLINE __m128i narrow_half(vf a) { return _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
ECAD_INLINE void store(F16* p, vf a) { store16(p, narrow_half(a)); }
ECAD_INLINE void store(F16* p, vf a, int n) { store16(p, narrow_half(a), n); }

#else  // generic: GCC's vector extension, lowered to whatever the default target has

constexpr int W = 4;
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
using mask = vi;

ECAD_INLINE vf zero() { return vf{0, 0, 0, 0}; }
ECAD_INLINE vf set(float a) { return vf{a, a, a, a}; }
ECAD_INLINE vf load(const float* p) { vf v; std::memcpy(&v, p, 16); return v; }
ECAD_INLINE vf load(const float* p, int n) { vf v = zero(); std::memcpy(&v, p, static_cast<size_t>(4 * n)); return v; }
ECAD_INLINE void store(float* p, vf a) { std::memcpy(p, &a, 16); }
ECAD_INLINE void store(float* p, vf a, int n) { std::memcpy(p, &a, static_cast<size_t>(4 * n)); }
ECAD_INLINE vf fma(vf a, vf b, vf c) { return a * b + c; }
ECAD_INLINE vf fnma(vf a, vf b, vf c) { return c - a * b; }
ECAD_INLINE mask less(vf a, vf b) { return a < b; }
ECAD_INLINE vf select(mask m, vf yes, vf no) { return m ? yes : no; }
ECAD_INLINE vf keep(vf a, int n, vf b) { return select(vi{0, 1, 2, 3} < vi{n, n, n, n}, a, b); }
ECAD_INLINE vf max(vf a, vf b) { return select(a > b, a, b); }
ECAD_INLINE vf min(vf a, vf b) { return select(a < b, a, b); }
ECAD_INLINE vf round(vf a) { return (a + set(12582912.f)) - set(12582912.f); }  // |a| below 2^22
ECAD_INLINE vf reciprocal(vf a) { return set(1.f) / a; }
ECAD_INLINE vf abs(vf a) { return reinterpret_cast<vf>(reinterpret_cast<vi>(a) & vi{0x7fffffff, 0x7fffffff, 0x7fffffff, 0x7fffffff}); }
ECAD_INLINE vf rotate(vf x, vf t) {
  return vf{x[0] * t[0] - x[1] * t[1], x[1] * t[0] + x[0] * t[1], x[2] * t[2] - x[3] * t[3], x[3] * t[2] + x[2] * t[3]};
}
ECAD_INLINE float sum(vf a) { return (a[0] + a[2]) + (a[1] + a[3]); }
ECAD_INLINE float biggest(vf a) { return std::max(std::max(a[0], a[1]), std::max(a[2], a[3])); }
ECAD_INLINE vf scale2(vf a, vf n) {
  vf f1, f2;
  for (int i = 0; i < W; ++i) {
    const int32_t whole = n[i] == n[i] ? static_cast<int32_t>(n[i]) : 0, half = whole >> 1;
    f1[i] = bits_float(static_cast<uint32_t>(half + 127) << 23);
    f2[i] = bits_float(static_cast<uint32_t>(whole - half + 127) << 23);
  }
  return a * f1 * f2;
}

ECAD_INLINE uint16_t half_at(const void* p, int i) { uint16_t h; std::memcpy(&h, static_cast<const char*>(p) + 2 * i, 2); return h; }
ECAD_INLINE void put_half(void* p, int i, uint16_t h) { std::memcpy(static_cast<char*>(p) + 2 * i, &h, 2); }
ECAD_INLINE vf load(const BF16* p, int n) { vf v = zero(); for (int i = 0; i < n; ++i) v[i] = bf16_to_float(half_at(p, i)); return v; }
ECAD_INLINE vf load(const BF16* p) { return load(p, W); }
ECAD_INLINE void store(BF16* p, vf a, int n) { for (int i = 0; i < n; ++i) put_half(p, i, float_to_bf16(a[i])); }
ECAD_INLINE void store(BF16* p, vf a) { store(p, a, W); }
ECAD_INLINE vf load(const F16* p, int n) { vf v = zero(); for (int i = 0; i < n; ++i) v[i] = f16_to_float(half_at(p, i)); return v; }
ECAD_INLINE vf load(const F16* p) { return load(p, W); }
ECAD_INLINE void store(F16* p, vf a, int n) { for (int i = 0; i < n; ++i) put_half(p, i, float_to_f16(a[i])); }
ECAD_INLINE void store(F16* p, vf a) { store(p, a, W); }

#endif

// Typed row pointers: element i of a row of storage type T.
ECAD_INLINE const float* row(const void* p, int64_t i, F32) { return static_cast<const float*>(p) + i; }
template <class T> ECAD_INLINE const T* row(const void* p, int64_t i, T) {
  return reinterpret_cast<const T*>(static_cast<const char*>(p) + T::kBytes * i);
}
ECAD_INLINE float* row(void* p, int64_t i, F32) { return static_cast<float*>(p) + i; }
template <class T> ECAD_INLINE T* row(void* p, int64_t i, T) { return reinterpret_cast<T*>(static_cast<char*>(p) + T::kBytes * i); }

template <class T> ECAD_INLINE vf get(const void* p, int64_t i) { return load(row(p, i, T{})); }
template <class T> ECAD_INLINE vf get(const void* p, int64_t i, int n) { return load(row(p, i, T{}), n); }
template <class T> ECAD_INLINE void put(void* p, int64_t i, vf a) { store(row(p, i, T{}), a); }
template <class T> ECAD_INLINE void put(void* p, int64_t i, vf a, int n) { store(row(p, i, T{}), a, n); }

// ---- elementary functions ----------------------------------------------------------------------------------------

// 2^x, at most 1.5 ulp off for x above -126; 0 below -150; no upper bound is kept: x stays below 127. Cephes' exp2f on [-1/2, 1/2].
ECAD_INLINE vf exp2(vf x) {
  const vf bounded = max(set(-151.f), x), n = round(bounded), r = bounded - n;
  vf p = set(1.535336188319500e-4f);
  p = fma(p, r, set(1.339887440266574e-3f));
  p = fma(p, r, set(9.618437357674640e-3f));
  p = fma(p, r, set(5.550332471162809e-2f));
  p = fma(p, r, set(2.402264791363012e-1f));
  p = fma(p, r, set(6.931472028550421e-1f));
  return scale2(fma(p, r, set(1.f)), n);
}

// erf by the rational approximation used in Eigen and XLA on [-4, 4]; absolute error below 3e-7.
ECAD_INLINE vf erf(vf x) {
  const vf c = min(set(4.f), max(set(-4.f), x)), z = c * c;
  vf p = set(-2.72614225801306e-10f);
  p = fma(p, z, set(2.77068142495902e-08f));
  p = fma(p, z, set(-2.10102402082508e-06f));
  p = fma(p, z, set(-5.69250639462346e-05f));
  p = fma(p, z, set(-7.34990630326855e-04f));
  p = fma(p, z, set(-2.95459980854025e-03f));
  p = fma(p, z, set(-1.60960333262415e-02f));
  vf q = set(-1.45660718464996e-05f);
  q = fma(q, z, set(-2.13374055278905e-04f));
  q = fma(q, z, set(-1.68282697438203e-03f));
  q = fma(q, z, set(-7.37332916720468e-03f));
  q = fma(q, z, set(-1.42647390514189e-02f));
  return c * p / q;
}

// 1 / (1 + e^-x), not less than 2^-125.
ECAD_INLINE vf sigmoid(vf x) { return reciprocal(set(1.f) + exp2(min(set(125.f), x * set(-1.44269504088896341f)))); }

template <Act A> ECAD_INLINE vf activate(vf x) {
  if constexpr (A == Act::kGeluTanh) {  // 0.5 x (1 + tanh u) = x sigmoid(2 u)
    const vf u = x * fma(x * x, set(0.044715f), set(1.f));
    return x * sigmoid(u * set(1.5957691216057308f));
  } else if constexpr (A == Act::kGeluErf) {
    return x * set(0.5f) * (set(1.f) + erf(x * set(0.70710678118654752f)));
  } else if constexpr (A == Act::kSilu) {
    return x * sigmoid(x);
  } else if constexpr (A == Act::kQuickGelu) {
    return x * sigmoid(x * set(1.702f));
  } else if constexpr (A == Act::kRelu) {
    return max(zero(), x);
  } else {
    return x;
  }
}

}  // namespace ECAD_SIMD_NAMESPACE
}  // namespace ecad
