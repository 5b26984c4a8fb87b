#include "matrix.h"

#include "fragments.h"
#include "ops.h"

namespace ecad::cuda::emu {
namespace {

struct MatrixArgs {
  u32* r;
  u32 count;
  bool transposed;
  u32 address;
  Site site;
};
struct MmaArgs {
  float* d;
  const u32* a;
  u32 b0, b1, k;
};

// Row addresses of all matrices, checked; false: at least one is wrong.
bool row_addresses(Machine& m, Warp& w, const char* what, u32* out) {
  bool good = true;
  const auto* first = static_cast<const MatrixArgs*>(w.lanes[0].args);
  for (u32 i = 0; i < 8 * first->count; ++i) {
    const auto* a = static_cast<const MatrixArgs*>(w.lanes[i].args);
    good &= m.shared_ok(a->address, 16, a->site, what);
    out[i] = a->address;
  }
  return good;
}

}  // namespace

void run_ldmatrix(Machine& m, Warp& w) {
  const auto first = *static_cast<const MatrixArgs*>(w.lanes[0].args);
  u32 rows[32];
  if (!row_addresses(m, w, "ldmatrix row", rows)) {
    for (u32 i = 0; i < 32; ++i) std::memset(static_cast<MatrixArgs*>(w.lanes[i].args)->r, 0xff, 4 * first.count);
    return;
  }
  m.count_rows(first.site, rows, 8 * first.count);
  for (u32 i = 0; i < 8 * first.count; ++i) m.generic_read(w.lanes[i], rows[i], 16, kAnyLane, first.site);
  for (u32 q = 0; q < first.count; ++q) {
    u16 matrix[8][8];
    for (u32 r = 0; r < 8; ++r) std::memcpy(matrix[r], m.shared(rows[8 * q + r]), 16);
    for (u32 i = 0; i < 32; ++i) {
      const Element low = matrix_8x8(i, 0), high = matrix_8x8(i, 1);
      static_cast<MatrixArgs*>(w.lanes[i].args)->r[q] =
          first.transposed ? matrix[low.col][low.row] | u32{matrix[high.col][high.row]} << 16 : matrix[low.row][low.col] | u32{matrix[high.row][high.col]} << 16;
    }
  }
}

void run_stmatrix(Machine& m, Warp& w) {
  const auto first = *static_cast<const MatrixArgs*>(w.lanes[0].args);
  u32 rows[32];
  if (!row_addresses(m, w, "stmatrix row", rows)) return;
  m.count_rows(first.site, rows, 8 * first.count);
  for (u32 i = 0; i < 8 * first.count; ++i) m.generic_write(w.lanes[i], rows[i], 16, kAnyLane, first.site);
  for (u32 i = 0; i < 32; ++i)  // every lane's registers go out: its own fence must cover them
    if (!w.lanes[i].first_unfenced) w.lanes[i].first_unfenced = w.time;
  for (u32 q = 0; q < first.count; ++q) {
    u16 matrix[8][8];
    for (u32 i = 0; i < 32; ++i)
      for (u32 v = 0; v < 2; ++v) {
        const Element e = matrix_8x8(i, v);
        (first.transposed ? matrix[e.col][e.row] : matrix[e.row][e.col]) = half_of(static_cast<MatrixArgs*>(w.lanes[i].args)->r[q], v);
      }
    for (u32 r = 0; r < 8; ++r) std::memcpy(m.shared(rows[8 * q + r]), matrix[r], 16);
  }
}

// d += a b: products of bfloat16 are exact in float32; the sums run over k in order.
void run_mma(Machine& m, Warp& w) {
  const u32 k = static_cast<const MmaArgs*>(w.lanes[0].args)->k;
  float a[16][16], b[16][8], d[16][8];
  for (u32 i = 0; i < 32; ++i) {
    const auto& args = *static_cast<const MmaArgs*>(w.lanes[i].args);
    for (u32 v = 0; v < k / 2; ++v) {
      const Element e = mma_a(i, v);
      a[e.row][e.col] = bf16_value(half_of(args.a[v / 2], v % 2));
    }
    for (u32 v = 0; v < k / 4; ++v) {
      const Element e = mma_b(i, v);
      b[e.row][e.col] = bf16_value(half_of(v < 2 ? args.b0 : args.b1, v % 2));
    }
    for (u32 v = 0; v < 4; ++v) {
      const Element e = mma_c(i, v);
      d[e.row][e.col] = args.d[v];
    }
  }
  for (u32 r = 0; r < 16; ++r)
    for (u32 j = 0; j < k; ++j)
      for (u32 c = 0; c < 8; ++c) d[r][c] += a[r][j] * b[j][c];
  for (u32 i = 0; i < 32; ++i) {
    const auto& args = *static_cast<const MmaArgs*>(w.lanes[i].args);
    for (u32 v = 0; v < 4; ++v) {
      const Element e = mma_c(i, v);
      args.d[v] = d[e.row][e.col];
    }
  }
  m.report()->counters.macs += 16 * 8 * k;
}

// ---- what kernels call ---------------------------------------------------------------------------------------------------

void op::ldmatrix(u32* r, u32 count, bool transposed, u32 address, Site site) {
  MatrixArgs a = {r, count, transposed, address, site};
  machine->collective(Collective::kLdmatrix, site, &a);
}

void op::stmatrix(const u32* r, u32 count, bool transposed, u32 address, Site site) {
  MatrixArgs a = {const_cast<u32*>(r), count, transposed, address, site};
  machine->collective(Collective::kStmatrix, site, &a);
}

void op::mma(float* d, const u32* a, u32 b0, u32 b1, u32 k, Site site) {
  MmaArgs args = {d, a, b0, b1, k};
  machine->collective(Collective::kMma, site, &args);
}

}  // namespace ecad::cuda::emu
