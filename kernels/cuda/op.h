// A bound op of the CUDA backend, and what binding an op has at hand.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../core/backend.h"
#include "../core/dtype.h"
#include "../core/opcodes.h"
#include "cublaslt.h"
#include "frame.h"
#include "runtime.h"

namespace ecad::cuda {

// What an op is enqueued with. in, out: one Ref per operand (absent ones are not to be used; weights have their own).
struct Launch {
  Stream* stream;
  Head head;
  const Ref* in;
  const Ref* out;
  const Ref* maps;  // addresses of tensor maps, one per MapRequest, in order
};

// A tensor map of an operand whose buffer may be another one at each step: the executor keeps one per buffer in device memory, never
// changed while it may be read. desc.base is the operand's offset into its buffer.
struct MapRequest {
  bool output;
  uint32_t operand;
  TensorMapDesc desc;
};

class Context;

class CudaOp : public Kernel {
 public:
  explicit CudaOp(Context& cx) : cx_(cx) {}
  // Alone, on addresses: enqueues and waits. Faults that kernels found are errors.
  Status run(const RunContext&) final;
  // Puts the op's kernels on the stream. Must not wait, allocate or copy from memory that is not pinned: it may be under capture.
  virtual Status enqueue(const Launch&) = 0;
  // Asked once, when both are bound: whether this op can do the work of the one behind it in the section too, and does it cheaper. Then enqueue_both stands for both.
  virtual bool take_over(const CudaOp& /*next*/) { return false; }
  virtual Status enqueue_both(const Launch& own, const Launch& /*next*/) { return enqueue(own); }
  const std::vector<MapRequest>& maps() const { return maps_; }

 protected:
  Context& cx_;
  std::vector<MapRequest> maps_;

 private:
  friend class Binder;
  const Op* op_ = nullptr;
  uint32_t index_ = 0;
};

// Device memory of its own.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  ~DeviceBuffer() { release(data_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  Status allocate(size_t bytes);
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// What the ops of one device share. Used on the device's thread only.
class Context {
 public:
  Status init(int32_t ordinal);
  ~Context();

  DeviceProperties device;
  bool sm90 = false;  // may use what sm_90a alone has: wgmma, bulk tensor copies
  bool graphs = true;
  std::unique_ptr<CublasLt> cublaslt;  // null: own kernels multiply
  Stream stream;
  Breadcrumb* breadcrumb = nullptr;  // pinned
  Frame* direct = nullptr;           // the frame of ops that run alone: no entries
  uint64_t cached_bytes = 0;         // packed weights
  Status poison;                     // the first CUDA error that no later call survives; every later call returns it

  // Fills device memory through two pinned buffers: write(at, bytes, to) makes the bytes from `at` on. Chunks are multiples of `unit`.
  Status stage(void* device, size_t bytes, size_t unit, const std::function<Status(size_t at, size_t bytes, void* to)>& write);

  // Copies device memory to memory of any kind, and waits.
  Status unstage(void* host, const void* device, size_t bytes);

  // Scratch that ops use one after another, at one address: ops ask for it when they are bound and read scratch() when they are enqueued.
  // Growing it moves it: generation() changes, and graphs that hold the old address are captured anew.
  Status reserve_scratch(size_t bytes);
  void* scratch() const { return scratch_ ? scratch_->data() : nullptr; }
  uint64_t generation() const { return generation_; }
  uint64_t scratch_bytes() const { return scratch_ ? scratch_->bytes() : 0; }

  // After waiting for the stream: an error that a kernel reported, or a CUDA error (which poisons the device).
  Status check_fault(bool in_section = true);  // whether the step that the kernel saw is that of the run
  Status fail(Status);

 private:
  static constexpr size_t kStageBytes = size_t{8} << 20;
  struct Stage {
    void* data = nullptr;
    Event done;
  };
  Stage stages_[2];
  std::unique_ptr<DeviceBuffer> scratch_;
  uint64_t generation_ = 0;
};

// Packed weights of one weights object, by what they were made from.
class PackCache final : public WeightCache {
 public:
  using Key = std::vector<uint64_t>;
  explicit PackCache(Context& cx) : cx_(cx) {}
  ~PackCache() override;
  // The entry, or a new one of so many bytes that fill was called for.
  Status get(const Key& key, size_t bytes, const std::function<Status(void* device)>& fill, void** out);

  // Around the binding of an op: the bytes of its weights are held from the first one that is not packed yet.
  void begin(const BindContext&);
  void end();

 private:
  Context& cx_;
  std::vector<uint32_t> wanted_;  // ids of the op's weights
  size_t held_ = 0;               // of them
  std::map<Key, std::unique_ptr<DeviceBuffer>> entries_;
};
// First number of a key.
enum class Pack : uint64_t { kVector = 1, kMatrix, kGatedMatrix, kFilter, kColumns, kBias };

// An input of an op being bound: a view resolved at run time, or a weight at its place in the checkpoint.
struct Source {
  int32_t index = -1;  // -1: absent
  const Tensor* tensor = nullptr;
  DType dtype = DType::kF32;       // of a weight: as stored, until it is packed
  const WeightView* weight = nullptr;
  void* packed = nullptr;          // device copy of the weight, once made

  bool present() const { return index >= 0; }
  Ref ref(const Launch& l) const { return packed != nullptr ? fixed_ref(packed) : l.in[index]; }
};

struct Sink {
  int32_t index = -1;
  const Tensor* tensor = nullptr;
  DType dtype = DType::kF32;

  bool present() const { return index >= 0; }
  Ref ref(const Launch& l) const { return l.out[index]; }
};

// Operands of an op being bound. input and output accept float32 and bfloat16 (a weight of any float type is converted when it is packed);
// the raw forms take every type.
class Binder {
 public:
  Binder(Context& c, const BindContext& b) : cx(c), program(*b.program), op(*b.op), b_(b) {}
  Status input(size_t i, const char* what, Source*) const;
  Status output(size_t i, const char* what, Sink*) const;
  Source raw_input(size_t i) const;
  Sink raw_output(size_t i) const;
  // Copies a weight to the device in its own order, converted to `to`; source->packed and dtype then say where and what. No weight: nothing.
  Status pack(Source*, DType to) const;
  PackCache* cache() const { return static_cast<PackCache*>(b_.cache); }
  // The host values of a constant operand (dense), null when it is none.
  const void* constant(size_t i) const;

  // Makes a K(cx) and lets it bind.
  template <class K>
  Status as(std::unique_ptr<Kernel>* out) const {
    auto k = std::make_unique<K>(cx);
    k->op_ = &op;
    k->index_ = static_cast<uint32_t>(&op - program.ops.data());
    ECAD_TRY(k->bind(*this));
    *out = std::move(k);
    return Status::ok();
  }

  Context& cx;
  const Program& program;
  const Op& op;

 private:
  const BindContext& b_;
};

Status unsupported(std::string what);  // "the CUDA backend cannot: what"

// bind_copy, bind_linear, ...: ops_*.cpp define them.
#define ECAD_DECLARE_BIND(code, name) Status bind_##name(const Binder&, std::unique_ptr<Kernel>*);
ECAD_EACH_OPCODE(ECAD_DECLARE_BIND)
#undef ECAD_DECLARE_BIND

}  // namespace ecad::cuda
