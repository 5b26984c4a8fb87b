// The runtime of the emulated device: memory is the host's, a stream runs what it is given at once (or, in tests, when somebody waits for it: emu/device.h), a graph is
// the list of what was recorded.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "../core/text.h"
#include "emu/device.h"
#include "emu/emulator.h"
#include "runtime.h"

namespace ecad::cuda {
namespace {

constexpr uint64_t kMemory = uint64_t{4} << 30;  // what the emulated device says it has
uint64_t used = 0;                               // by allocate; one device, one thread

using Work = std::vector<std::function<Status()>>;

// Every block starts with its size, in a unit of the alignment.
constexpr size_t kAlignment = 256;

void* allocate_host(size_t bytes, int fill) {
  const size_t size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  void* p = std::aligned_alloc(kAlignment, size + kAlignment);
  if (p == nullptr) return nullptr;
  std::memcpy(p, &size, sizeof size);
  auto* data = static_cast<unsigned char*>(p) + kAlignment;
  std::memset(data, fill, size);
  return data;
}

size_t free_host(void* p) {
  if (p == nullptr) return 0;
  void* start = static_cast<unsigned char*>(p) - kAlignment;
  size_t size = 0;
  std::memcpy(&size, start, sizeof size);
  std::free(start);
  return size;
}

emu::DeviceBehaviour behaviour;
int64_t kernels_begun = 0;
uint64_t events_ahead = 0, most_ahead = 0;
Status broken;  // what every call returns once the device is: as in CUDA nothing mends it but a new context, here set_device

// What a stream's impl_ is: launches come through it too.
struct Recorder final : emu::Queue {
  std::unique_ptr<Work> recording;  // while capturing
  std::deque<std::function<Status()>> waiting;
  uint64_t given = 0, done = 0;     // pieces of work; given - done are waiting

  Recorder() {
    const std::lock_guard<std::mutex> lock(all().mutex);
    all().list.push_back(this);
  }
  ~Recorder() override {
    (void)finish(given);
    const std::lock_guard<std::mutex> lock(all().mutex);
    all().list.erase(std::find(all().list.begin(), all().list.end(), this));
  }
  static void finish_all() {
    if (!behaviour.late) return;
    const std::lock_guard<std::mutex> lock(all().mutex);
    for (Recorder* r : all().list) (void)r->finish(r->given);
  }

  Status enqueue(const KernelEntry& kernel, const LaunchShape& shape, const void* params, size_t bytes) override {
    if (recording == nullptr && !behaviour.late) return submit([&] { return begin(kernel, shape, params, bytes); });
    const auto* from = static_cast<const char*>(params);
    // what operator new gives is aligned for 16 bytes; tensor maps in parameters need 128
    std::shared_ptr<char> copy(static_cast<char*>(allocate_host(bytes, 0)), [](char* p) { free_host(p); });
    std::copy(from, from + bytes, copy.get());
    return submit([=] { return begin(kernel, shape, copy.get(), bytes); });
  }
  // An error of work that is done late is that of whoever waits for it, and of everybody after.
  Status submit(std::function<Status()> work) {
    ECAD_TRY(broken);
    if (recording != nullptr) {
      recording->push_back(std::move(work));
      return Status::ok();
    }
    if (!behaviour.late) return work();
    waiting.push_back(std::move(work));
    ++given;
    return Status::ok();
  }
  // Until so many pieces are done.
  Status finish(uint64_t count) {
    while (done < count && !waiting.empty()) {
      const std::function<Status()> work = std::move(waiting.front());
      waiting.pop_front();
      ++done;
      const Status s = broken.is_ok() ? work() : broken;
      if (!s.is_ok()) broken = s;
    }
    return broken;
  }

 private:
  struct All {
    std::mutex mutex;
    std::vector<Recorder*> list;
  };
  static All& all() {
    static All* const a = new All;  // never destroyed: streams may outlive whatever ends with the process
    return *a;
  }
  static Status begin(const KernelEntry& kernel, const LaunchShape& shape, const void* params, size_t bytes) {
    ECAD_TRY(launch_kernel(nullptr, kernel, shape, params, bytes));
    if (kernels_begun++ == behaviour.breaks_at) broken = Status(ECAD_DEVICE_ERROR, "cuda: the device failed: an illegal address, as a test wants it");
    return Status::ok();
  }
};
Recorder* recorder(void* impl) { return static_cast<Recorder*>(static_cast<emu::Queue*>(impl)); }

uint64_t now_ns() { return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count()); }

}  // namespace

void emu::set_device(const emu::DeviceBehaviour& b) {
  Recorder::finish_all();
  behaviour = b;
  kernels_begun = 0;
  events_ahead = most_ahead = 0;
  broken = Status::ok();
}

uint64_t emu::most_events_ahead() { return most_ahead; }

struct Graph::Impl {
  std::shared_ptr<Work> work;
};

Graph::~Graph() { delete impl_; }

int32_t device_count(std::string*) { return 1; }

Status open_device(int32_t ordinal, DeviceProperties* out) {
  if (ordinal != 0) return Status(ECAD_NO_DEVICE, text("the emulator has one device, ordinal 0, not ", ordinal));
  *out = DeviceProperties();
  out->name = "emulated";
  out->driver = "none";
  out->major = 9;
  out->multiprocessors = 4;
  out->smem_per_block = 227 * 1024;
  out->l2_bytes = 50 << 20;
  out->memory_total = kMemory;
  return Status::ok();
}

Status memory_free(uint64_t* bytes) {
  *bytes = kMemory - used;
  return Status::ok();
}

// New memory is 0xFF: NaN in float32 and bfloat16.
Status allocate(size_t bytes, void** out) {
  *out = used + bytes <= kMemory ? allocate_host(bytes, 0xFF) : nullptr;
  if (*out == nullptr) return Status(ECAD_OUT_OF_MEMORY, text("device memory: ", bytes, " bytes are not to be had"));
  used += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  emu::add_memory(*out, bytes);
  return Status::ok();
}

// Waits for all streams, as CUDA does.
void release(void* p) {
  Recorder::finish_all();
  emu::remove_memory(p);
  used -= free_host(p);
}

Status allocate_pinned(size_t bytes, void** out) {
  *out = allocate_host(bytes, 0);
  if (*out == nullptr) return Status(ECAD_OUT_OF_MEMORY, text("pinned memory: ", bytes, " bytes are not to be had"));
  emu::add_memory(*out, bytes);  // kernels write breadcrumbs to it
  return Status::ok();
}

void release_pinned(void* p) {
  Recorder::finish_all();
  emu::remove_memory(p);
  free_host(p);
}

// ---- streams ---------------------------------------------------------------------------------------------------

Stream::~Stream() { delete static_cast<emu::Queue*>(impl_); }

Status Stream::create() {
  impl_ = static_cast<emu::Queue*>(new Recorder);
  return Status::ok();
}

Status Stream::upload(void* device, const void* host, size_t bytes) {
  return recorder(impl_)->submit([=] {
    std::memcpy(device, host, bytes);
    return Status::ok();
  });
}

Status Stream::download(void* host, const void* device, size_t bytes) { return upload(host, device, bytes); }

Status Stream::fill(void* device, int byte, size_t bytes) {
  return recorder(impl_)->submit([=] {
    std::memset(device, byte, bytes);
    return Status::ok();
  });
}

Status Stream::synchronize() { return !capturing() ? recorder(impl_)->finish(recorder(impl_)->given) : Status(ECAD_INTERNAL, "a stream under capture cannot be waited for"); }

bool Stream::capturing() const { return recorder(impl_)->recording != nullptr; }

Status Stream::begin_capture() {
  if (capturing()) return Status(ECAD_INTERNAL, "the stream is under capture");
  recorder(impl_)->recording = std::make_unique<Work>();
  return Status::ok();
}

Status Stream::end_capture(Graph* out) {
  if (!capturing()) return Status(ECAD_INTERNAL, "the stream is not under capture");
  delete out->impl_;
  out->impl_ = new Graph::Impl{std::move(recorder(impl_)->recording)};
  return Status::ok();
}

void Stream::abandon_capture() { recorder(impl_)->recording.reset(); }

Status Stream::launch(const Graph& graph) {
  if (capturing() || graph.impl_ == nullptr) return Status(ECAD_INTERNAL, "no graph, or the stream is under capture");
  for (size_t i = 0; i < graph.impl_->work->size(); ++i) ECAD_TRY(recorder(impl_)->submit([work = graph.impl_->work, i] { return (*work)[i](); }));
  return broken;
}

Status Stream::call(std::function<Status(void*)> f) {
  return recorder(impl_)->submit([f = std::move(f), native = impl_] { return f(native); });
}

// ---- events ------------------------------------------------------------------------------------------------------

namespace {

struct EventState {
  std::shared_ptr<uint64_t> time = std::make_shared<uint64_t>(0);  // of the last record that was reached
  Recorder* stream = nullptr;
  uint64_t at = 0;  // pieces of the stream's work up to the last record
};
EventState* event(void* impl) { return static_cast<EventState*>(impl); }

}  // namespace

Event::~Event() { delete event(impl_); }

Status Event::create(bool) {
  delete event(impl_);
  impl_ = new EventState;
  return Status::ok();
}

Status Event::record(Stream& stream) {
  if (stream.capturing()) return Status(ECAD_INTERNAL, "events are not captured");
  EventState* e = event(impl_);
  e->stream = recorder(stream.native());
  most_ahead = std::max(most_ahead, ++events_ahead);
  const Status s = e->stream->submit([time = e->time] {
    *time = now_ns();
    --events_ahead;
    return Status::ok();
  });
  e->at = e->stream->given;
  return s;
}

Status Event::wait() { return event(impl_)->stream == nullptr ? Status::ok() : event(impl_)->stream->finish(event(impl_)->at); }

Status Event::nanoseconds(const Event& from, const Event& to, uint64_t* out) {
  *out = *event(to.impl_)->time - *event(from.impl_)->time;
  return Status::ok();
}

Status encode_tensor_map(const TensorMapDesc& desc, TensorMap* out) { return emu::encode_tensor_map(desc, out); }

}  // namespace ecad::cuda
