// Ops that move elements: unpatchify, upsample, permute; and the two embeddings.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "../core/dtype.h"
#include "context.h"

namespace ecad {
namespace {

// One item is one row of tokens: its tokens are widened to float32, then written as rows of pixels.
class UnpatchifyKernel final : public Kernel {
 public:
  explicit UnpatchifyKernel(const Binder& b) : cx_(b.cx) {}
  Status bind(const Binder& b) {
    patch_ = b.op.attr[0];
    channel_first_ = b.op.attr[1] == 1;
    channels_ = b.op.attr[2];
    ECAD_TRY(b.input(0, "x", &x_));
    ECAD_TRY(b.output(0, "y", &y_));
    const Tensor& y = *y_.tensor;
    tall_ = y.dims[2] / patch_;
    wide_ = y.dims[3] / patch_;
    depth_ = patch_ * patch_ * channels_;
    return cx_.reserve(static_cast<size_t>(wide_ * depth_ + y.dims[3]) * sizeof(float));
  }
  Status run(const RunContext& c) override {
    const Tensor &x = *x_.tensor, &y = *y_.tensor;
    cx_.each(y.dims[0] * tall_, x.count(), [&](int64_t item, int32_t thread) {
      const int64_t b = item / tall_, row = item % tall_;
      float *tokens = reinterpret_cast<float*>(cx_.scratch(thread)), *line = tokens + wide_ * depth_;
      for (int64_t t = 0; t < wide_; ++t)
        cx_.rows->convert(at(x_.data(c), x_.dtype, b * x.strides[0] + (row * wide_ + t) * x.strides[1]), x_.dtype, tokens + t * depth_, DType::kF32, depth_);
      for (int64_t ch = 0; ch < y.dims[1]; ++ch)
        for (int64_t p = 0; p < patch_; ++p) {
          for (int64_t i = 0; i < y.dims[3]; ++i) line[i] = tokens[i / patch_ * depth_ + place(ch, p, i % patch_)];
          cx_.rows->convert(line, DType::kF32, at(y_.data(c), y_.dtype, b * y.strides[0] + ch * y.strides[1] + (row * patch_ + p) * y.strides[2]), y_.dtype, y.dims[3]);
        }
    });
    return Status::ok();
  }

 private:
  // Where a token holds (channel, row p, column q).
  int64_t place(int64_t channel, int64_t p, int64_t q) const {
    return channel_first_ ? (channel * patch_ + p) * patch_ + q : (p * patch_ + q) * channels_ + channel;
  }
  Context& cx_;
  Source x_;
  Sink y_;
  bool channel_first_ = false;
  int64_t patch_ = 1, channels_ = 1, tall_ = 1, wide_ = 1, depth_ = 1;
};

class UpsampleKernel final : public Kernel {
 public:
  explicit UpsampleKernel(const Binder& b) : cx_(b.cx) {}
  Status bind(const Binder& b) {
    factor_ = b.op.attr[0];
    ECAD_TRY(b.input(0, "x", &x_));
    ECAD_TRY(b.output(0, "y", &y_));
    return Status::ok();
  }
  Status run(const RunContext& c) override {
    const Tensor &x = *x_.tensor, &y = *y_.tensor;
    cx_.each(y.dims[0] * y.dims[1], y.count(), [&](int64_t item, int32_t) {
      const int64_t b = item / y.dims[1], row = item % y.dims[1];
      for (int64_t i = 0; i < y.dims[2]; ++i)
        cx_.rows->convert(at(x_.data(c), x_.dtype, b * x.strides[0] + row / factor_ * x.strides[1] + i / factor_ * x.strides[2]), x_.dtype,
                          at(y_.data(c), y_.dtype, b * y.strides[0] + row * y.strides[1] + i * y.strides[2]), y_.dtype, y.dims[3]);
    });
    return Status::ok();
  }

 private:
  Context& cx_;
  Source x_;
  Sink y_;
  int64_t factor_ = 1;
};

// One item is one row of y; elements that are not adjacent in x are gathered first.
class PermuteKernel final : public Kernel {
 public:
  explicit PermuteKernel(const Binder& b) : cx_(b.cx) {}
  Status bind(const Binder& b) {
    x_ = b.raw_input(0);
    y_ = b.raw_output(0);
    if (x_.dtype != y_.dtype) {
      ECAD_TRY(b.input(0, "x", &x_));
      ECAD_TRY(b.output(0, "y", &y_));
    }
    for (size_t i = 0; i < 4; ++i) stride_[i] = x_.tensor->strides[static_cast<size_t>(b.op.attr[i])];
    return cx_.reserve(static_cast<size_t>(y_.tensor->dims[3]) * dtype_size(x_.dtype));
  }
  Status run(const RunContext& c) override {
    const Tensor& y = *y_.tensor;
    const int64_t n = y.dims[3];
    cx_.each(y.dims[0] * y.dims[1] * y.dims[2], y.count(), [&](int64_t item, int32_t thread) {
      const int64_t i2 = item % y.dims[2], i1 = item / y.dims[2] % y.dims[1], i0 = item / y.dims[2] / y.dims[1];
      const char* from = at(x_.data(c), x_.dtype, i0 * stride_[0] + i1 * stride_[1] + i2 * stride_[2]);
      if (stride_[3] != 1 && n > 1) {
        char* row = cx_.scratch(thread);
        gather(from, dtype_size(x_.dtype), stride_[3], n, row);
        from = row;
      }
      char* to = at(y_.data(c), y_.dtype, i0 * y.strides[0] + i1 * y.strides[1] + i2 * y.strides[2]);
      if (x_.dtype == y_.dtype) std::memcpy(to, from, static_cast<size_t>(n) * dtype_size(x_.dtype));
      else cx_.rows->convert(from, x_.dtype, to, y_.dtype, n);
    });
    return Status::ok();
  }

 private:
  template <size_t kSize>
  static void gather_as(const char* from, int64_t stride, int64_t n, char* to) {
    for (int64_t i = 0; i < n; ++i) std::memcpy(to + static_cast<size_t>(i) * kSize, from + i * stride * static_cast<int64_t>(kSize), kSize);
  }
  static void gather(const char* from, size_t size, int64_t stride, int64_t n, char* to) {
    switch (size) {
      case 1: return gather_as<1>(from, stride, n, to);
      case 2: return gather_as<2>(from, stride, n, to);
      case 4: return gather_as<4>(from, stride, n, to);
      default: return gather_as<8>(from, stride, n, to);
    }
  }
  Context& cx_;
  Source x_;
  Sink y_;
  int64_t stride_[4] = {0, 0, 0, 0};
};

class TimestepEmbedKernel final : public Kernel {
 public:
  explicit TimestepEmbedKernel(const Binder& b) : cx_(b.cx) {}
  Status bind(const Binder& b) {
    cos_first_ = b.op.attr[0] != 0;
    ECAD_TRY(b.input(0, "t", &t_));
    ECAD_TRY(b.output(0, "y", &y_));
    const int64_t half = y_.tensor->dims[1] / 2;
    scale_ = static_cast<float>(b.op.fattr[1]);
    // in float32 and in this order, as diffusers' get_timestep_embedding: sines of large arguments depend on it
    const auto log_period = static_cast<float>(-std::log(b.op.fattr[0]));
    const auto span = static_cast<float>(static_cast<double>(half) - b.op.fattr[2]);
    for (int64_t k = 0; k < half; ++k) frequency_.push_back(std::exp(log_period * static_cast<float>(k) / span));
    return cx_.reserve(static_cast<size_t>(2 * half) * sizeof(float));
  }
  Status run(const RunContext& c) override {
    const Tensor& y = *y_.tensor;
    const size_t half = frequency_.size();
    float* row = reinterpret_cast<float*>(cx_.scratch(0));
    for (int64_t r = 0; r < y.dims[0]; ++r) {
      const auto t = static_cast<float>(load_element(t_.data(c), t_.dtype, r));
      for (size_t k = 0; k < half; ++k) {
        const float a = scale_ * (t * frequency_[k]);
        row[cos_first_ ? k : half + k] = std::cos(a);
        row[cos_first_ ? half + k : k] = std::sin(a);
      }
      cx_.rows->convert(row, DType::kF32, at(y_.data(c), y_.dtype, r * y.strides[0]), y_.dtype, y.dims[1]);
    }
    return Status::ok();
  }

 private:
  Context& cx_;
  Source t_;
  Sink y_;
  bool cos_first_ = false;
  float scale_ = 1.f;
  std::vector<float> frequency_;
};

// The table is read where it lies: a checkpoint's own memory.
class EmbeddingKernel final : public Kernel {
 public:
  explicit EmbeddingKernel(const Binder& b) : cx_(b.cx) {}
  Status bind(const Binder& b) {
    ids_ = b.raw_input(0);
    ECAD_TRY(b.input(1, "table", &table_));
    ECAD_TRY(b.output(0, "y", &y_));
    id_rows_ = Rows(*ids_.tensor);
    y_rows_ = Rows(*y_.tensor);
    return Status::ok();
  }
  Status run(const RunContext& c) override {
    const Tensor& table = *table_.tensor;
    for (int64_t r = 0; r < y_rows_.n; ++r) {
      int32_t id;
      std::memcpy(&id, at(ids_.data(c), DType::kI32, id_rows_.offset(r / id_rows_.cols) + r % id_rows_.cols), sizeof id);
      if (id < 0 || id >= table.dims[0])
        return {ECAD_INVALID_ARGUMENT, "id " + std::to_string(id) + " at position " + std::to_string(r) + " is outside 0.." + std::to_string(table.dims[0] - 1)};
      const int64_t stride = table_.weight ? table.dims[1] : table.strides[0];
      cx_.rows->convert(at(table_.data(c), table_.dtype, id * stride), table_.dtype, at(y_.data(c), y_.dtype, y_rows_.offset(r)), y_.dtype, y_rows_.cols);
    }
    return Status::ok();
  }

 private:
  Context& cx_;
  Source ids_, table_;
  Sink y_;
  Rows id_rows_, y_rows_;
};

}  // namespace

Status bind_unpatchify(const Binder& b, KernelPtr* out) { return bind_as<UnpatchifyKernel>(b, out); }
Status bind_upsample(const Binder& b, KernelPtr* out) { return bind_as<UpsampleKernel>(b, out); }
Status bind_permute(const Binder& b, KernelPtr* out) { return bind_as<PermuteKernel>(b, out); }
Status bind_timestep_embed(const Binder& b, KernelPtr* out) { return bind_as<TimestepEmbedKernel>(b, out); }
Status bind_embedding(const Binder& b, KernelPtr* out) { return bind_as<EmbeddingKernel>(b, out); }

}  // namespace ecad
