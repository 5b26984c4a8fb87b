// From tensors to the views that kernels are given (kernels/views.h).
#pragma once
#include "kernels/views.h"
#include "op.h"

namespace ecad::cuda {

inline Elem elem_of(DType t) { return t == DType::kF32 ? Elem::kF32 : Elem::kBF16; }

// Bytes from one index of dim d to the next; 0 where there is only one.
inline int64_t stride_bytes(const Tensor& t, uint32_t d, DType type) { return t.dims[d] > 1 ? t.strides[d] * static_cast<int64_t>(dtype_size(type)) : 0; }

// Whether the view starts at a multiple of 16 bytes at every step, and so does every row, of whole runs of `run`
// elements. Buffers themselves start at multiples of 64 bytes.
inline bool runs_aligned(const Tensor& t, DType type, int64_t run) {
  const auto size = static_cast<int64_t>(dtype_size(type));
  bool aligned = t.cols() % run == 0 && static_cast<int64_t>(t.offset) * size % 16 == 0 && t.step_stride * size % 16 == 0;
  for (uint32_t d = 0; d + 1 < t.rank; ++d) aligned = aligned && stride_bytes(t, d, type) % 16 == 0;
  return aligned;
}
inline bool wide(const Tensor& t, DType type) { return runs_aligned(t, type, kVector); }

// Tensors of weights are dense, so a packed copy has their strides.
template <class Operand>  // Source or Sink
TokenView token_view(const Operand& o) {
  if (!o.present()) return {};
  const Tensor& t = *o.tensor;
  return {{}, stride_bytes(t, 0, o.dtype), stride_bytes(t, 1, o.dtype), elem_of(o.dtype), 1, wide(t, o.dtype)};
}

inline SampleView sample_view(const Source& o) {
  if (!o.present()) return {};
  return {{}, o.tensor->rank == 2 ? stride_bytes(*o.tensor, 0, o.dtype) : 0, elem_of(o.dtype), 1};
}

// Input i for a kernel that computes: a weight is put on the device in float32.
inline Status computed_input(const Binder& b, size_t i, const char* what, Source* s) {
  ECAD_TRY(b.input(i, what, s));
  return b.pack(s, DType::kF32);
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace ecad::cuda
