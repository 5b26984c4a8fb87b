// Norm and rotation of queries and keys, token by token: a token's angles serve all of its heads.
#include <algorithm>

#include "context.h"

namespace ecad {
namespace {

constexpr int64_t kItemElements = 16384;  // of queries, in one item of a loop over tokens

class QkNormRopeKernel final : public Kernel {
 public:
  explicit QkNormRopeKernel(const Binder& b) : cx_(b.cx) {}

  Status bind(const Binder& b) {
    heads_ = b.op.attr[0];
    dim_ = b.op.attr[1];
    eps_ = static_cast<float>(b.op.fattr[0]);
    const char* names[] = {"q", "k", "wq", "wk"};
    for (size_t i = 0; i < 2; ++i) {
      ECAD_TRY(b.input(i, names[i], &x_[i]));
      ECAD_TRY(b.input(2 + i, names[2 + i], &weight_[i]));
      ECAD_TRY(b.output(i, names[i], &y_[i]));
    }
    ECAD_TRY(b.input(4, "rope", &rope_));
    batch_ = x_[0].tensor->dims[0];
    tokens_ = x_[0].tensor->dims[1];
    return cx_.reserve(static_cast<size_t>(3 * dim_) * sizeof(float));  // both weights, the token's row of rope
  }

  Status run(const RunContext& c) override {
    const int64_t all = batch_ * tokens_, per_item = std::max<int64_t>(1, kItemElements / (heads_ * dim_));
    cx_.each(ceil_div(all, per_item), 4 * all * heads_ * dim_, [&](int64_t item, int32_t thread) {
      float* weights = reinterpret_cast<float*>(cx_.scratch(thread));
      for (size_t i = 0; i < 2; ++i) cx_.rows->convert(weight_[i].data(c), weight_[i].dtype, weights + static_cast<int64_t>(i) * dim_, DType::kF32, dim_);
      for (int64_t t = item * per_item; t < std::min(all, (item + 1) * per_item); ++t) token(c, t / tokens_, t % tokens_, weights);
    });
    return Status::ok();
  }

 private:
  static int64_t place(const Tensor& t, int64_t b, int64_t token) { return b * t.strides[0] + token * t.strides[1]; }

  void token(const RunContext& c, int64_t b, int64_t token, float* weights) const {
    const char* angles = at(rope_.data(c), rope_.dtype, token * rope_.tensor->strides[0]);
    const float* rope = reinterpret_cast<const float*>(angles);
    if (rope_.dtype != DType::kF32) {
      cx_.rows->convert(angles, rope_.dtype, weights + 2 * dim_, DType::kF32, dim_);
      rope = weights + 2 * dim_;
    }
    for (size_t i = 0; i < 2; ++i)
      cx_.rows->norm_rope(at(x_[i].data(c), x_[i].dtype, place(*x_[i].tensor, b, token)), x_[i].dtype,
                          at(y_[i].data(c), y_[i].dtype, place(*y_[i].tensor, b, token)), y_[i].dtype, heads_, dim_,
                          weights + static_cast<int64_t>(i) * dim_, rope, eps_);
  }

  Context& cx_;
  Source x_[2], weight_[2], rope_;  // of queries, of keys
  Sink y_[2];
  int64_t heads_ = 1, dim_ = 2, batch_ = 1, tokens_ = 1;
  float eps_ = 0.f;
};

}  // namespace

Status bind_qk_norm_rope(const Binder& b, KernelPtr* out) { return bind_as<QkNormRopeKernel>(b, out); }

}  // namespace ecad
