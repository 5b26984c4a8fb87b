// The reference backend: every opcode as the table of kernels/PROGRAM.md says it, in plain loops. It is the oracle for the others: it
// may be slow, it must be obviously right. Operands are read into dense arrays of the arithmetic type A (float, or double when any
// operand is float64), results are rounded once when they are stored.
#pragma once
#include <vector>

#include "../core/backend.h"
#include "../core/dtype.h"

namespace ecad {

class RefOp {
 public:
  RefOp(const Program& program, const Op& op, const WeightView* weights, const RunContext& context)
      : op(op), program_(program), weights_(weights), context_(context) {}

  bool has(size_t i) const { return op.in[i] != kNoTensor; }
  bool has_out(size_t i) const { return op.out[i] != kNoTensor; }
  const Tensor& in(size_t i) const { return program_.tensors[op.in[i]]; }
  const Tensor& out(size_t i) const { return program_.tensors[op.out[i]]; }
  const void* data(size_t i) const { return weights_[i].data != nullptr ? weights_[i].data : context_.in[i].data; }
  void* out_data(size_t i) const { return context_.out[i].data; }
  DType dtype(size_t i) const { return weights_[i].data != nullptr ? weights_[i].dtype : in(i).dtype; }

  // All elements of input i, row-major.
  template <class A>
  std::vector<A> load(size_t i) const {
    const Tensor& t = in(i);
    std::vector<A> v(static_cast<size_t>(t.count()));
    size_t next = 0;
    each(t, [&](int64_t at) { v[next++] = static_cast<A>(load_element(data(i), dtype(i), at)); });
    return v;
  }

  // Rounds v, row-major, into output i.
  template <class A>
  void store(size_t i, const std::vector<A>& v) const {
    const Tensor& t = out(i);
    size_t next = 0;
    each(t, [&](int64_t at) { store_element(out_data(i), t.dtype, at, static_cast<double>(v[next++])); });
  }

  // Element indices of a view in row-major order.
  template <class F>
  static void each(const Tensor& t, F f) {
    for (int64_t a = 0; a < t.dims[0]; ++a) {
      for (int64_t b = 0; b < t.dims[1]; ++b) {
        for (int64_t c = 0; c < t.dims[2]; ++c) {
          for (int64_t d = 0; d < t.dims[3]; ++d) f(a * t.strides[0] + b * t.strides[1] + c * t.strides[2] + d * t.strides[3]);
        }
      }
    }
  }

  const Op& op;

 private:
  const Program& program_;
  const WeightView* weights_;
  const RunContext& context_;
};

// act(x) of PROGRAM.md. GELU: Hendrycks and Gimpel 2016; SiLU is x sigmoid(x), quick GELU x sigmoid(1.702 x).
template <class A>
A activate(Act act, A x) {
  switch (act) {
    case Act::kNone: return x;
    case Act::kGeluTanh: return A(0.5) * x * (A(1) + std::tanh(A(0.7978845608028654) * (x + A(0.044715) * x * x * x)));
    case Act::kGeluErf: return A(0.5) * x * (A(1) + std::erf(x * A(0.7071067811865476)));
    case Act::kSilu: return x / (A(1) + std::exp(-x));
    case Act::kQuickGelu: return x / (A(1) + std::exp(A(-1.702) * x));
    case Act::kRelu: return x < A(0) ? A(0) : x;
  }
  return x;
}

inline Act act_of(int32_t attribute) { return static_cast<Act>(attribute); }

// One function per opcode, for A float and double.
template <class A> Status ref_copy(const RefOp&);
template <class A> Status ref_linear(const RefOp&);
template <class A> Status ref_gated_linear(const RefOp&);
template <class A> Status ref_attention(const RefOp&);
template <class A> Status ref_chain(const RefOp&);
template <class A> Status ref_patch_embed(const RefOp&);
template <class A> Status ref_unpatchify(const RefOp&);
template <class A> Status ref_timestep_embed(const RefOp&);
template <class A> Status ref_embedding(const RefOp&);
template <class A> Status ref_lincomb(const RefOp&);
template <class A> Status ref_add(const RefOp&);
template <class A> Status ref_unary(const RefOp&);
template <class A> Status ref_conv2d(const RefOp&);
template <class A> Status ref_group_norm(const RefOp&);
template <class A> Status ref_upsample(const RefOp&);
template <class A> Status ref_permute(const RefOp&);
template <class A> Status ref_qk_norm_rope(const RefOp&);

#define ECAD_REF_INSTANTIATE(name)                \
  template Status name<float>(const RefOp&);      \
  template Status name<double>(const RefOp&)

}  // namespace ecad
