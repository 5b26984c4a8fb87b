// Host side of linear_sm90.cuh.
#pragma once
#include "../tensor_map.h"
#include "linear.h"

namespace ecad::cuda {

struct LinearSm90Params {
  TensorMap x_maps[kLinearParts];  // of operands with fixed addresses
  TensorMap w_map;
  LinearParams linear;
  Ref x_table[kLinearParts];       // where the maps of other operands are
  int32_t x_in_table[kLinearParts];
  int32_t parts;
  int32_t sample_rows;             // rows of x at one distance; after so many a sample begins, which no tile crosses. m: there is one
};

struct LinearSm90Variant {
  int32_t tile_m, tile_n;
  Status (*launch)(StreamHandle, const LinearSm90Params&, int32_t blocks);
};
struct LinearSm90Variants {
  const LinearSm90Variant* first;
  int32_t count;
};
LinearSm90Variants linear_sm90_plain(bool f32_y);
LinearSm90Variants linear_sm90_gated(bool f32_y);
LinearSm90Variants linear_sm90_heads(int64_t head_dim);  // bfloat16 y; none for other head dims than 64 and 128
template <int N>
LinearSm90Variants sm90_variants_of(const LinearSm90Variant (&table)[N]) {
  return {table, N};
}

// The sample_rows that all inputs allow; 0: a tensor map describes no such rows.
int32_t linear_sample_rows(const LinearParams&, size_t parts);
// What encodes to x_maps[i] and w_map for a variant.
TensorMapDesc linear_x_map(const void* x, const LinearPart&, int64_t m, int64_t sample_rows, int32_t tile_m);
TensorMapDesc linear_w_map(const void* weights, int64_t n, int64_t k_tiles, int32_t tile_n);

const LinearSm90Variant& choose_linear_sm90(bool gated, bool f32_y, int64_t m, int64_t n, int32_t multiprocessors, int64_t samples = 1);
// q holds everything but the tiles.
Status launch_linear_sm90(StreamHandle, const LinearSm90Variant&, LinearSm90Params q, int32_t multiprocessors);

}  // namespace ecad::cuda
