// The cpu backend: memory, threads, and which kernel an op gets.
#include <cstring>
#include <new>

#include "../core/dtype.h"
#include "context.h"
#include "cpuid.h"

namespace ecad {
namespace {

using BindFunction = Status (*)(const Binder&, KernelPtr*);

BindFunction bind_function(Opcode code) {
  switch (code) {
#define ECAD_BIND_CASE(code, name) case Opcode::code: return bind_##name;
    ECAD_EACH_OPCODE(ECAD_BIND_CASE)
#undef ECAD_BIND_CASE
  }
  return nullptr;
}

// Whether every weight of the op is packed when it is bound (get_matrix, get_vector and get_filter do so if all they are given are weights). first_packed
// to packed_end: inputs that go there, in the order of kernels/PROGRAM.md; absent biases do not count.
bool packs_all(const BindContext& b, size_t first_packed, size_t packed_end) {
  if (b.cache == nullptr) return false;
  for (size_t i = 0; i < b.op->in.size(); ++i) {
    const bool packed = i >= first_packed && i < packed_end;
    if (b.op->in[i] != kNoTensor && (b.weights[i].data != nullptr) != packed) return false;
  }
  return true;
}

class CpuBackend final : public Backend {
 public:
  Status init(const DeviceOptions& o) {
    if (o.ordinal != 0) return {ECAD_NO_DEVICE, "there is one cpu device: ordinal must be 0"};
    if (o.isa < ECAD_ISA_AUTO || o.isa > ECAD_ISA_AMX) return {ECAD_INVALID_ARGUMENT, "isa is " + std::to_string(o.isa) + ": give one of ECAD_ISA_*"};
    isa_ = best_isa(o.isa);
    limited_ = isa_ != best_isa(ECAD_ISA_AUTO) || (o.isa == ECAD_ISA_AVX512 && cpu_has_amx_bf16());
    cx_.rows = &row_kernels(isa_);
    ECAD_TRY(Team::create(o.num_threads, &cx_.team));
    const int32_t threads = cx_.team->size();
    cx_.thread_scratch.resize(static_cast<size_t>(threads));
    cx_.failures.resize(static_cast<size_t>(threads));
    return OneDnn::create(o.isa, threads, &cx_.dnn);
  }

  void describe(BackendInfo* info) const override {
    info->name = "cpu: " + cpu_name();
    info->features = limited_ ? std::string("limited to ") + isa_name(isa_) : cpu_features();
    info->num_threads = cx_.team->size();
    info->fast_bfloat16 = cx_.dnn->native_bf16();
  }

  std::unique_ptr<WeightCache> new_weight_cache() override { return std::make_unique<PackCache>(cx_); }

  bool packs(const BindContext& b) const override {
    const auto attr = [&](size_t i) { return static_cast<size_t>(b.op->attr[i]); };
    switch (b.op->code) {
      case Opcode::kLinear: return packs_all(b, attr(0), attr(0) + 2 * attr(1));
      case Opcode::kGatedLinear: return packs_all(b, 1, 3);
      case Opcode::kPatchEmbed:  // the position, input 3, is read as it lies
      case Opcode::kConv2d: return packs_all(b, 1, 3);
      default: return false;
    }
  }

  Status bind(const BindContext& b, std::unique_ptr<Kernel>* out) override {
    try {
      const BindFunction f = bind_function(b.op->code);
      if (!f) return {ECAD_UNSUPPORTED, "the cpu backend does not know this opcode"};
      return f(Binder(cx_, b), out);
    } catch (const std::bad_alloc&) {
      return {ECAD_OUT_OF_MEMORY, "no memory to bind the op"};
    }
  }

  void* allocate(size_t bytes) override { return aligned_allocate(bytes); }
  void deallocate(void* p, size_t) override { aligned_release(p); }
  Status upload(void* dst, const void* src, size_t bytes) override {
    std::memcpy(dst, src, bytes);
    return Status::ok();
  }
  Status download(void* dst, const void* src, size_t bytes) override { return upload(dst, src, bytes); }

  uint64_t packed_bytes() const override {
    uint64_t total = cx_.cached_bytes + cx_.shared_scratch.size();
    for (const AlignedBuffer& s : cx_.thread_scratch) total += s.size();
    return total;
  }

 private:
  Context cx_;
  Isa isa_ = Isa::kGeneric;
  bool limited_ = false;  // by the option, below what the machine has
};

bool computes(DType t) { return t == DType::kF32 || t == DType::kBF16 || t == DType::kF16; }

Status not_computed(const char* what, DType t) {
  return {ECAD_UNSUPPORTED, std::string(what) + " is " + dtype_name(t) +
                                ": the cpu backend computes on float32, bfloat16 and float16 (the reference backend also on float64)"};
}

}  // namespace

Status Context::reserve(size_t per_thread, size_t shared) {
  for (AlignedBuffer& s : thread_scratch)
    if (!s.reserve(round_up(per_thread, 64))) return {ECAD_OUT_OF_MEMORY, "no memory for " + std::to_string(per_thread) + " bytes of scratch per thread"};
  if (!shared_scratch.reserve(round_up(shared, 64))) return {ECAD_OUT_OF_MEMORY, "no memory for " + std::to_string(shared) + " bytes of scratch"};
  return Status::ok();
}

Source Binder::raw_input(size_t i) const {
  Source s;
  if (op.in[i] == kNoTensor) return s;
  s.index = static_cast<int32_t>(i);
  s.tensor = &b_.program->tensors[op.in[i]];
  s.dtype = s.tensor->dtype;
  if (b_.weights && b_.weights[i].data) {
    s.weight = b_.weights[i].data;
    s.weight_id = b_.weights[i].id;
    s.dtype = b_.weights[i].dtype;
  }
  return s;
}

Sink Binder::raw_output(size_t i) const {
  Sink s;
  if (op.out[i] == kNoTensor) return s;
  s.index = static_cast<int32_t>(i);
  s.tensor = &b_.program->tensors[op.out[i]];
  s.dtype = s.tensor->dtype;
  return s;
}

Status Binder::input(size_t i, const char* what, Source* s) const {
  *s = raw_input(i);
  return !s->present() || computes(s->dtype) ? Status::ok() : not_computed(what, s->dtype);
}

Status Binder::output(size_t i, const char* what, Sink* s) const {
  *s = raw_output(i);
  return !s->present() || computes(s->dtype) ? Status::ok() : not_computed(what, s->dtype);
}

Status make_cpu_backend(const DeviceOptions& options, std::unique_ptr<Backend>* out) {
  try {
    auto backend = std::make_unique<CpuBackend>();
    ECAD_TRY(backend->init(options));
    *out = std::move(backend);
    return Status::ok();
  } catch (const std::bad_alloc&) {
    return {ECAD_OUT_OF_MEMORY, "no memory to open the cpu device"};
  }
}

}  // namespace ecad
