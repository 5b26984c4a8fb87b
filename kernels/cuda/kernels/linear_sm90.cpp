#include "linear_sm90.h"

namespace ecad::cuda {

int32_t linear_sample_rows(const LinearParams& p, size_t parts) {
  int32_t rows = p.m;
  for (size_t i = 0; i < parts; ++i) {
    const RowLayout& r = p.parts[i].rows;
    if (r.inner == p.m) continue;
    if (static_cast<int64_t>(r.inner) * r.middle != p.m || (rows != p.m && rows != r.inner)) return 0;
    rows = r.inner;
  }
  return rows;
}

TensorMapDesc linear_x_map(const void* x, const LinearPart& part, int64_t m, int64_t sample_rows, int32_t tile_m) {
  const int64_t row = m > 1 ? part.rows.inner_stride : (part.k + 7) / 8 * 8;  // of one row, and of one sample, any stride will do
  TensorMapDesc d;
  d.rank = 3;
  d.base = x;
  d.dims[0] = static_cast<uint64_t>(part.k);
  d.dims[1] = static_cast<uint64_t>(sample_rows);
  d.dims[2] = static_cast<uint64_t>(m / sample_rows);
  d.strides[0] = static_cast<uint64_t>(2 * row);
  d.strides[1] = static_cast<uint64_t>(2 * (part.rows.inner == sample_rows && sample_rows < m ? part.rows.middle_stride : row * sample_rows));
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

const LinearSm90Variant& choose_linear_sm90(bool gated, bool f32_y, int64_t m, int64_t n, int32_t multiprocessors, int64_t samples) {
  return cheapest_linear(gated ? linear_sm90_gated(f32_y) : linear_sm90_plain(f32_y), m, n, multiprocessors, samples);
}

Status launch_linear_sm90(StreamHandle stream, const LinearSm90Variant& v, LinearSm90Params q, int32_t multiprocessors) {
  LinearParams& p = q.linear;
  p.tiles_m = p.m / q.sample_rows * ((q.sample_rows + v.tile_m - 1) / v.tile_m);
  p.tiles_n = (p.n + v.tile_n - 1) / v.tile_n;
  return v.launch(stream, q, std::min(multiprocessors, p.tiles_m * p.tiles_n));
}

}  // namespace ecad::cuda
