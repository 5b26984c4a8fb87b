// Opcode attention: which kernel takes it.
#include "../core/text.h"
#include "kernels/attention.h"
#include "operands.h"

namespace ecad::cuda {
namespace {

class Attention final : public CudaOp {
 public:
  using CudaOp::CudaOp;

  Status bind(const Binder& b) {
    Source* in[] = {&q_, &k_, &v_};
    const char* names[] = {"q", "k", "v"};
    TokenView* views[] = {&p_.q, &p_.k, &p_.v};
    for (size_t i = 0; i < 3; ++i) {
      ECAD_TRY(computed_input(b, i, names[i], in[i]));
      *views[i] = token_view(*in[i]);
    }
    counts_ = b.raw_input(3);
    ECAD_TRY(computed_input(b, 4, "bias", &bias_));
    ECAD_TRY(b.output(0, "y", &y_));
    p_.y = token_view(y_);
    p_.bias = token_view(bias_);
    const Tensor &q = *q_.tensor, &k = *k_.tensor;
    p_.has_counts = counts_.present();
    p_.heads = b.op.attr[0];
    p_.depth = b.op.attr[1];
    p_.causal = b.op.attr[2];
    p_.scale = static_cast<float>(b.op.fattr[0]);
    if (p_.depth > kMaxHeadDim) return unsupported(text("attends with head dims up to ", kMaxHeadDim, ", not ", p_.depth));
    if (q.dims[0] > 65535 || q.dims[1] > 1 << 28 || k.dims[1] > 1 << 28) return unsupported(text("attends over at most 65535 samples of 2^28 tokens: q is ", dims_text(q), ", k ", dims_text(k)));
    batch_ = static_cast<int32_t>(q.dims[0]);
    p_.queries = static_cast<int32_t>(q.dims[1]);
    p_.keys = static_cast<int32_t>(k.dims[1]);
    mma_ = p_.depth % kVector == 0 && (p_.depth <= kMaxMmaHeadDim || !bias_.present()) && p_.scale > 0 && y_.dtype == DType::kBF16 && p_.y.wide;
    for (size_t i = 0; i < 3; ++i) mma_ = mma_ && in[i]->dtype == DType::kBF16 && views[i]->wide;
    // blocks of 128 queries when they still give every multiprocessor two
    large_ = ceil_div(p_.queries, 128) * p_.heads * batch_ >= int64_t{2} * cx_.device.multiprocessors;
    return Status::ok();
  }

  Status enqueue(const Launch& l) override {
    p_.head = l.head;
    p_.q.ref = q_.ref(l);
    p_.k.ref = k_.ref(l);
    p_.v.ref = v_.ref(l);
    p_.y.ref = y_.ref(l);
    if (counts_.present()) p_.counts = counts_.ref(l);
    if (bias_.present()) p_.bias.ref = bias_.ref(l);
    if (!mma_) return launch_attention_tiled(l.stream->native(), batch_, p_);
    return p_.depth <= kMaxMmaHeadDim ? launch_attention_mma(l.stream->native(), large_, batch_, p_) : launch_attention_wide(l.stream->native(), batch_, p_);
  }

 private:
  Source q_, k_, v_, counts_, bias_;
  Sink y_;
  bool mma_ = false, large_ = false;
  int32_t batch_ = 1;
  AttentionParams p_ = {};
};

}  // namespace

Status bind_attention(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<Attention>(out); }

}  // namespace ecad::cuda
