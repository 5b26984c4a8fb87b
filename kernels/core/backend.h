// What a backend implements. The core (device.cpp, state.cpp, run.cpp) owns threads, tables, validation and errors; a backend turns
// validated ops into kernels once (bind) and runs them on resolved addresses.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "program.h"
#include "status.h"

namespace ecad {

// One tensor of a checkpoint in host memory, dense, perhaps unaligned.
struct WeightView {
  const Tensor* tensor;  // dims as the program sees them
  DType dtype;           // as stored: kF32, kBF16, kF16 (kF64 for tests)
  const void* data;
  uint32_t id;           // position in the weights object: the key of the packing cache
};

// An op's operand as a kernel sees it at run time: base address of the view (offset and step applied). Null for absent operands, for
// weights (bind was given them) and for a lincomb term that is not read because its coefficient is 0.
struct Operand {
  void* data;
};

struct RunContext {
  const Operand* in;
  const Operand* out;
  uint32_t step;
};

// A bound op. run is called on the device's own thread only; it may use the device's own team of threads.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual Status run(const RunContext&) = 0;
};

// Makes the bytes behind WeightView::data be there while somebody reads them.
class WeightBytes {
 public:
  virtual ~WeightBytes() = default;
  virtual Status hold(uint32_t id) = 0;  // counted
  virtual void let_go(uint32_t id) = 0;  // once for each hold
};

// Packed weights of one weights object, kept by the backend; shared by every program bound to it.
class WeightCache {
 public:
  virtual ~WeightCache() = default;
  WeightBytes* bytes = nullptr;  // of the weights object, which outlives the cache; null: they are always there
};

struct BindContext {
  const Program* program;
  const Op* op;
  const WeightView* weights;  // one per op input; data null where that input is no weight
  WeightCache* cache;         // null when the program has no weights
};

// Run-time address of an operand: base[base] + offset + step * step_bytes. Bases of a run: nothing, arena, constants, then the state's
// persistent buffers.
struct Recipe {
  uint32_t base;
  int64_t offset, step_bytes;
};
enum : uint32_t { kNoBase = 0, kArenaBase = 1, kConstantBase = 2, kFirstPersistentBase = 3 };

// A program whose ops are bound, as an executor sees it. What it points to outlives the executor.
struct BoundProgram {
  const Program* program;
  const Recipe* recipes;         // of every op in turn: its inputs, then its outputs
  const uint32_t* first_recipe;  // of each op
  Kernel* const* kernels;
  void* constants;
};

struct OpTime { uint32_t op; uint64_t start_ns, dur_ns; };  // since the section began

// One section to run. before, after: address of each persistent buffer as the section finds it (null: it was never written) and once the
// section has written it (the same where it does not).
struct SectionCall {
  uint32_t section, step;
  void* arena;
  void* const* before;
  void* const* after;
  std::vector<OpTime>* times;  // null: not wanted
};

// Runs whole sections of one program. On the device's thread, like everything here.
class Executor {
 public:
  virtual ~Executor() = default;
  // Queues the section behind what was queued before; with times, waits for it. Backend::synchronize waits, and reports what went wrong since.
  virtual Status run(const SectionCall&) = 0;
};

struct GraphStats { uint64_t graphs = 0, bytes = 0, nanoseconds = 0; };  // instantiated so far; device memory they hold; time that took

// What ecad_device_query reports of a backend.
struct BackendInfo {
  std::string name;      // "cpu: AMD EPYC ..."
  std::string features;  // "avx512f avx512_bf16"
  int32_t num_threads = 1;
  bool fast_bfloat16 = false;
  uint64_t memory_total = 0;  // bytes; 0: the core fills in the machine's memory
};

// Everything here is called on the device's own thread only, constructor and destructor included.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual void describe(BackendInfo*) const {}
  virtual std::unique_ptr<WeightCache> new_weight_cache() = 0;
  // Whether bind copies every weight of the op, holding its bytes while it does. Otherwise they are held as long as the program is loaded.
  virtual bool packs(const BindContext&) const { return false; }
  // Picks and prepares a kernel (packs weights through the cache). kUnsupported names what it cannot do.
  virtual Status bind(const BindContext&, std::unique_ptr<Kernel>* out) = 0;
  // Device memory. All sizes are rounded up by the caller to 64 bytes. null: out of memory.
  virtual void* allocate(size_t bytes) = 0;
  virtual void deallocate(void*, size_t bytes) = 0;
  virtual Status upload(void* dst, const void* src, size_t bytes) = 0;    // host to device
  virtual Status download(void* dst, const void* src, size_t bytes) = 0;  // device to host
  virtual uint64_t packed_bytes() const = 0;  // held by weight caches and kernels
  // A backend that runs sections whole gives an executor; null: the core runs op by op.
  virtual Status new_executor(const BoundProgram&, std::unique_ptr<Executor>* out) {
    out->reset();
    return Status::ok();
  }
  virtual GraphStats graph_stats() const { return {}; }
  // Device memory that is still to be had; 0: not known.
  virtual Status memory_free(uint64_t* bytes) {
    *bytes = 0;
    return Status::ok();
  }
  virtual Status synchronize() { return Status::ok(); }  // waits for what run, upload and download started
};

struct DeviceOptions {
  int32_t ordinal, num_threads, isa;
  int32_t gemm = ECAD_GEMM_AUTO;
  bool graphs = true;
  int32_t multiprocessors = 0;  // cuda: choose kernels as for a device of so many; 0: as it has. For tests: few make small shapes take every size of tile
};

// Factories; each backend's folder defines one.
Status make_reference_backend(const DeviceOptions&, std::unique_ptr<Backend>* out);
Status make_cpu_backend(const DeviceOptions&, std::unique_ptr<Backend>* out);
Status make_cuda_backend(const DeviceOptions&, std::unique_ptr<Backend>* out);
int32_t cuda_device_count(std::string* why);  // why: one line when there are none

}  // namespace ecad
