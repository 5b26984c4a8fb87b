#include "linear.h"

#include "linear_variants.h"

namespace ecad::cuda {

RowLayout row_layout(const Tensor& t) {
  // innermost first; dims of 1 vanish, neighbours whose strides fit are one level
  int64_t dims[3] = {1, 1, 1}, strides[3] = {0, 0, 0};
  int level = -1;
  for (int64_t d = static_cast<int64_t>(t.rank) - 2; d >= 0; --d) {
    const auto i = static_cast<size_t>(d);
    if (t.dims[i] == 1) continue;
    if (level >= 0 && t.strides[i] == strides[level] * dims[level]) {
      dims[level] *= t.dims[i];
    } else {
      ++level;
      dims[level] = t.dims[i];
      strides[level] = t.strides[i];
    }
  }
  return {static_cast<int32_t>(dims[0]), static_cast<int32_t>(dims[1]), strides[0], strides[1], strides[2]};
}

LinearVariants linear_tiles(const LinearKind& kind) {
  if (kind.f32) return linear_f32_variants(kind.gated, kind.wide_x, kind.f32_y);
  if (!kind.wide_x) return linear_mma_narrow_variants(kind.gated, kind.f32_y);
  return kind.gated ? linear_mma_gated_variants(kind.f32_y) : linear_mma_variants(kind.f32_y);
}

namespace {

// Streaming reads the weights once per tile_m rows: worth it while that is once, and up to four times for float32, whose tiles are slow.
constexpr int64_t kStreamM = kLinearStreamM, kStreamMF32 = 32;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The smallest tile that holds all rows; of those the widest that still gives every multiprocessor a block.
const LinearVariant& choose_stream(const LinearVariants& all, int64_t m, int64_t n, int32_t multiprocessors) {
  const LinearVariant* best = all.first;
  for (const LinearVariant* v = all.first; v != all.first + all.count; ++v) {
    const bool fits = v->tile_m >= m, best_fits = best->tile_m >= m;
    if (fits && !best_fits) best = v;
    if (fits && best_fits && v->tile_m == best->tile_m && v->tile_n < best->tile_n && ceil_div(n, best->tile_n) < multiprocessors) best = v;
  }
  return *best;
}

}  // namespace

int64_t linear_cost(int64_t tile_m, int64_t tile_n, int64_t m, int64_t n, int64_t multiprocessors, int64_t samples) {
  const int64_t waves = ceil_div(samples * ceil_div(m / samples, tile_m) * ceil_div(n, tile_n), multiprocessors);
  return waves * (tile_m * tile_n + 16 * (tile_m + tile_n));
}

int64_t memory_cost(int64_t bytes, int64_t k, int64_t multiprocessors) { return 100 * bytes / (k * multiprocessors); }

const LinearVariant& choose_linear(const LinearKind& kind, int64_t m, int64_t n, int32_t multiprocessors) {
  if (m <= (kind.f32 ? kStreamMF32 : kStreamM)) return choose_stream(linear_streams(kind), m, n, multiprocessors);
  return cheapest_linear(linear_tiles(kind), m, n, multiprocessors);
}

Status launch_linear(StreamHandle stream, const LinearVariant& v, LinearParams p) {
  p.tiles_m = static_cast<int32_t>(ceil_div(p.m, v.tile_m));
  p.tiles_n = static_cast<int32_t>(ceil_div(p.n, v.tile_n));
  return v.launch(stream, p);
}

}  // namespace ecad::cuda
