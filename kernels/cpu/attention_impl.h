// Flash attention over packed keys and values. Compiled once per instruction set, see simd.h.
//
// Packed keys: blocks of kBlockKeys keys, each [dim][kBlockKeys], so that a vector holds one coordinate of W keys. Packed values: [keys][dim padded to W].
// In the dot16 form an element is a pair of bfloat16: two coordinates of a key, two keys of a value column (the pairs that a dot-product
// instruction, or a row of an AMX tile, takes). Padding is zero; padded keys get the score -infinity.
#pragma once

namespace ecad {
namespace ECAD_SIMD_NAMESPACE {

// Register tile: kRows rows by up to kVectors vectors of accumulators leave room for one row of the right factor and a broadcast.
constexpr int kRows = 4;
#if ECAD_SIMD_LEVEL >= 2
constexpr int kVectors = 5, kKeyVectors = 4, kBlocksInTile = 2;
#else
constexpr int kVectors = 3, kKeyVectors = 3, kBlocksInTile = ECAD_SIMD_LEVEL == 1 ? 5 : 10;
#endif
constexpr float kLog2E = 1.44269504088896341f;
constexpr int64_t kBlockKeys = kKeyVectors * W, kTileKeys = kBlocksInTile * kBlockKeys, kTileRows = 32, kValueRows = 64;
static_assert(kTileRows % kRows == 0 && kTileKeys % 2 == 0, "tiles hold whole register tiles and whole pairs");

inline int64_t pad_to(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

struct MulF32 {
  using Element = float;
  static ECAD_INLINE vf madd(const float* a, vf b, vf c) { return fma(set(*a), b, c); }
  static ECAD_INLINE vf right(const float* b) { return load(b); }
};
#if ECAD_SIMD_LEVEL >= 3
struct MulBF16Pairs {
  using Element = uint32_t;
  static ECAD_INLINE vf madd(const uint32_t* a, vf b, vf c) {
    return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(*a))), reinterpret_cast<__m512bh>(b));
  }
  static ECAD_INLINE vf right(const uint32_t* b) { return _mm512_castsi512_ps(_mm512_loadu_si512(b)); }
};
#endif

// c [kRows, N vectors] = c * factor[row] (nothing when factor is null) + a [kRows, depth] b [depth, N vectors]. Strides in elements.
template <class Mul, int N>
void multiply(const typename Mul::Element* a, int64_t a_stride, const typename Mul::Element* b, int64_t b_stride, float* c, int64_t c_stride,
              int64_t depth, const float* factor) {
  vf acc[kRows][N];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) acc[r][j] = factor ? load(c + r * c_stride + j * W) * set(factor[r]) : zero();
  for (int64_t k = 0; k < depth; ++k) {
    vf right[N];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) right[j] = Mul::right(b + k * b_stride + j * W);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) acc[r][j] = Mul::madd(a + r * a_stride + k, right[j], acc[r][j]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) store(c + r * c_stride + j * W, acc[r][j]);
}

template <class Mul>
void multiply_wide(const typename Mul::Element* a, int64_t a_stride, const typename Mul::Element* b, int64_t b_stride, float* c,
                   int64_t c_stride, int64_t depth, const float* factor, int64_t vectors) {
  while (vectors > 0) {
    // 8 vectors go as 4 + 4, 6 as 3 + 3: an even cut keeps every accumulator group wide
    int64_t now = vectors;
    if (vectors > kVectors) {
      const int64_t parts = (vectors + kVectors - 1) / kVectors;
      now = (vectors + parts - 1) / parts;
    }
    switch (now) {
      case 1: multiply<Mul, 1>(a, a_stride, b, b_stride, c, c_stride, depth, factor); break;
      case 2: multiply<Mul, 2>(a, a_stride, b, b_stride, c, c_stride, depth, factor); break;
      case 3: multiply<Mul, 3>(a, a_stride, b, b_stride, c, c_stride, depth, factor); break;
#if ECAD_SIMD_LEVEL >= 2
      case 4: multiply<Mul, 4>(a, a_stride, b, b_stride, c, c_stride, depth, factor); break;
      case 5: multiply<Mul, 5>(a, a_stride, b, b_stride, c, c_stride, depth, factor); break;
#endif
      default: break;
    }
    vectors -= now;
    b += now * W;
    c += now * W;
  }
}

size_t attention_packed_bytes(int64_t keys, int64_t dim, bool dot16, size_t* k_bytes) {
  const int64_t depth = dot16 ? (dim + 1) / 2 : dim, value_rows = dot16 ? (keys + 1) / 2 : keys;
  *k_bytes = static_cast<size_t>(pad_to(keys, kBlockKeys) * depth) * 4;
  return *k_bytes + static_cast<size_t>(value_rows * pad_to(dim, W)) * 4;
}

#if ECAD_SIMD_LEVEL >= 2
// 16 x 16 elements of 4 bytes; r[i] is row i.
inline void transpose(vi* r) {
  vi t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {  // r[i + j], 128-bit lane l: rows i..i+3 of column 4 l + j
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const vi even = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88), odd = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd);
    const vi even2 = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88), odd2 = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);
    r[j] = _mm512_shuffle_i32x4(even, even2, 0x88);
    r[4 + j] = _mm512_shuffle_i32x4(odd, odd2, 0x88);
    r[8 + j] = _mm512_shuffle_i32x4(even, even2, 0xdd);
    r[12 + j] = _mm512_shuffle_i32x4(odd, odd2, 0xdd);
  }
}

// Keys in blocks: element(j, e) is a vector of elements e.. of key j, zeros past the last of `depth`.
template <class E, class Element>
void pack_keys(int64_t keys, int64_t depth, E* kp, const Element& element) {
  for (int64_t j0 = 0; j0 < keys; j0 += kBlockKeys, kp += kBlockKeys * depth)
    for (int64_t j = 0; j < kBlockKeys; j += W)
      for (int64_t e = 0; e < depth; e += W) {
        vi r[W];
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) r[i] = j0 + j + i < keys ? element(j0 + j + i, e) : _mm512_setzero_si512();
        transpose(r);
        for (int64_t i = 0; i < std::min<int64_t>(W, depth - e); ++i) _mm512_storeu_si512(kp + (e + i) * kBlockKeys + j, r[i]);
      }
}
#endif

template <class T>
void pack_f32(const void* k, int64_t k_stride, const void* v, int64_t v_stride, int64_t keys, int64_t dim, float* kp, float* vp) {
  const int64_t width = pad_to(dim, W);
#if ECAD_SIMD_LEVEL >= 2
  pack_keys(keys, dim, kp, [&](int64_t j, int64_t d) {
    return _mm512_castps_si512(get<T>(k, j * k_stride + d, static_cast<int>(std::min<int64_t>(W, dim - d))));
  });
#else
  for (int64_t j0 = 0; j0 < keys; j0 += kBlockKeys, kp += kBlockKeys * dim) {
    const int64_t here = std::min(kBlockKeys, keys - j0);
    for (int64_t j = 0; j < here; ++j)
      for (int64_t d = 0; d < dim; d += W) {
        float lanes[W];
        const int m = static_cast<int>(std::min<int64_t>(W, dim - d));
        store(lanes, get<T>(k, (j0 + j) * k_stride + d, m));
        for (int i = 0; i < m; ++i) kp[(d + i) * kBlockKeys + j] = lanes[i];
      }
    if (here < kBlockKeys)
      for (int64_t d = 0; d < dim; ++d) std::fill(kp + d * kBlockKeys + here, kp + (d + 1) * kBlockKeys, 0.f);
  }
#endif
  if (!vp) return;
  for (int64_t j = 0; j < keys; ++j)
    for (int64_t d = 0; d < width; d += W) store(vp + j * width + d, get<T>(v, j * v_stride + d, static_cast<int>(std::min<int64_t>(W, dim - d))));
}

#if ECAD_SIMD_LEVEL >= 3
// Elements e..e+31 of a row of bfloat16, zeros past the last of dim.
inline vi load_pairs(const void* row, int64_t e, int64_t dim) {
  const char* p = static_cast<const char*>(row) + 2 * e;
  return dim - e >= 2 * W ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16(static_cast<__mmask32>((uint32_t{1} << (dim - e)) - 1), p);
}

void pack_pairs(const void* k, int64_t k_stride, const void* v, int64_t v_stride, int64_t keys, int64_t dim, uint32_t* kp, uint32_t* vp) {
  const int64_t width = pad_to(dim, W);
  pack_keys(keys, (dim + 1) / 2, kp, [&](int64_t j, int64_t pair) { return load_pairs(static_cast<const char*>(k) + 2 * j * k_stride, 2 * pair, dim); });
  for (int64_t j = 0; j < keys; j += 2, vp += width) {
    const char *low = static_cast<const char*>(v) + 2 * j * v_stride, *high = low + 2 * v_stride;
    for (int64_t d = 0; d < width; d += W) {
      const __mmask16 m = first(static_cast<int>(std::min<int64_t>(W, dim - d)));
      vi pair = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, low + 2 * d));
      if (j + 1 < keys) pair = _mm512_or_si512(pair, _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, high + 2 * d)), 16));
      _mm512_storeu_si512(vp + d, pair);
    }
  }
}
#endif

void attention_pack(const void* k, DType kt, int64_t k_stride, const void* v, DType vt, int64_t v_stride, int64_t keys, int64_t dim, bool dot16,
                    void* packed_k, void* packed_v) {
#if ECAD_SIMD_LEVEL >= 3
  if (dot16) return pack_pairs(k, k_stride, v, v_stride, keys, dim, static_cast<uint32_t*>(packed_k), static_cast<uint32_t*>(packed_v));
#endif
  (void)dot16;
  float *kp = static_cast<float*>(packed_k), *vp = static_cast<float*>(packed_v);
  if (kt == vt) {
    ECAD_WITH_TYPE(kt, T, pack_f32<T>(k, k_stride, v, v_stride, keys, dim, kp, vp))
    return;
  }
  // keys and values of different types
  const int64_t width = pad_to(dim, W);
  for (int64_t j = 0; j < keys; ++j) {
    float* out = vp + j * width;
    ECAD_WITH_TYPE(vt, T, unary_row<T, F32, Act::kNone>(row(v, j * v_stride, T{}), out, dim))
    std::fill(out + dim, out + width, 0.f);
  }
  ECAD_WITH_TYPE(kt, T, pack_f32<T>(k, k_stride, nullptr, 0, keys, dim, kp, nullptr))
}

size_t attention_scratch(int64_t dim) {
  return static_cast<size_t>(kTileRows * (pad_to(dim, 16) + 2 * kTileKeys + pad_to(dim, W) + 4)) * 4;
}

// One row of scores (keys valid of cols) becomes weights: in place, or as bfloat16 at pairs. maximum (in units of log2), total and the factor for
// what was accumulated so far are brought up to date. Weights are powers of two: scale and bias come multiplied by log2 e.
template <class Bias, class P>
void softmax_row(float* s, int64_t valid, int64_t cols, float scale, const void* bias, void* weights, float* maximum, float* total, float* factor) {
  const vf lowest = set(-INFINITY);
  vf top = lowest;
  int64_t i = 0;
  if (bias || scale < 0) {  // otherwise the largest score is the largest product
    for (; i < valid; i += W) {
      const int m = static_cast<int>(std::min<int64_t>(W, valid - i));
      vf x = load(s + i) * set(scale);
      if (bias) x = fma(get<Bias>(bias, i, m), set(kLog2E), x);
      store(s + i, x);
      top = max(top, m < W ? keep(x, m, lowest) : x);
    }
    scale = 1.f;
  } else {
    for (; i + W <= valid; i += W) top = max(top, load(s + i));
    if (i < valid) top = max(top, keep(load(s + i), static_cast<int>(valid - i), lowest));
    top = top * set(scale);
  }
  const float highest = std::max(*maximum, biggest(top));
  const float reference = highest == -INFINITY ? 0.f : highest;
  const vf sc = set(scale), minus = set(-reference);
  vf sum_now = zero();
  for (i = 0; i + W <= valid; i += W) {
    const vf e = exp2(fma(load(s + i), sc, minus));
    sum_now = sum_now + e;
    put<P>(weights, i, e);
  }
  if (i < valid) {
    const int m = static_cast<int>(valid - i);
    const vf e = keep(exp2(fma(load(s + i), sc, minus)), m, zero());
    sum_now = sum_now + e;
    put<P>(weights, i, e);
    i += W;
  }
  for (; i < cols; i += W) put<P>(weights, i, zero());
  float carry[W];
  store(carry, exp2(set(*maximum - reference)));
  *factor = carry[0];
  *total = *total * carry[0] + sum(sum_now);
  *maximum = highest;
}

template <class Mul>
void attention_tile(const AttentionTile& t) {
  using E = typename Mul::Element;
  constexpr bool kPairs = sizeof(E) == 4 && !std::is_same<E, float>::value;
  const int64_t depth = kPairs ? (t.dim + 1) / 2 : t.dim, width = pad_to(t.dim, W), rows = t.rows, padded = pad_to(rows, kRows);
  E* q = static_cast<E*>(t.scratch);
  float* s = reinterpret_cast<float*>(q + kTileRows * pad_to(t.dim, 16));
  E* p = kPairs ? reinterpret_cast<E*>(s + kTileRows * kTileKeys) : reinterpret_cast<E*>(s);
  float* o = s + 2 * kTileRows * kTileKeys;
  float *maximum = o + kTileRows * width, *total = maximum + kTileRows, *factor = total + kTileRows;
  for (int64_t r = 0; r < padded; ++r) {
    maximum[r] = -INFINITY;
    total[r] = 0.f;
    factor[r] = 1.f;
    E* to = q + r * depth;
    if (r >= rows) {
      std::fill(to, to + depth, E{});
    } else if constexpr (kPairs) {
      to[depth - 1] = 0;  // an odd last element is paired with zero
      std::memcpy(to, static_cast<const char*>(t.q) + 2 * r * t.q_stride, static_cast<size_t>(2 * t.dim));
    } else {
      ECAD_WITH_TYPE(t.q_dtype, T, unary_row<T, F32, Act::kNone>(row(t.q, r * t.q_stride, T{}), to, t.dim))
    }
  }
  const int64_t last = t.causal_row >= 0 ? std::min(t.keys, t.causal_row + rows) : t.keys;
  constexpr int64_t p_stride = kPairs ? kTileKeys / 2 : kTileKeys;
  const float ones[kRows] = {1.f, 1.f, 1.f, 1.f};
  const E *kp = static_cast<const E*>(t.packed_k), *vp = static_cast<const E*>(t.packed_v);
  for (int64_t j0 = 0; j0 < last; j0 += kTileKeys) {
    const int64_t here = std::min(kTileKeys, last - j0), cols = pad_to(here, W);
    for (int64_t b = 0; b < cols; b += kBlockKeys)
      for (int64_t r = 0; r < padded; r += kRows)
        multiply_wide<Mul>(q + r * depth, depth, kp + (j0 + b) * depth, kBlockKeys, s + r * kTileKeys + b, kTileKeys, depth, nullptr,
                           std::min<int64_t>(kKeyVectors, (cols - b) / W));
    for (int64_t r = 0; r < rows; ++r) {
      float* line = s + r * kTileKeys;
      const int64_t valid = t.causal_row >= 0 ? std::min(here, std::max<int64_t>(0, t.causal_row + r + 1 - j0)) : here;
      const DType bt = t.bias ? t.bias_dtype : DType::kF32;
      using P = std::conditional_t<kPairs, BF16, F32>;
      ECAD_WITH_TYPE(bt, B, softmax_row<B, P>(line, valid, cols, t.scale * kLog2E, t.bias ? row(t.bias, r * t.bias_stride + j0, B{}) : nullptr,
                                              p + r * p_stride, maximum + r, total + r, factor + r))
    }
    // values in parts that fit the first-level cache while all rows pass over them
    const int64_t value_depth = kPairs ? (here + 1) / 2 : here;
    const E* values = vp + (kPairs ? j0 / 2 : j0) * width;
    for (int64_t d = 0; d < value_depth; d += kValueRows)
      for (int64_t r = 0; r < padded; r += kRows)
        multiply_wide<Mul>(p + r * p_stride + d, p_stride, values + d * width, width, o + r * width, width, std::min(kValueRows, value_depth - d),
                           d ? ones : j0 ? factor + r : nullptr, width / W);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const float inverse = 1.f / total[r];
    ECAD_WITH_TYPE(t.y_dtype, Y, affine_row<F32, Y, false, false, false>(o + r * width, 0.f, inverse, nullptr, nullptr,
                                                                        at(t.y, t.y_dtype, r * t.y_stride), t.dim))
  }
}

void attention(const AttentionTile& t, bool dot16) {
#if ECAD_SIMD_LEVEL >= 3
  if (dot16) return attention_tile<MulBF16Pairs>(t);
#endif
  (void)dot16;
  attention_tile<MulF32>(t);
}

}  // namespace ECAD_SIMD_NAMESPACE
}  // namespace ecad
