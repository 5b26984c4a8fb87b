// Attention: keys and values of each (sample, head) are packed once, then tiles of queries run over them.
#include <algorithm>
#include <cstring>

#include "context.h"

namespace ecad {
namespace {

// Packed keys and values of some (sample, head) pairs are held at a time: at most this many bytes, or those of one pair.
constexpr size_t kPackedBytes = size_t{16} << 20;

class AttentionKernel final : public Kernel {
 public:
  explicit AttentionKernel(const Binder& b) : cx_(b.cx) {}

  Status bind(const Binder& b) {
    heads_ = b.op.attr[0];
    dim_ = b.op.attr[1];
    causal_ = b.op.attr[2] != 0;
    scale_ = static_cast<float>(b.op.fattr[0]);
    ECAD_TRY(b.input(0, "q", &q_));
    ECAD_TRY(b.input(1, "k", &k_));
    ECAD_TRY(b.input(2, "v", &v_));
    counts_ = b.raw_input(3);
    ECAD_TRY(b.input(4, "bias", &bias_));
    ECAD_TRY(b.output(0, "y", &y_));
    batch_ = q_.tensor->dims[0];
    queries_ = q_.tensor->dims[1];
    keys_ = k_.tensor->dims[1];
    dot16_ = cx_.rows->has_dot16 && q_.dtype == DType::kBF16 && k_.dtype == DType::kBF16 && v_.dtype == DType::kBF16;
    pair_bytes_ = round_up(cx_.rows->attention_packed_bytes(keys_, dim_, dot16_, &k_bytes_), 64);
    const int64_t pairs = batch_ * heads_;
    held_ = std::max<int64_t>(1, std::min(pairs, static_cast<int64_t>(kPackedBytes / pair_bytes_)));
    return cx_.reserve(cx_.rows->attention_scratch(dim_), pair_bytes_ * static_cast<size_t>(held_));
  }

  Status run(const RunContext& c) override {
    for (int64_t b = 0; b < batch_; ++b) {
      const int64_t n = keys_of(c, b);
      if (n < 1 || n > keys_)
        return {ECAD_INVALID_ARGUMENT, "counts[" + std::to_string(b) + "] is " + std::to_string(n) + ", outside 1.." + std::to_string(keys_)};
    }
    const int64_t pairs = batch_ * heads_, tiles = ceil_div(queries_, cx_.rows->attention_rows);
    for (int64_t first = 0; first < pairs; first += held_) {
      const int64_t now = std::min(held_, pairs - first);
      cx_.each(now, now * keys_ * dim_, [&](int64_t i, int32_t) { pack(c, first + i, i); });
      cx_.each(now * tiles, 2 * now * queries_ * keys_ * dim_, [&](int64_t i, int32_t thread) { tile(c, first + i / tiles, i / tiles, i % tiles, thread); });
    }
    return Status::ok();
  }

 private:
  int64_t keys_of(const RunContext& c, int64_t b) const {
    if (!counts_.present()) return keys_;
    int32_t n;
    std::memcpy(&n, at(counts_.data(c), DType::kI32, b * counts_.tensor->strides[0]), sizeof n);
    return n;
  }
  // First element of this (sample, head) at row r of an operand.
  int64_t start(const Tensor& t, int64_t pair, int64_t r) const { return pair / heads_ * t.strides[0] + r * t.strides[1] + pair % heads_ * dim_; }

  void pack(const RunContext& c, int64_t pair, int64_t slot) const {
    char* to = cx_.shared() + static_cast<size_t>(slot) * pair_bytes_;
    cx_.rows->attention_pack(at(k_.data(c), k_.dtype, start(*k_.tensor, pair, 0)), k_.dtype, k_.tensor->strides[1],
                             at(v_.data(c), v_.dtype, start(*v_.tensor, pair, 0)), v_.dtype, v_.tensor->strides[1], keys_of(c, pair / heads_), dim_,
                             dot16_, to, to + k_bytes_);
  }

  void tile(const RunContext& c, int64_t pair, int64_t slot, int64_t index, int32_t thread) const {
    const int64_t first = index * cx_.rows->attention_rows;
    const char* packed = cx_.shared() + static_cast<size_t>(slot) * pair_bytes_;
    AttentionTile t = {};
    t.q = at(q_.data(c), q_.dtype, start(*q_.tensor, pair, first));
    t.q_dtype = q_.dtype;
    t.q_stride = q_.tensor->strides[1];
    t.rows = std::min(cx_.rows->attention_rows, queries_ - first);
    t.dim = dim_;
    t.keys = keys_of(c, pair / heads_);
    t.packed_k = packed;
    t.packed_v = packed + k_bytes_;
    t.scale = scale_;
    if (bias_.present()) {
      t.bias = at(bias_.data(c), bias_.dtype, pair % heads_ * bias_.tensor->strides[0] + first * bias_.tensor->strides[1]);
      t.bias_dtype = bias_.dtype;
      t.bias_stride = bias_.tensor->strides[1];
    }
    t.causal_row = causal_ ? first : -1;
    t.y = at(y_.data(c), y_.dtype, start(*y_.tensor, pair, first));
    t.y_dtype = y_.dtype;
    t.y_stride = y_.tensor->strides[1];
    t.scratch = cx_.scratch(thread);
    cx_.rows->attention(t, dot16_);
  }

  Context& cx_;
  Source q_, k_, v_, counts_, bias_;
  Sink y_;
  int64_t heads_ = 1, dim_ = 1, batch_ = 1, queries_ = 1, keys_ = 1, held_ = 1;
  bool causal_ = false, dot16_ = false;
  float scale_ = 1.f;
  size_t pair_bytes_ = 0, k_bytes_ = 0;
};

}  // namespace

Status bind_attention(const Binder& b, KernelPtr* out) { return bind_as<AttentionKernel>(b, out); }

}  // namespace ecad
