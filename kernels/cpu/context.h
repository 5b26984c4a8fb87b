// What the kernels of one cpu device share, and how they find their operands.
#pragma once
#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "../core/backend.h"
#include "../core/opcodes.h"
#include "memory.h"
#include "onednn.h"
#include "row_kernels.h"
#include "team.h"
#include "views.h"

namespace ecad {

// Owned by the backend; used on the device's thread only.
struct Context {
  std::unique_ptr<Team> team;
  std::unique_ptr<OneDnn> dnn;
  const RowKernels* rows = nullptr;
  std::vector<AlignedBuffer> thread_scratch;  // one per thread of the team
  AlignedBuffer shared_scratch;
  uint64_t cached_bytes = 0;                  // held by weight caches

  // Reserved when kernels are bound, so that running allocates nothing and a device's memory is known after loading.
  Status reserve(size_t per_thread, size_t shared = 0);
  char* scratch(int32_t thread) const { return thread_scratch[static_cast<size_t>(thread)].as<char>(); }
  char* shared() const { return shared_scratch.as<char>(); }

  // Team::each, on the calling thread alone when the whole loop is worth less than waking helpers: work counts multiplications, or bytes moved.
  template <class Body>
  void each(int64_t count, int64_t work, const Body& body) const {
    if (work < kWorthHelpers) {
      for (int64_t i = 0; i < count; ++i) body(i, 0);
    } else {
      team->each(count, body);
    }
  }
  // As each, for bodies that return a Status: the first failure in item order of those that ran.
  template <class Body>
  Status try_each(int64_t count, int64_t work, const Body& body) {
    for (Status& s : failures) s = Status::ok();
    each(count, work, [&](int64_t item, int32_t thread) {
      Status& mine = failures[static_cast<size_t>(thread)];
      if (!mine.is_ok()) return;
      try {
        mine = body(item, thread);
      } catch (const std::bad_alloc&) {  // must not leave a helper thread
        mine = Status(ECAD_OUT_OF_MEMORY, "out of memory");
      }
    });
    for (const Status& s : failures)
      if (!s.is_ok()) return s;
    return Status::ok();
  }
  std::vector<Status> failures;  // one per thread

  static constexpr int64_t kWorthHelpers = 200000;
};

// Packed weights and converted biases of one weights object, by what they were made from.
class PackCache final : public WeightCache {
 public:
  using Key = std::vector<uint64_t>;
  explicit PackCache(Context& cx) : cx_(cx) {}
  ~PackCache() override { cx_.cached_bytes -= bytes_; }
  template <class T>
  std::shared_ptr<T> find(const Key& key) const {
    const auto it = entries_.find(key);
    return it == entries_.end() ? nullptr : std::static_pointer_cast<T>(it->second);
  }
  void keep(const Key& key, std::shared_ptr<void> entry, size_t bytes) {
    entries_[key] = std::move(entry);
    bytes_ += bytes;
    cx_.cached_bytes += bytes;
  }

 private:
  Context& cx_;
  std::map<Key, std::shared_ptr<void>> entries_;
  uint64_t bytes_ = 0;
};

// First number of a cache key.
enum class PackKind : uint64_t { kMatrix = 1, kFilter = 2, kVector = 3 };

// An input operand: a weight at its place in the checkpoint, or a view resolved at run time.
struct Source {
  int32_t index = -1;  // -1: absent
  const void* weight = nullptr;
  uint32_t weight_id = 0;
  DType dtype = DType::kF32;
  const Tensor* tensor = nullptr;

  bool present() const { return index >= 0; }
  const void* data(const RunContext& c) const { return weight ? weight : c.in[index].data; }
  RowPtr row(const RunContext& c, int64_t offset) const { return present() ? RowPtr{at(data(c), dtype, offset), dtype} : RowPtr{}; }
};

// An output operand.
struct Sink {
  int32_t index = -1;
  DType dtype = DType::kF32;
  const Tensor* tensor = nullptr;

  bool present() const { return index >= 0; }
  void* data(const RunContext& c) const { return c.out[index].data; }
};

// Holds the bytes of weights while they are packed.
class HeldWeights {
 public:
  HeldWeights() = default;
  HeldWeights(const HeldWeights&) = delete;
  HeldWeights& operator=(const HeldWeights&) = delete;
  ~HeldWeights() {
    for (const uint32_t id : ids_) bytes_->let_go(id);
  }
  Status hold(PackCache* cache, const std::vector<Source>& sources) {
    bytes_ = cache->bytes;
    if (!bytes_) return Status::ok();
    ids_.reserve(sources.size());
    for (const Source& s : sources) {
      if (!s.weight) continue;
      ECAD_TRY(bytes_->hold(s.weight_id));
      ids_.push_back(s.weight_id);
    }
    return Status::ok();
  }

 private:
  WeightBytes* bytes_ = nullptr;
  std::vector<uint32_t> ids_;
};

// Operands of an op being bound. Float operands must be float32, bfloat16 or float16 here.
class Binder {
 public:
  Binder(Context& cx, const BindContext& b) : cx(cx), op(*b.op), b_(b) {}
  Status input(size_t i, const char* what, Source*) const;   // absent stays absent
  Status output(size_t i, const char* what, Sink*) const;
  // Any dtype, for ops that move or index.
  Source raw_input(size_t i) const;
  Sink raw_output(size_t i) const;
  PackCache* cache() const { return static_cast<PackCache*>(b_.cache); }

  Context& cx;
  const Op& op;

 private:
  const BindContext& b_;
};

using KernelPtr = std::unique_ptr<Kernel>;

// Makes a K(binder) and lets it bind.
template <class K>
Status bind_as(const Binder& b, KernelPtr* out) {
  auto k = std::make_unique<K>(b);
  ECAD_TRY(k->bind(b));
  *out = std::move(k);
  return Status::ok();
}

#define ECAD_DECLARE_BIND(code, name) Status bind_##name(const Binder&, KernelPtr*);
ECAD_EACH_OPCODE(ECAD_DECLARE_BIND)
#undef ECAD_DECLARE_BIND

}  // namespace ecad
