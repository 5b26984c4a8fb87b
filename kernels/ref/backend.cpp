#include <new>

#include "ref.h"

namespace ecad {
namespace {

using RefFunction = Status (*)(const RefOp&);

struct RefEntry {
  RefFunction narrow, wide;
};

#define ECAD_REF_ENTRY(name) {name<float>, name<double>}
constexpr RefEntry kOps[] = {{nullptr, nullptr},
                             ECAD_REF_ENTRY(ref_copy),
                             ECAD_REF_ENTRY(ref_linear),
                             ECAD_REF_ENTRY(ref_gated_linear),
                             ECAD_REF_ENTRY(ref_attention),
                             ECAD_REF_ENTRY(ref_chain),
                             ECAD_REF_ENTRY(ref_patch_embed),
                             ECAD_REF_ENTRY(ref_unpatchify),
                             ECAD_REF_ENTRY(ref_timestep_embed),
                             ECAD_REF_ENTRY(ref_embedding),
                             ECAD_REF_ENTRY(ref_lincomb),
                             ECAD_REF_ENTRY(ref_add),
                             ECAD_REF_ENTRY(ref_unary),
                             ECAD_REF_ENTRY(ref_conv2d),
                             ECAD_REF_ENTRY(ref_group_norm),
                             ECAD_REF_ENTRY(ref_upsample),
                             ECAD_REF_ENTRY(ref_permute),
                             ECAD_REF_ENTRY(ref_qk_norm_rope)};
static_assert(sizeof(kOps) / sizeof(kOps[0]) == kLastOpcode + 1);

class RefKernel : public Kernel {
 public:
  RefKernel(const BindContext& bind, RefFunction function)
      : program_(*bind.program), op_(*bind.op), weights_(bind.weights, bind.weights + bind.op->in.size()), function_(function) {}
  Status run(const RunContext& context) override { return function_(RefOp(program_, op_, weights_.data(), context)); }

 private:
  const Program& program_;
  const Op& op_;
  std::vector<WeightView> weights_;
  RefFunction function_;
};

// Whether any operand is float64, stored weights included: then arithmetic is.
bool is_wide(const BindContext& bind) {
  bool wide = false;
  for (size_t i = 0; i < bind.op->in.size(); ++i) {
    if (bind.op->in[i] == kNoTensor) continue;
    wide |= (bind.weights[i].data != nullptr ? bind.weights[i].dtype : bind.program->tensors[bind.op->in[i]].dtype) == DType::kF64;
  }
  for (const uint32_t t : bind.op->out) wide |= t != kNoTensor && bind.program->tensors[t].dtype == DType::kF64;
  return wide;
}

constexpr std::align_val_t kAlign{64};

class RefBackend : public Backend {
 public:
  void describe(BackendInfo* info) const override { info->name = "reference"; }
  std::unique_ptr<WeightCache> new_weight_cache() override { return std::make_unique<WeightCache>(); }
  Status bind(const BindContext& context, std::unique_ptr<Kernel>* out) override {
    const RefEntry& entry = kOps[static_cast<size_t>(context.op->code)];
    *out = std::make_unique<RefKernel>(context, is_wide(context) ? entry.wide : entry.narrow);
    return Status::ok();
  }
  void* allocate(size_t bytes) override { return ::operator new(bytes, kAlign, std::nothrow); }
  void deallocate(void* p, size_t) override { ::operator delete(p, kAlign); }
  Status upload(void* dst, const void* src, size_t bytes) override { return move(dst, src, bytes); }
  Status download(void* dst, const void* src, size_t bytes) override { return move(dst, src, bytes); }
  uint64_t packed_bytes() const override { return 0; }

 private:
  static Status move(void* dst, const void* src, size_t bytes) {
    std::memcpy(dst, src, bytes);
    return Status::ok();
  }
};

}  // namespace

Status make_reference_backend(const DeviceOptions&, std::unique_ptr<Backend>* out) {
  *out = std::make_unique<RefBackend>();
  return Status::ok();
}

}  // namespace ecad
