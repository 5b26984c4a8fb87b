// Tensors as rows: how kernels walk strided views.
#pragma once
#include <algorithm>
#include <cstdint>

#include "../core/program.h"
#include "../core/view.h"

namespace ecad {

// A tensor as n rows of cols adjacent elements. Leading dims are merged where their strides allow; at most three levels remain.
struct Rows {
  int64_t cols = 1, n = 1;
  int32_t levels = 0;
  int64_t dims[3] = {1, 1, 1}, strides[3] = {0, 0, 0};  // outermost first

  Rows() = default;
  // The last `inner` dims become the columns; they must be dense among themselves.
  explicit Rows(const Tensor& t, uint32_t inner = 1) {
    for (uint32_t i = t.rank - std::min(inner, t.rank); i < t.rank; ++i) cols *= t.dims[i];
    for (uint32_t i = 0; i + inner < t.rank; ++i) push(t.dims[i], t.strides[i]);
  }

  // Element offset of row r.
  int64_t offset(int64_t r) const {
    if (levels == 1) return r * strides[0];
    int64_t at = 0;
    for (int32_t l = levels - 1; l >= 0; --l) {
      at += r % dims[l] * strides[l];
      r /= dims[l];
    }
    return at;
  }
  // Rows from r on, r included, that follow each other at stride step().
  int64_t run(int64_t r) const { return levels == 0 ? 1 : dims[levels - 1] - r % dims[levels - 1]; }
  int64_t step() const { return levels == 0 ? cols : strides[levels - 1]; }

 private:
  void push(int64_t dim, int64_t stride) {
    n *= dim;
    if (dim == 1) return;
    if (levels > 0 && strides[levels - 1] == stride * dim) {
      dims[levels - 1] *= dim;
      strides[levels - 1] = stride;
      return;
    }
    dims[levels] = dim;
    strides[levels++] = stride;
  }
};

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// base + elements of type t.
inline char* at(const void* base, DType t, int64_t elements) {
  return static_cast<char*>(const_cast<void*>(base)) + elements * static_cast<int64_t>(dtype_size(t));
}

}  // namespace ecad
