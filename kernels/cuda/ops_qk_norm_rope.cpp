// Opcode qk_norm_rope.
#include "ops_qk_norm_rope.h"

#include "../core/text.h"
#include "operands.h"

namespace ecad::cuda {

Status QkNormRope::bind(const Binder& b) {
  const char* names[] = {"q", "k", "wq", "wk"};
  p_.heads = b.op.attr[0];
  p_.depth = b.op.attr[1];
  p_.eps = static_cast<float>(b.op.fattr[0]);
  if (p_.depth > kMaxRotatedHeadDim) return unsupported(text("rotates heads of up to ", kMaxRotatedHeadDim, " elements, not ", p_.depth));
  for (size_t i = 0; i < 2; ++i) {
    ECAD_TRY(computed_input(b, i, names[i], &x_[i]));
    ECAD_TRY(computed_input(b, 2 + i, names[2 + i], &weight_[i]));
    ECAD_TRY(b.output(i, names[i], &y_[i]));
    p_.x[i] = token_view(x_[i]);
    p_.y[i] = token_view(y_[i]);
    p_.weight[i] = {{}, 0, 0, elem_of(weight_[i].dtype), 1, wide(*weight_[i].tensor, weight_[i].dtype)};
    if (p_.depth % kVector != 0) p_.x[i].wide = p_.y[i].wide = 0;  // later heads start anywhere
  }
  ECAD_TRY(computed_input(b, 4, "rope", &rope_));
  const Tensor &q = *x_[0].tensor, &rope = *rope_.tensor;
  if (q.dims[0] > 65535 || q.dims[1] > 1 << 28) return unsupported(text("rotates at most 65535 samples of 2^28 tokens: q is ", dims_text(q)));
  p_.rope = {{}, 0, stride_bytes(rope, 0, rope_.dtype), elem_of(rope_.dtype), 1, wide(rope, rope_.dtype)};
  batch_ = static_cast<int32_t>(q.dims[0]);
  tokens_ = static_cast<int32_t>(q.dims[1]);
  return Status::ok();
}

Status QkNormRope::enqueue(const Launch& l) {
  p_.head = l.head;
  for (size_t i = 0; i < 2; ++i) {
    p_.x[i].ref = x_[i].ref(l);
    p_.y[i].ref = y_[i].ref(l);
    p_.weight[i].ref = weight_[i].ref(l);
  }
  p_.rope.ref = rope_.ref(l);
  return launch_qk_norm_rope(l.stream->native(), batch_, tokens_, p_);
}

Status bind_qk_norm_rope(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<QkNormRope>(out); }

}  // namespace ecad::cuda
