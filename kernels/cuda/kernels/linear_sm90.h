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
  int32_t parts, pad;
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
template <int N>
LinearSm90Variants sm90_variants_of(const LinearSm90Variant (&table)[N]) {
  return {table, N};
}

// What encodes to x_maps[i] and w_map for a variant.
TensorMapDesc linear_x_map(const void* x, const LinearPart&, int64_t m, int32_t tile_m);
TensorMapDesc linear_w_map(const void* weights, int64_t n, int64_t k_tiles, int32_t tile_n);

const LinearSm90Variant& choose_linear_sm90(bool gated, bool f32_y, int64_t m, int64_t n, int32_t multiprocessors);
// q holds everything but the tiles.
Status launch_linear_sm90(StreamHandle, const LinearSm90Variant&, LinearSm90Params q, int32_t multiprocessors);

}  // namespace ecad::cuda
