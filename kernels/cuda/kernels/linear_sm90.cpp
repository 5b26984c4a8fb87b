#include "linear_sm90.h"

#include <algorithm>

namespace ecad::cuda {

TensorMapDesc linear_x_map(const void* x, const LinearPart& part, int64_t m, int32_t tile_m) {
  TensorMapDesc d;
  d.base = x;
  d.dims[0] = static_cast<uint64_t>(part.k);
  d.dims[1] = static_cast<uint64_t>(m);
  d.strides[0] = static_cast<uint64_t>(m > 1 ? 2 * part.rows.inner_stride : (2 * part.k + 15) / 16 * 16);  // of one row any stride will do
  d.box[0] = kLineBytes / 2;
  d.box[1] = static_cast<uint32_t>(tile_m);
  d.swizzle = Swizzle::k128;
  return d;
}

TensorMapDesc linear_w_map(const void* weights, int64_t n, int64_t k_tiles, int32_t tile_n) {
  TensorMapDesc d;
  d.base = weights;
  d.dims[0] = static_cast<uint64_t>(k_tiles * kLineBytes / 2);
  d.dims[1] = static_cast<uint64_t>(n);
  d.strides[0] = static_cast<uint64_t>(k_tiles * kLineBytes);
  d.box[0] = kLineBytes / 2;
  d.box[1] = static_cast<uint32_t>(tile_n);
  d.swizzle = Swizzle::k128;
  return d;
}

const LinearSm90Variant& choose_linear_sm90(bool gated, bool f32_y, int64_t m, int64_t n, int32_t multiprocessors) {
  const LinearSm90Variants all = gated ? linear_sm90_gated(f32_y) : linear_sm90_plain(f32_y);
  return *std::min_element(all.first, all.first + all.count, [&](const LinearSm90Variant& a, const LinearSm90Variant& b) {
    return linear_cost(a.tile_m, a.tile_n, m, n, multiprocessors) < linear_cost(b.tile_m, b.tile_n, m, n, multiprocessors);
  });
}

Status launch_linear_sm90(StreamHandle stream, const LinearSm90Variant& v, LinearSm90Params q, int32_t multiprocessors) {
  LinearParams& p = q.linear;
  p.tiles_m = (p.m + v.tile_m - 1) / v.tile_m;
  p.tiles_n = (p.n + v.tile_n - 1) / v.tile_n;
  return v.launch(stream, q, std::min(multiprocessors, p.tiles_m * p.tiles_n));
}

}  // namespace ecad::cuda
