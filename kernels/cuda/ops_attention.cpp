// Opcode attention: which kernel takes it.
#include "../core/text.h"
#include "kernels/attention_sm90.h"
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
    if (p_.depth % kVector != 0) p_.q.wide = p_.k.wide = p_.v.wide = p_.y.wide = 0;  // later heads start anywhere
    if (p_.depth > kMaxHeadDim) return unsupported(text("attends with head dims up to ", kMaxHeadDim, ", not ", p_.depth));
    if (q.dims[0] > 65535 || q.dims[1] > 1 << 28 || k.dims[1] > 1 << 28) return unsupported(text("attends over at most 65535 samples of 2^28 tokens: q is ", dims_text(q), ", k ", dims_text(k)));
    batch_ = static_cast<int32_t>(q.dims[0]);
    p_.queries = static_cast<int32_t>(q.dims[1]);
    p_.keys = static_cast<int32_t>(k.dims[1]);
    mma_ = p_.depth % kVector == 0 && (p_.depth <= kMaxMmaHeadDim || !bias_.present()) && p_.scale > 0 && y_.dtype == DType::kBF16 && p_.y.wide;
    for (size_t i = 0; i < 3; ++i) mma_ = mma_ && in[i]->dtype == DType::kBF16 && views[i]->wide;
    // blocks of 128 queries when they still give every multiprocessor two
    large_ = ceil_div(p_.queries, 128) * p_.heads * batch_ >= int64_t{2} * cx_.device.multiprocessors;
    if (cx_.sm90 && mma_ && !bias_.present() && p_.causal == 0) choose_sm90(b);
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
    if (sm90_ != nullptr) return enqueue_sm90(l);
    if (!mma_) return launch_attention_tiled(l.stream->native(), batch_, p_);
    return p_.depth <= kMaxMmaHeadDim ? launch_attention_mma(l.stream->native(), large_, batch_, p_) : launch_attention_wide(l.stream->native(), batch_, p_);
  }

 private:
  static constexpr size_t kOperands = 3;  // q, k, v

  void describe_maps(size_t i, const void* base, TensorMapDesc (&out)[2]) const {
    const TokenView* views[kOperands] = {&p_.q, &p_.k, &p_.v};
    attention_maps(base, *views[i], batch_, i == 0 ? p_.queries : p_.keys, p_, i == 0 ? 64 * sm90_->consumers : sm90_->keys, out);
  }
  int maps_of_head() const { return p_.depth % 64 == 0 ? 1 : 2; }

  // Stays with the other kernels for head dims it has no kernel for, and for operands that maps cannot describe.
  void choose_sm90(const Binder& b) {
    const Source* in[kOperands] = {&q_, &k_, &v_};
    const TokenView* views[kOperands] = {&p_.q, &p_.k, &p_.v};
    for (size_t i = 0; i < kOperands; ++i) {
      const Tensor& t = *in[i]->tensor;
      if (in[i]->weight != nullptr || t.step_stride != 0 || (t.dims[0] > 1 && views[i]->batch == 0) || (t.dims[1] > 1 && views[i]->token == 0)) return;
    }
    sm90_ = choose_attention_sm90(batch_, p_, cx_.device.multiprocessors);
    for (size_t i = 0; sm90_ != nullptr && i < kOperands; ++i) {
      const uint32_t buffer = in[i]->tensor->buffer;
      in_table_[i] = buffer < b.program.buffers.size() && b.program.buffers[buffer].kind == BufferKind::kPersistent;
      if (!in_table_[i]) continue;
      TensorMapDesc maps[2];
      describe_maps(i, nullptr, maps);
      for (int m = 0; m < maps_of_head(); ++m) maps_.push_back({false, static_cast<uint32_t>(in[i]->index), maps[m]});
    }
  }

  Status enqueue_sm90(const Launch& l) const {
    AttentionSm90Params a = {};
    a.base = p_;
    a.span = attention_span(batch_, p_, cx_.device.multiprocessors);
    TensorMap(*maps[])[2] = {&a.q, &a.k, &a.v};
    Ref(*tables[])[2] = {&a.q_table, &a.k_table, &a.v_table};
    const Ref* refs[] = {&p_.q.ref, &p_.k.ref, &p_.v.ref};
    size_t next = 0;
    for (size_t i = 0; i < kOperands; ++i) {
      a.in_table[i] = in_table_[i];
      TensorMapDesc desc[2];
      if (!in_table_[i]) describe_maps(i, reinterpret_cast<const void*>(refs[i]->offset), desc);
      for (int m = 0; m < maps_of_head(); ++m) {
        if (in_table_[i]) (*tables[i])[m] = l.maps[next++];
        else ECAD_TRY(encode_tensor_map(desc[m], &(*maps[i])[m]));
      }
    }
    return sm90_->launch(l.stream->native(), batch_, a);
  }

  Source q_, k_, v_, counts_, bias_;
  Sink y_;
  bool mma_ = false, large_ = false;
  const AttentionSm90Variant* sm90_ = nullptr;  // null: the other kernels
  bool in_table_[kOperands] = {};               // the operand is in a buffer that may be another one at each step
  int32_t batch_ = 1;
  AttentionParams p_ = {};
};

}  // namespace

Status bind_attention(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<Attention>(out); }

}  // namespace ecad::cuda
