// Opcodes of the image decoder: group_norm, conv2d.
#include <algorithm>

#include "../core/text.h"
#include "kernels/conv.h"
#include "operands.h"

namespace ecad::cuda {
namespace {

ImageView image_view(const Tensor& t, DType type) { return {{}, stride_bytes(t, 0, type), stride_bytes(t, 1, type), stride_bytes(t, 2, type), elem_of(type), 0}; }

Status fits(const Tensor& t) {
  if (t.dims[0] > 65535 || t.dims[0] * t.dims[1] * t.dims[2] >= int64_t{1} << 30 || t.dims[3] > 1 << 20) return unsupported(text("works on images of at most 65535 samples, 2^30 pixels and 2^20 channels: one is ", dims_text(t)));
  return Status::ok();
}

class GroupNorm final : public CudaOp {
 public:
  using CudaOp::CudaOp;

  Status bind(const Binder& b) {
    ECAD_TRY(computed_input(b, 0, "x", &x_));
    ECAD_TRY(computed_input(b, 1, "weight", &weight_));
    ECAD_TRY(computed_input(b, 2, "bias", &bias_));
    ECAD_TRY(b.output(0, "y", &y_));
    const Tensor& x = *x_.tensor;
    ECAD_TRY(fits(x));
    wide_ = wide(x, x_.dtype) && wide(*y_.tensor, y_.dtype);
    batch_ = static_cast<int32_t>(x.dims[0]);
    p_.x = image_view(x, x_.dtype);
    p_.y = image_view(*y_.tensor, y_.dtype);
    p_.weight = sample_view(weight_);
    p_.bias = sample_view(bias_);
    p_.per_value = 1 / (static_cast<double>(x.dims[1] * x.dims[2]) * static_cast<double>(x.dims[3] / b.op.attr[0]));
    p_.eps = static_cast<float>(b.op.fattr[0]);
    p_.width = static_cast<int32_t>(x.dims[2]);
    p_.pixels = static_cast<int32_t>(x.dims[1] * x.dims[2]);
    p_.channels = static_cast<int32_t>(x.dims[3]);
    p_.groups = b.op.attr[0];
    p_.act = b.op.attr[1];
    p_.vectors = wide_ ? p_.channels / kVector : p_.channels;
    p_.columns = std::min(p_.vectors, 256);
    p_.lanes = 256 / p_.columns;
    p_.piece = static_cast<int32_t>(std::max<int64_t>(std::max(kLeastPixels, p_.lanes), ceil_div(p_.pixels, kMostPieces)));
    p_.pieces = static_cast<int32_t>(ceil_div(p_.pixels, p_.piece));
    return cx_.reserve_scratch(group_norm_scratch(batch_, p_.pieces, p_.channels));
  }

  Status enqueue(const Launch& l) override {
    p_.head = l.head;
    p_.x.ref = x_.ref(l);
    p_.y.ref = y_.ref(l);
    p_.weight.ref = weight_.ref(l);
    p_.bias.ref = bias_.ref(l);
    p_.sums = static_cast<float*>(cx_.scratch());
    p_.factors = p_.sums + static_cast<int64_t>(batch_) * p_.pieces * p_.channels * 3;
    return launch_group_norm(l.stream->native(), wide_, batch_, p_);
  }

 private:
  static constexpr int32_t kLeastPixels = 32;  // of a piece: below, its three sums per channel cost more than its pixels
  static constexpr int64_t kMostPieces = 2048;

  Source x_, weight_, bias_;
  Sink y_;
  bool wide_ = false;
  int32_t batch_ = 1;
  GroupNormParams p_ = {};
};

class Conv2d final : public CudaOp {
 public:
  using CudaOp::CudaOp;

  Status bind(const Binder& b) {
    ECAD_TRY(computed_input(b, 0, "x", &x_));
    ECAD_TRY(b.input(1, "w", &w_));
    ECAD_TRY(computed_input(b, 2, "b", &bias_));
    ECAD_TRY(b.output(0, "y", &y_));
    const Tensor &x = *x_.tensor, &y = *y_.tensor, &w = *w_.tensor;
    ECAD_TRY(fits(x));
    ECAD_TRY(fits(y));
    if (w.dims[1] * w.dims[2] * w.dims[3] >= int64_t{1} << 30) return unsupported(text("multiplies with filters of at most 2^30 values: w is ", dims_text(w)));
    if (w_.weight == nullptr || (bias_.present() && bias_.packed == nullptr)) return unsupported("convolves with filters and a bias from the checkpoint alone");
    p_.x = image_view(x, x_.dtype);
    p_.y = image_view(y, y_.dtype);
    p_.batch = static_cast<int32_t>(x.dims[0]);
    p_.height = static_cast<int32_t>(x.dims[1]);
    p_.width = static_cast<int32_t>(x.dims[2]);
    p_.in_channels = static_cast<int32_t>(x.dims[3]);
    p_.out_height = static_cast<int32_t>(y.dims[1]);
    p_.out_width = static_cast<int32_t>(y.dims[2]);
    p_.out_channels = static_cast<int32_t>(y.dims[3]);
    p_.kernel_height = static_cast<int32_t>(w.dims[2]);
    p_.kernel_width = static_cast<int32_t>(w.dims[3]);
    p_.stride = b.op.attr[0];
    p_.pad = b.op.attr[1];
    p_.bias = static_cast<const float*>(bias_.packed);
    mma_ = x_.dtype == DType::kBF16 && wide(x, x_.dtype);
    return pack(b);
  }

  Status enqueue(const Launch& l) override {
    p_.head = l.head;
    p_.x.ref = x_.ref(l);
    p_.y.ref = y_.ref(l);
    return mma_ ? launch_conv_mma(l.stream->native(), p_) : launch_conv_direct(l.stream->native(), p_);
  }

 private:
  // w [Co, Ci, kh, kw] as bfloat16 [Co, (p, q, c)] or float32 [(p, q, c), Co].
  Status pack(const Binder& b) {
    const int64_t taps = static_cast<int64_t>(p_.kernel_height) * p_.kernel_width, channels = p_.in_channels, outs = p_.out_channels, depth = taps * channels;
    const size_t size = mma_ ? 2 : 4, unit = static_cast<size_t>(mma_ ? depth : outs) * size;
    const auto value = [&](int64_t o, int64_t k) { return load_element(w_.weight->data, w_.weight->dtype, (o * channels + k % channels) * taps + k / channels); };
    const auto fill = [&](void* device) {
      return cx_.stage(device, static_cast<size_t>(outs * depth) * size, unit, [&](size_t at, size_t bytes, void* to) {
        const auto inner = static_cast<int64_t>(unit / size);
        int64_t i = 0;
        for (auto row = static_cast<int64_t>(at / unit); row < static_cast<int64_t>((at + bytes) / unit); ++row)
          for (int64_t j = 0; j < inner; ++j, ++i) {
            if (mma_) store_element(to, DType::kBF16, i, value(row, j));
            else store_element(to, DType::kF32, i, value(j, row));
          }
        return Status::ok();
      });
    };
    void* packed = nullptr;
    ECAD_TRY(b.cache()->get({static_cast<uint64_t>(Pack::kFilter), w_.weight->id, mma_ ? 1u : 0u}, static_cast<size_t>(outs * depth) * size, fill, &packed));
    p_.weights = packed;
    return Status::ok();
  }

  Source x_, w_, bias_;
  Sink y_;
  bool mma_ = false;
  ConvParams p_ = {};
};

}  // namespace

Status bind_group_norm(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<GroupNorm>(out); }
Status bind_conv2d(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<Conv2d>(out); }

}  // namespace ecad::cuda
