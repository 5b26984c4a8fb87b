// The inner loops of the cpu backend: functions over single rows and tiles, one table per instruction set.
//
// Rows are adjacent elements of storage type f32, bf16 or f16, at any alignment. Arithmetic is float32, results are rounded once. What a function
// computes for an element does not depend on where a caller cuts rows apart.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../core/program.h"
#include "cpuid.h"

namespace ecad {

struct RowPtr {
  const void* data = nullptr;  // null: absent
  DType dtype = DType::kF32;
};

// Rows at one stride: row r starts `step` bytes after row r - 1; 0: one row for all.
struct RowsPtr {
  const void* data = nullptr;  // null: absent
  DType dtype = DType::kF32;
  int64_t step = 0;
  RowPtr row(int64_t r) const { return {static_cast<const char*>(data) + r * step, dtype}; }
};

// Some rows of a residual chain, of one sample: gates, scale and the like are shared by them. The terms are added to all rows before the next ones are,
// so that each slot is read in long runs and each gate once.
struct ChainRows {
  int64_t rows, cols;
  RowsPtr x;
  const RowsPtr* terms;  // s_1, g_1, s_2, g_2, ...; g may be absent
  int32_t num_terms;
  void* sum;             // x': null when not wanted
  DType sum_dtype;
  int64_t sum_step;      // bytes
  void* y;               // null when not wanted
  DType y_dtype;
  int64_t y_step;
  Norm norm;
  float eps;
  RowPtr weight, bias, scale, shift;
  float* scratch;        // rows x cols floats
};

// Softmax attention of one head over one tile of queries. Keys and values were packed by attention_pack. Flash style: keys come in tiles, running
// maximum and sum per query, so that scores of one tile are all that is held.
struct AttentionTile {
  const void* q;        // first query row of the tile, this head's columns
  DType q_dtype;
  int64_t q_stride;     // elements
  int64_t rows;         // at most attention_rows()
  int64_t dim, keys;    // head dim; keys that count (at least 1)
  const void *packed_k, *packed_v;
  float scale;
  const void* bias;     // this head's bias at the tile's first query, null: none
  DType bias_dtype;
  int64_t bias_stride;
  int64_t causal_row;   // index of the first query: key j counts for query i when j <= i. -1: not causal
  void* y;
  DType y_dtype;
  int64_t y_stride;
  void* scratch;        // attention_scratch(dim) bytes
};

struct RowKernels {
  void (*convert)(const void* x, DType xt, void* y, DType yt, int64_t n);
  void (*unary)(const void* x, DType xt, void* y, DType yt, int64_t n, Act);
  // steps 0: the operand is one element for the whole row
  void (*add)(const void* a, DType at, int a_step, const void* b, DType bt, int b_step, void* y, DType yt, int64_t n);
  // y = act(g) * u
  void (*glu)(const float* g, const float* u, void* y, DType yt, int64_t n, Act);
  void (*chain)(const ChainRows&);
  // The heads of one token: rms norm over dim (even), times weight [dim], then pairs of adjacent elements rotated: rope [dim] holds cosine and sine of
  // each. y may be x.
  void (*norm_rope)(const void* x, DType xt, void* y, DType yt, int64_t heads, int64_t dim, const float* weight, const float* rope, float eps);

  // Per channel over `count` pixels at x (stride elements apart): shift = the first pixel, sum of (x - shift), sum of its square.
  void (*channel_sums)(const void* x, DType xt, int64_t stride, int64_t count, int64_t channels, float* shift, float* sum, float* square);
  // y = act((x - mean) * factor + bias), per channel
  void (*normalize)(const void* x, DType xt, const float* mean, const float* factor, const float* bias, void* y, DType yt, int64_t channels, Act);

  // attention: dot16 says whether products of bfloat16 pairs are used (bfloat16 inputs on hardware that has them).
  bool has_dot16;
  size_t (*attention_packed_bytes)(int64_t keys, int64_t dim, bool dot16, size_t* k_bytes);
  // k, v: this head's columns of the first key; strides in elements.
  void (*attention_pack)(const void* k, DType kt, int64_t k_stride, const void* v, DType vt, int64_t v_stride, int64_t keys, int64_t dim,
                         bool dot16, void* packed_k, void* packed_v);
  void (*attention)(const AttentionTile&, bool dot16);
  int64_t attention_rows;  // queries in a tile
  size_t (*attention_scratch)(int64_t dim);
};

const RowKernels& row_kernels_generic();
#if defined(__x86_64__)
const RowKernels& row_kernels_avx2();
const RowKernels& row_kernels_avx512();
const RowKernels& row_kernels_avx512_bf16();
#endif

inline const RowKernels& row_kernels(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::kAvx2: return row_kernels_avx2();
    case Isa::kAvx512: return row_kernels_avx512();
    case Isa::kAvx512Bf16: return row_kernels_avx512_bf16();
    case Isa::kGeneric: break;
  }
#endif
  (void)isa;
  return row_kernels_generic();
}

}  // namespace ecad
