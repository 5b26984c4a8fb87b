// Opcodes around the transformer: lincomb, embedding, timestep_embed, patch_embed.
#include <cmath>
#include <cstring>

#include "../core/text.h"
#include "kernels/embed.h"
#include "kernels/lincomb.h"
#include "operands.h"

namespace ecad::cuda {
namespace {

constexpr int64_t kMaxElements = int64_t{1} << 31;

class Lincomb final : public CudaOp {
 public:
  using CudaOp::CudaOp;

  Status bind(const Binder& b) {
    const auto n = static_cast<size_t>(b.op.attr[0]);
    if (n > kMaxLincombTerms) return unsupported(text("combines at most ", kMaxLincombTerms, " terms, not ", n));
    ECAD_TRY(b.output(0, "y", &y_));
    const Tensor& y = *y_.tensor;
    if (y.count() >= kMaxElements) return unsupported(text("combines at most 2^31 elements: y is ", dims_text(y)));
    for (size_t i = 0; i < n; ++i) {
      Source s;
      ECAD_TRY(computed_input(b, i, "x", &s));
      x_.push_back(s);
      p_.terms[i] = view(*s.tensor, s.dtype);
    }
    coefficients_ = b.raw_input(n);
    ECAD_TRY(b.pack(&coefficients_, DType::kF64));
    p_.y = view(y, y_.dtype);
    for (uint32_t d = 0; d < 4; ++d) p_.dims[d] = static_cast<uint32_t>(d < 4 - y.rank ? 1 : y.dims[d - (4 - y.rank)]);
    p_.count = static_cast<uint32_t>(y.count());
    p_.num_terms = static_cast<int32_t>(n);
    p_.clamp = b.op.attr[1];
    p_.low = b.op.fattr[0];
    p_.high = b.op.fattr[1];
    return Status::ok();
  }

  Status enqueue(const Launch& l) override {
    p_.head = l.head;
    for (size_t i = 0; i < x_.size(); ++i) p_.terms[i].ref = x_[i].ref(l);
    p_.coefficients = coefficients_.ref(l);
    p_.y.ref = y_.ref(l);
    return launch_lincomb(l.stream->native(), p_);
  }

 private:
  static LincombOperand view(const Tensor& t, DType type) {
    LincombOperand o = {};
    for (uint32_t d = 0; d < t.rank; ++d) o.strides[4 - t.rank + d] = stride_bytes(t, d, type);
    o.elem = elem_of(type);
    return o;
  }

  std::vector<Source> x_;
  Source coefficients_;
  Sink y_;
  LincombParams p_ = {};
};

class Embedding final : public CudaOp {
 public:
  using CudaOp::CudaOp;

  Status bind(const Binder& b) {
    ids_ = b.raw_input(0);
    ECAD_TRY(b.input(1, "table", &table_));
    ECAD_TRY(b.pack(&table_, table_.dtype == DType::kBF16 ? DType::kBF16 : DType::kF32));
    ECAD_TRY(b.output(0, "y", &y_));
    const Tensor &ids = *ids_.tensor, &table = *table_.tensor, &y = *y_.tensor;
    if (ids.count() >= kMaxElements) return unsupported(text("looks up at most 2^31 ids: ids are ", dims_text(ids)));
    for (uint32_t d = 0; d < 3; ++d) p_.dims[d] = 1;
    for (uint32_t d = 0; d < ids.rank; ++d) {
      const uint32_t to = 3 - ids.rank + d;
      p_.dims[to] = static_cast<uint32_t>(ids.dims[d]);
      p_.id_strides[to] = stride_bytes(ids, d, DType::kI32);
      p_.y_strides[to] = stride_bytes(y, d, y_.dtype);
    }
    p_.table_stride = table.strides[0] * static_cast<int64_t>(dtype_size(table_.dtype));
    p_.vocabulary = static_cast<int32_t>(table.dims[0]);
    p_.cols = static_cast<int32_t>(table.dims[1]);
    p_.wide = wide(table, table_.dtype) && wide(y, y_.dtype) && p_.table_stride % 16 == 0;
    p_.table_elem = elem_of(table_.dtype);
    p_.y_elem = elem_of(y_.dtype);
    return Status::ok();
  }

  Status enqueue(const Launch& l) override {
    p_.head = l.head;
    p_.ids = ids_.ref(l);
    p_.table = table_.ref(l);
    p_.y = y_.ref(l);
    return launch_embedding(l.stream->native(), p_);
  }

 private:
  Source ids_, table_;
  Sink y_;
  EmbeddingParams p_ = {};
};

class TimestepEmbed final : public CudaOp {
 public:
  using CudaOp::CudaOp;

  Status bind(const Binder& b) {
    ECAD_TRY(computed_input(b, 0, "t", &t_));
    ECAD_TRY(b.output(0, "y", &y_));
    const Tensor& y = *y_.tensor;
    const int64_t half = y.dims[1] / 2;
    if (y.count() >= kMaxElements) return unsupported(text("embeds into at most 2^31 elements: y is ", dims_text(y)));
    // in float32 and in this order, as the reference
    const auto log_period = static_cast<float>(-std::log(b.op.fattr[0])), span = static_cast<float>(static_cast<double>(half) - b.op.fattr[2]);
    ECAD_TRY(frequencies_.allocate(static_cast<size_t>(half) * sizeof(float)));
    ECAD_TRY(cx_.stage(frequencies_.data(), static_cast<size_t>(half) * sizeof(float), sizeof(float), [&](size_t at, size_t bytes, void* to) {
      for (size_t k = 0; k < bytes / sizeof(float); ++k) {
        const float f = std::exp(log_period * static_cast<float>(at / sizeof(float) + k) / span);
        std::memcpy(static_cast<char*>(to) + k * sizeof(float), &f, sizeof(float));
      }
      return Status::ok();
    }));
    p_.frequencies = static_cast<const float*>(frequencies_.data());
    p_.y_stride = stride_bytes(y, 0, y_.dtype);
    p_.scale = static_cast<float>(b.op.fattr[1]);
    p_.rows = static_cast<int32_t>(y.dims[0]);
    p_.half = static_cast<int32_t>(half);
    p_.cos_first = b.op.attr[0];
    p_.t_elem = elem_of(t_.dtype);
    p_.y_elem = elem_of(y_.dtype);
    return Status::ok();
  }

  Status enqueue(const Launch& l) override {
    p_.head = l.head;
    p_.t = t_.ref(l);
    p_.y = y_.ref(l);
    return launch_timestep(l.stream->native(), p_);
  }

 private:
  Source t_;
  Sink y_;
  DeviceBuffer frequencies_;
  TimestepParams p_ = {};
};

// A filter weight [rows, depth] on the device as float32 [depth, rows].
Status pack_columns(const Binder& b, const Source& w, int64_t rows, int64_t depth, void** out) {
  if (w.weight == nullptr) return unsupported("multiplies with filters from the checkpoint alone");
  const auto fill = [&](void* device) {
    const size_t unit = static_cast<size_t>(rows) * sizeof(float);
    return b.cx.stage(device, static_cast<size_t>(depth) * unit, unit, [&](size_t at, size_t bytes, void* to) {
      float* column = static_cast<float*>(to);
      for (auto k = static_cast<int64_t>(at / unit); k < static_cast<int64_t>((at + bytes) / unit); ++k)
        for (int64_t r = 0; r < rows; ++r) *column++ = static_cast<float>(load_element(w.weight->data, w.weight->dtype, r * depth + k));
      return Status::ok();
    });
  };
  return b.cache()->get({static_cast<uint64_t>(Pack::kColumns), w.weight->id}, static_cast<size_t>(rows * depth) * sizeof(float), fill, out);
}

class PatchEmbed final : public CudaOp {
 public:
  using CudaOp::CudaOp;

  Status bind(const Binder& b) {
    ECAD_TRY(computed_input(b, 0, "x", &x_));
    ECAD_TRY(b.input(1, "w", &w_));
    ECAD_TRY(computed_input(b, 2, "b", &bias_));
    ECAD_TRY(computed_input(b, 3, "pos", &pos_));
    ECAD_TRY(b.output(0, "y", &y_));
    const Tensor &x = *x_.tensor, &y = *y_.tensor;
    if (x.count() >= kMaxElements || y.count() >= kMaxElements || x.dims[0] > 65535 || y.dims[1] > 8 * 65535) return unsupported(text("embeds patches of at most 65535 pictures and 2^31 values: x is ", dims_text(x), ", y ", dims_text(y)));
    p_.patch = b.op.attr[0];
    p_.repeat = b.op.attr[1];
    p_.batch = static_cast<int32_t>(x.dims[0]);
    p_.tokens = static_cast<int32_t>(y.dims[1]);
    p_.cols = static_cast<int32_t>(y.dims[2]);
    p_.across = static_cast<int32_t>(x.dims[3]) / p_.patch;
    p_.depth = static_cast<int32_t>(x.dims[1]) * p_.patch * p_.patch;
    for (uint32_t d = 0; d < 4; ++d) p_.x_strides[d] = stride_bytes(x, d, x_.dtype);
    p_.y_batch = stride_bytes(y, 0, y_.dtype);
    p_.y_token = stride_bytes(y, 1, y_.dtype);
    p_.pos_token = pos_.present() ? stride_bytes(*pos_.tensor, 0, pos_.dtype) : 0;
    p_.has_pos = pos_.present();
    p_.x_elem = elem_of(x_.dtype);
    p_.y_elem = elem_of(y_.dtype);
    p_.pos_elem = elem_of(pos_.dtype);
    void* packed = nullptr;
    ECAD_TRY(pack_columns(b, w_, p_.cols, p_.depth, &packed));
    p_.weight = static_cast<const float*>(packed);
    if (bias_.present() && bias_.packed == nullptr) return unsupported("embeds patches with a bias from the checkpoint alone");
    p_.bias = static_cast<const float*>(bias_.packed);
    return Status::ok();
  }

  Status enqueue(const Launch& l) override {
    p_.head = l.head;
    p_.x = x_.ref(l);
    p_.y = y_.ref(l);
    if (pos_.present()) p_.pos = pos_.ref(l);
    return launch_patch_embed(l.stream->native(), p_);
  }

 private:
  Source x_, w_, bias_, pos_;
  Sink y_;
  PatchParams p_ = {};
};

}  // namespace

Status bind_lincomb(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<Lincomb>(out); }
Status bind_embedding(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<Embedding>(out); }
Status bind_timestep_embed(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<TimestepEmbed>(out); }
Status bind_patch_embed(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<PatchEmbed>(out); }

}  // namespace ecad::cuda
