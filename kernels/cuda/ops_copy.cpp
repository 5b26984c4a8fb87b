#include "kernels/copy.h"

#include "op.h"

namespace ecad::cuda {
namespace {

class Copy final : public CudaOp {
 public:
  using CudaOp::CudaOp;

  Status bind(const Binder& b) {
    in_ = b.raw_input(0);
    out_ = b.raw_output(0);
    const DType from = in_.dtype, to = out_.dtype;
    if (in_.weight != nullptr) ECAD_TRY(b.pack(&in_, from));
    if (from == to && dtype_size(to) > 1) {
      kind_ = dtype_size(to) == 2 ? CopyKind::kMove2 : dtype_size(to) == 4 ? CopyKind::kMove4 : CopyKind::kMove8;
    } else if (from == DType::kF32 && to == DType::kBF16) {
      kind_ = CopyKind::kNarrow;
    } else if (from == DType::kBF16 && to == DType::kF32) {
      kind_ = CopyKind::kWiden;
    } else {
      return unsupported(std::string("copies elements of 2 bytes and more, and converts between float32 and bfloat16: not from ") + dtype_name(from) + " to " + dtype_name(to));
    }
    set_shape(*in_.tensor, *out_.tensor, from == to ? static_cast<int64_t>(16 / dtype_size(to)) : 1);
    return Status::ok();
  }

  Status enqueue(const Launch& l) override {
    params_.head = l.head;
    params_.in = in_.ref(l);
    params_.out = out_.ref(l);
    return launch_copy(l.stream->native(), kind_, vector_, params_);
  }

 private:
  // Dims from the innermost outwards, adjacent ones joined where both views allow it; then units of `unit` elements where they fit.
  void set_shape(const Tensor& x, const Tensor& y, int64_t unit) {
    struct Dim { int64_t extent, in, out; };
    std::vector<Dim> dims;
    for (size_t d = x.rank; d-- > 0;) {
      const Dim next{x.dims[d], x.strides[d], y.strides[d]};
      if (next.extent == 1) continue;
      if (!dims.empty() && next.in == dims.back().in * dims.back().extent && next.out == dims.back().out * dims.back().extent) {
        dims.back().extent *= next.extent;
      } else {
        dims.push_back(next);
      }
    }
    if (dims.empty()) dims.push_back({1, 1, 1});
    vector_ = unit > 1 && dims[0].in == 1 && dims[0].out == 1 && dims[0].extent % unit == 0 && aligned(x, unit) && aligned(y, unit);
    for (size_t d = 1; d < dims.size(); ++d) vector_ = vector_ && dims[d].in % unit == 0 && dims[d].out % unit == 0;
    if (vector_) dims[0] = {dims[0].extent / unit, unit, unit};
    params_.count = 1;
    for (size_t d = 0; d < 4; ++d) {
      const Dim dim = d < dims.size() ? dims[d] : Dim{1, 0, 0};
      if (d < 3) params_.dims[d] = dim.extent;
      params_.in_strides[d] = dim.in;
      params_.out_strides[d] = dim.out;
      params_.count *= dim.extent;
    }
  }

  // Whether the view starts on 16 bytes at every step; buffers themselves do.
  static bool aligned(const Tensor& t, int64_t unit) { return static_cast<int64_t>(t.offset) % unit == 0 && t.step_stride % unit == 0; }

  Source in_;
  Sink out_;
  CopyKind kind_ = CopyKind::kMove4;
  bool vector_ = false;
  CopyParams params_ = {};
};

}  // namespace

Status bind_copy(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<Copy>(out); }

}  // namespace ecad::cuda
