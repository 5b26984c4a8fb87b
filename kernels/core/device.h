// A device: a backend, the one thread that it lives on, and its memory.
#pragma once
#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <type_traits>

#include "backend.h"

namespace ecad {

// A persistent buffer, shared by the states that refer to it.
struct SharedBuffer {
  std::atomic<uint32_t> refs{1};
  uint64_t bytes = 0;
  void* data = nullptr;
  SharedBuffer* next = nullptr;  // in the pool
};

class Device {
 public:
  static Status open(int32_t backend, const DeviceOptions&, std::shared_ptr<Device>* out);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  // Runs f on the device's thread, after what was queued before, and waits for it. On the device's own thread (an on_item callback)
  // it runs at once. Throws std::bad_alloc if f does; any other exception is ECAD_INTERNAL.
  template <class F>
  Status call(F&& f) {
    Status result;
    auto body = [&] { result = f(); };
    Status failure = submit([](void* context) { (*static_cast<decltype(body)*>(context))(); }, &body);
    return failure.is_ok() ? std::move(result) : std::move(failure);
  }
  bool on_thread() const { return std::this_thread::get_id() == worker_.get_id(); }

  int32_t backend_kind() const { return kind_; }
  const BackendInfo& info() const { return info_; }
  Backend& backend() { return *backend_; }

  // Memory. What allocates runs on the device's thread; what releases, on any.
  Status allocate(uint64_t bytes, void** out);
  void deallocate(void* data, uint64_t bytes);
  Status ensure_arena(uint64_t bytes);
  void* arena() const { return arena_; }
  uint64_t arena_bytes() const { return arena_bytes_; }
  uint64_t pooled();  // bytes of free buffers in the pool
  Status acquire(uint64_t bytes, SharedBuffer** out);  // from the pool, with one reference; content is undefined
  static void retain(SharedBuffer* b) { b->refs.fetch_add(1, std::memory_order_relaxed); }
  void release(SharedBuffer*);
  void program_loaded() { ++programs_; }
  void program_released();  // the last one takes pool and arena with it

  void note_memory();  // after binding, running and releasing: what the backend holds may have changed
  uint64_t memory_used() const { return used_.load() + packed_.load(); }
  uint64_t memory_peak() const { return peak_.load(); }
  GraphStats graphs() const { return {graphs_.load(), graph_bytes_.load(), graph_ns_.load()}; }

 private:
  // A call that waits; it lives on its caller's stack.
  struct Call {
    Call(void (*f)(void*), void* c) : invoke(f), context(c) {}
    void (*invoke)(void*);
    void* context;
    Call* next = nullptr;
    bool done = false;
    bool out_of_memory = false;
    bool failed = false;
    char what[200] = {};
    std::condition_variable finished;
  };

  explicit Device(int32_t kind) : kind_(kind) {}
  Status submit(void (*invoke)(void*), void* context);
  static void perform(Call*);
  void start();
  void work();
  void trim();

  const int32_t kind_;
  BackendInfo info_;
  std::unique_ptr<Backend> backend_;

  std::mutex queue_mutex_;
  std::condition_variable queued_;
  Call* first_ = nullptr;
  Call* last_ = nullptr;
  bool stopping_ = false;
  std::thread worker_;

  void* arena_ = nullptr;
  uint64_t arena_bytes_ = 0;
  uint32_t programs_ = 0;
  std::mutex pool_mutex_;
  std::map<uint64_t, SharedBuffer*> pool_;  // free buffers by size; a size once seen keeps its entry, so release never allocates
  std::atomic<uint64_t> used_{0}, packed_{0}, peak_{0};
  std::atomic<uint64_t> graphs_{0}, graph_bytes_{0}, graph_ns_{0};
};

}  // namespace ecad
