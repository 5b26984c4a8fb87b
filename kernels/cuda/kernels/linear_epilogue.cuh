// What the kernels of linear.h share: row addresses, and the way of a tile of results from registers to y.
#pragma once
#include "../frame.cuh"
#include "activation.cuh"
#include "linear.h"

namespace ecad::cuda {

using ptx::u32;

ECAD_DEVICE int64_t row_offset(const RowLayout& l, int row) {
  if (row < l.inner) return row * l.inner_stride;  // one level of rows: no division
  const int outer = row / l.inner;
  return row % l.inner * l.inner_stride + outer % l.middle * l.middle_stride + outer / l.middle * l.outer_stride;
}

// Eight bfloat16 or four float32 (from bfloat16 if narrow), one by one; zeros from `count` on, which are not read.
ECAD_DEVICE ptx::u32x4 load_bf16s(const char* from, int count) {
  u32 v[4];
  ECAD_UNROLL
  for (int j = 0; j < 4; ++j)
    v[j] = ptx::ld_global_if<ptx::u16>(from + 4 * j, 2 * j < count) | static_cast<u32>(ptx::ld_global_if<ptx::u16>(from + 4 * j + 2, 2 * j + 1 < count)) << 16;
  return {v[0], v[1], v[2], v[3]};
}
ECAD_DEVICE ptx::f32x4 load_f32s(const char* from, int count, bool narrow) {
  float v[4];
  ECAD_UNROLL
  for (int j = 0; j < 4; ++j)
    v[j] = narrow ? ptx::to_f32(ptx::ld_global_if<ptx::bf16>(from + 2 * j, j < count)) : ptx::ld_global_if<float>(from + 4 * j, j < count);
  return {v[0], v[1], v[2], v[3]};
}

// sum + a b, element by element.
ECAD_DEVICE float dot4(const ptx::f32x4& a, const ptx::f32x4& b, float sum) {
  return ptx::fma_rn(a.w, b.w, ptx::fma_rn(a.z, b.z, ptx::fma_rn(a.y, b.y, ptx::fma_rn(a.x, b.x, sum))));
}

// v: columns n and n + 1 in turn.
template <int N>
ECAD_DEVICE void add_bias(const LinearParams& p, int n, float (&v)[N]) {
  if (p.bias == nullptr) return;
  const float b0 = n < p.n ? ptx::ld_global_nc<float>(p.bias + n) : 0, b1 = n + 1 < p.n ? ptx::ld_global_nc<float>(p.bias + n + 1) : 0;
  ECAD_UNROLL
  for (int i = 0; i < N; ++i) v[i] += i % 2 ? b1 : b0;
}

// Stores the 16 bytes of results at shared address `from`, of which the first `left` elements lie inside y.
template <class Y>
ECAD_DEVICE void store_chunk(Y* to, u32 from, int left, bool wide) {
  constexpr int kElements = 16 / sizeof(Y);
  if (wide && left >= kElements) {
    ptx::st_global(to, ptx::ld_shared<ptx::u32x4>(from));
    return;
  }
  for (int j = 0; j < kElements && j < left; ++j) ptx::st_global(to + j, ptx::ld_shared<Y>(from + static_cast<u32>(j * sizeof(Y))));
}

// A tile of results [TileM, Columns] in shared memory. The pitch keeps the writes of fragments (8 rows x 4 pairs of columns in a warp) and
// the reads of 16-byte chunks (8 rows x 4 chunks in a warp) free of bank conflicts.
template <class Y, int TileM, int Columns>
struct LinearStaging {
  static constexpr int Size = sizeof(Y), PerChunk = 16 / Size, Chunks = Columns / PerChunk;
  static constexpr int Pitch = Columns * Size + (Size == 2 ? 16 : 32);
  static constexpr int Bytes = TileM * Pitch;
  static_assert(Chunks % 4 == 0, "a warp stores four chunks of a row");

  // Two neighbouring columns, the first even.
  ECAD_DEVICE static void put(u32 smem, int row, int column, float v0, float v1) {
    const u32 to = smem + row * Pitch + column * Size;
    if constexpr (Size == 2) ptx::st_shared(to, ptx::pack_bf16(v0, v1));
    else ptx::st_shared(to, ptx::f32x2{v0, v1});
  }

  // Stores what lies inside y. The block must have passed a barrier since the last put.
  template <int Threads>
  ECAD_DEVICE static void store(u32 smem, const LinearParams& p, int first_row, int first_column, int thread) {
    Y* y = resolve<Y>(p.head.frame, p.y);
    const int lane = thread % 32, eighth = lane % 8, quarter = lane / 8;
    const int lane_row = Size == 2 ? eighth : eighth % 4 + quarter % 2 * 4, lane_chunk = Size == 2 ? quarter : eighth / 4 + quarter / 2 * 2;
    for (int unit = thread / 32; unit < TileM / 8 * (Chunks / 4); unit += Threads / 32) {
      const int row = unit / (Chunks / 4) * 8 + lane_row, chunk = unit % (Chunks / 4) * 4 + lane_chunk;
      const int column = first_column + chunk * PerChunk, left = p.columns - column;
      if (first_row + row >= p.m || left <= 0) continue;
      store_chunk(y + row_offset(p.y_rows, first_row + row) + column, smem + row * Pitch + 16 * chunk, left, p.wide_y);
    }
  }
};

// Tile t of the grid: bands of kBand rows of tiles, walked column by column.
struct TileAt { int m, n; };
ECAD_DEVICE TileAt tile_at(int t, int tiles_m, int tiles_n) {
  constexpr int kBand = 8;
  const int band = t / (kBand * tiles_n), first = band * kBand, height = tiles_m - first < kBand ? tiles_m - first : kBand;
  const int in_band = t - band * kBand * tiles_n;
  return {first + in_band % height, in_band / height};
}

}  // namespace ecad::cuda
