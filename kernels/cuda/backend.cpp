// The CUDA backend: device memory, and which kernels an op gets.
#include <cstring>

#include "../core/text.h"
#include "executor.h"

namespace ecad {
namespace cuda {
namespace {

using BindFunction = Status (*)(const Binder&, std::unique_ptr<Kernel>*);

BindFunction bind_function(Opcode code) {
  switch (code) {
#define ECAD_BIND_CASE(code, name) case Opcode::code: return bind_##name;
    ECAD_EACH_OPCODE(ECAD_BIND_CASE)
#undef ECAD_BIND_CASE
  }
  return nullptr;
}

class CudaBackend final : public Backend {
 public:
  Status init(const DeviceOptions& options) {
    ECAD_TRY(cx_.init(options.ordinal));
    cx_.sm90 = cx_.device.arch() == 90 && options.isa != ECAD_ISA_GENERIC;
    cx_.graphs = options.graphs;
    if (options.multiprocessors > 0) cx_.device.multiprocessors = options.multiprocessors;
    if (options.gemm == ECAD_GEMM_CUBLASLT) ECAD_TRY(CublasLt::open(&cx_.cublaslt));
    return Status::ok();
  }

  void describe(BackendInfo* info) const override {
    const DeviceProperties& d = cx_.device;
    info->name = text("cuda: ", d.name);
    info->features = text("sm_", d.arch(), ", ", d.multiprocessors, " multiprocessors, driver for CUDA ", d.driver, cx_.cublaslt != nullptr ? text(", cuBLASLt ", cx_.cublaslt->version()) : "");
    info->num_threads = 1;
    info->fast_bfloat16 = true;
    info->memory_total = d.memory_total;
  }

  std::unique_ptr<WeightCache> new_weight_cache() override { return std::make_unique<PackCache>(cx_); }

  Status bind(const BindContext& b, std::unique_ptr<Kernel>* out) override {
    ECAD_TRY(cx_.fail(cx_.poison));
    const BindFunction f = bind_function(b.op->code);
    if (f == nullptr) return unsupported("does not know this opcode");
    auto* cache = static_cast<PackCache*>(b.cache);
    if (cache != nullptr) cache->begin(b);
    const Status status = f(Binder(cx_, b), out);
    if (cache != nullptr) cache->end();
    return status;
  }
  bool packs(const BindContext&) const override { return true; }

  Status new_executor(const BoundProgram& bound, std::unique_ptr<Executor>* out) override {
    auto executor = std::make_unique<CudaExecutor>(cx_, graphs_, bound);
    ECAD_TRY(executor->init());
    *out = std::move(executor);
    return Status::ok();
  }

  GraphStats graph_stats() const override { return graphs_.stats(); }
  Status memory_free(uint64_t* bytes) override { return cx_.fail(cuda::memory_free(bytes)); }

  void* allocate(size_t bytes) override {
    void* p = nullptr;
    return cuda::allocate(bytes, &p).is_ok() ? p : nullptr;
  }
  void deallocate(void* p, size_t) override { release(p); }

  Status upload(void* dst, const void* src, size_t bytes) override {
    return cx_.stage(dst, bytes, 1, [&](size_t at, size_t n, void* to) {
      std::memcpy(to, static_cast<const char*>(src) + at, n);
      return Status::ok();
    });
  }

  Status download(void* dst, const void* src, size_t bytes) override {
    ECAD_TRY(cx_.unstage(dst, src, bytes));
    return cx_.check_fault();
  }

  uint64_t packed_bytes() const override { return cx_.cached_bytes + cx_.scratch_bytes(); }

  Status synchronize() override {
    ECAD_TRY(cx_.fail(cx_.poison));
    ECAD_TRY(cx_.fail(cx_.stream.synchronize()));
    return cx_.check_fault();
  }

 private:
  Context cx_;
  GraphCache graphs_;
};

}  // namespace

}  // namespace cuda

Status make_cuda_backend(const DeviceOptions& options, std::unique_ptr<Backend>* out) {
  auto backend = std::make_unique<cuda::CudaBackend>();
  ECAD_TRY(backend->init(options));
  *out = std::move(backend);
  return Status::ok();
}

int32_t cuda_device_count(std::string* why) { return cuda::device_count(why); }

}  // namespace ecad
