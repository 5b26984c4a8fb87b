// The bound op qk_norm_rope, as the linear in front of it sees it.
#pragma once
#include "kernels/qk_norm_rope.h"
#include "op.h"

namespace ecad::cuda {

class QkNormRope final : public CudaOp {
 public:
  using CudaOp::CudaOp;

  Status bind(const Binder&);
  Status enqueue(const Launch&) override;

  // which: 0 queries, 1 keys.
  const Source& x(size_t which) const { return x_[which]; }
  const Sink& y(size_t which) const { return y_[which]; }
  const Source& weight(size_t which) const { return weight_[which]; }
  const Source& rope() const { return rope_; }
  int32_t heads() const { return p_.heads; }
  int32_t depth() const { return p_.depth; }
  float eps() const { return p_.eps; }

 private:
  Source x_[2], weight_[2], rope_;
  Sink y_[2];
  int32_t batch_ = 1, tokens_ = 1;
  QkNormRopeParams p_ = {};
};

}  // namespace ecad::cuda
