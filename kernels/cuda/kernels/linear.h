// Host side of the products with packed weights: linear and gated linear.
//
// Packed weights are [n, k_packed], rows of the stacked matrices one after the other, dense. Along k each concatenated input begins a new line of
// 128 bytes; what is left of a line is zeros. A gated linear's two matrices alternate in groups of 8 rows (gate 0..7, up 0..7, gate 8..15, ...), the last
// group filled with zeros, so that a thread of an mma holds both results of an element.
#pragma once
#include <algorithm>
#include <cstdint>

#include "../../core/program.h"
#include "../../core/status.h"
#include "../frame.h"
#include "../launch.h"

namespace ecad::cuda {

constexpr int kLinearParts = 4;    // concatenated inputs that a launch's parameters hold
constexpr int kLineBytes = 128;    // one row of a tile of x or of packed weights in shared memory
constexpr int kGatedRows = 8;      // rows of a group of gated weights
constexpr int kLinearStreamM = 64;  // rows of x that linear_stream.cuh takes

// Where row r of an operand starts, in elements: leading dims are merged as far as their strides allow, at most three levels are left.
struct RowLayout {
  int32_t inner, middle;  // extents; the outermost needs none
  int64_t inner_stride, middle_stride, outer_stride;
};
RowLayout row_layout(const Tensor&);

struct LinearPart {
  Ref x;
  RowLayout rows;
  int32_t k;          // columns
  int32_t end_tile;   // lines of the k axis up to the end of this part
  int32_t bf16;       // x is bfloat16, not float32
  int32_t pad;
};

// Columns of y that are heads of queries and of keys: normalised and turned (qk_norm_rope.cuh) before y is rounded. Read by the kernels made for it alone
// (linear_heads.cuh).
struct LinearHeads {
  Ref weight[2];        // float32 [D], of queries and of keys
  Ref rope;             // float32 [tokens, D]
  int64_t rope_stride;  // elements from one token to the next
  int32_t first[2];     // column where they begin: a multiple of D
  int32_t width;        // columns of each, H D
  int32_t tokens;       // row r is token r % tokens
  float eps;
  int32_t pad;
};

struct LinearParams {
  Head head;
  LinearPart parts[kLinearParts];
  const void* weights;  // packed, bfloat16 or float32
  const float* bias;    // [n] or null; null for gated linears
  Ref y;
  RowLayout y_rows;
  int32_t m;
  int32_t n;        // packed rows
  int32_t columns;  // of y
  int32_t k_tiles;  // lines of the k axis
  int32_t tiles_m, tiles_n;
  int32_t act;      // Act
  int32_t wide_x;   // LinearKind::wide_x
  int32_t wide_y;   // rows of y start at multiples of 16 bytes
  LinearHeads heads;
};

// What a kernel is chosen by, besides the shape.
struct LinearKind {
  bool f32;     // products of float32 (some x is float32), else of bfloat16
  bool gated;
  bool wide_x;  // every x has the type of the products, and rows that start at multiples of 16 bytes
  bool f32_y;   // y is float32, else bfloat16
};

// A kernel and the tile of y (counted in packed rows of weights) that one of its blocks makes.
struct LinearVariant {
  int32_t tile_m, tile_n;
  Status (*launch)(StreamHandle, const LinearParams&);
};
struct LinearVariants {
  const LinearVariant* first;
  int32_t count;
};
LinearVariants linear_tiles(const LinearKind&);    // through shared memory, any m
LinearVariants linear_streams(const LinearKind&);  // weights through registers, m <= kLinearStreamM
// bfloat16 with heads among the columns, any m; none for other head dims than 64 and 128.
LinearVariants linear_mma_heads(int64_t head_dim);

// The variant for m rows and n packed rows of weights on a device of so many multiprocessors.
const LinearVariant& choose_linear(const LinearKind&, int64_t m, int64_t n, int32_t multiprocessors);
// What choose_linear compares: waves of blocks, each as long as its products and its copies take. A multiprocessor's tensor cores do tile_m tile_n
// multiply-adds about 16 times as fast as L2 delivers tile_m + tile_n elements. samples: equal parts of the rows that no tile crosses.
int64_t linear_cost(int64_t tile_m, int64_t tile_n, int64_t m, int64_t n, int64_t multiprocessors, int64_t samples = 1);
template <class Variants>
auto& cheapest_linear(const Variants& all, int64_t m, int64_t n, int64_t multiprocessors, int64_t samples = 1) {
  return *std::min_element(all.first, all.first + all.count, [&](const auto& a, const auto& b) {
    return linear_cost(a.tile_m, a.tile_n, m, n, multiprocessors, samples) < linear_cost(b.tile_m, b.tile_n, m, n, multiprocessors, samples);
  });
}
// What an op that reads and writes `bytes` of memory costs on that scale, beside a product of k columns of x: a multiprocessor multiplies and adds about a hundred times while
// its share of memory moves a byte.
int64_t memory_cost(int64_t bytes, int64_t k, int64_t multiprocessors);
// Launches it; p holds everything but the tiles.
Status launch_linear(StreamHandle, const LinearVariant&, LinearParams p);

}  // namespace ecad::cuda
