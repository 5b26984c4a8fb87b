// Opcodes that only move elements: copy, permute, unpatchify, upsample. Integers move as bytes.
#include "ref.h"

namespace ecad {
namespace {

// y[i] = x[from(i)] for every element index i of y, row-major; from gives an element index into x's storage.
template <class From>
void move_elements(const RefOp& r, From from) {
  const DType to = r.out(0).dtype, type = r.dtype(0);
  const size_t size = dtype_size(to);
  const char* x = static_cast<const char*>(r.data(0));
  char* y = static_cast<char*>(r.out_data(0));
  int64_t next = 0;
  RefOp::each(r.out(0), [&](int64_t at) {
    const int64_t source = from(next++);
    if (to == type) std::memmove(y + static_cast<size_t>(at) * size, x + static_cast<size_t>(source) * size, size);
    else store_element(y, to, at, load_element(x, type, source));
  });
}

int64_t element(const Tensor& t, int64_t a, int64_t b, int64_t c, int64_t d) { return a * t.strides[0] + b * t.strides[1] + c * t.strides[2] + d * t.strides[3]; }

// The four indices of the row-major position i.
std::array<int64_t, 4> unravel(const Tensor& t, int64_t i) {
  std::array<int64_t, 4> index;
  for (size_t d = 4; d-- > 0;) {
    index[d] = i % t.dims[d];
    i /= t.dims[d];
  }
  return index;
}

}  // namespace

template <class A>
Status ref_copy(const RefOp& r) {
  move_elements(r, [&](int64_t i) {
    const auto at = unravel(r.out(0), i);
    return element(r.in(0), at[0], at[1], at[2], at[3]);
  });
  return Status::ok();
}

// y.dims[i] = x.dims[perm[i]]
template <class A>
Status ref_permute(const RefOp& r) {
  move_elements(r, [&](int64_t i) {
    const auto at = unravel(r.out(0), i);
    std::array<int64_t, 4> from{};
    for (size_t d = 0; d < 4; ++d) from[static_cast<size_t>(r.op.attr[d])] = at[d];
    return element(r.in(0), from[0], from[1], from[2], from[3]);
  });
  return Status::ok();
}

// y[b, c, P row + p, P col + q] = x[b, row (W / P) + col, place of (p, q, c)]
template <class A>
Status ref_unpatchify(const RefOp& r) {
  const int64_t patch = r.op.attr[0], channels = r.op.attr[2], across = r.out(0).dims[3] / patch;
  const bool channel_last = r.op.attr[1] == 0;
  move_elements(r, [&](int64_t i) {
    const auto [b, c, row, col] = unravel(r.out(0), i);
    const int64_t p = row % patch, q = col % patch;
    const int64_t place = channel_last ? (p * patch + q) * channels + c : (c * patch + p) * patch + q;
    return b * r.in(0).strides[0] + (row / patch * across + col / patch) * r.in(0).strides[1] + place;
  });
  return Status::ok();
}

// y[b, i, j, c] = x[b, i / f, j / f, c]
template <class A>
Status ref_upsample(const RefOp& r) {
  const int64_t f = r.op.attr[0];
  move_elements(r, [&](int64_t i) {
    const auto [b, row, col, c] = unravel(r.out(0), i);
    return element(r.in(0), b, row / f, col / f, c);
  });
  return Status::ok();
}

ECAD_REF_INSTANTIATE(ref_copy);
ECAD_REF_INSTANTIATE(ref_permute);
ECAD_REF_INSTANTIATE(ref_unpatchify);
ECAD_REF_INSTANTIATE(ref_upsample);

}  // namespace ecad
