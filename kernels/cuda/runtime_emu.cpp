// The runtime of the emulated device: memory is the host's, a stream runs what it is given at once, a graph is the list of what was recorded.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "../core/text.h"
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

// What a stream's impl_ is: launches come through it too.
struct Recorder final : emu::Queue {
  std::unique_ptr<Work> recording;  // while capturing
  Status enqueue(const KernelEntry& kernel, const LaunchShape& shape, const void* params, size_t bytes) override {
    if (recording == nullptr) return launch_kernel(nullptr, kernel, shape, params, bytes);
    const auto* from = static_cast<const char*>(params);
    // what operator new gives is aligned for 16 bytes; tensor maps in parameters need 128
    std::shared_ptr<char> copy(static_cast<char*>(allocate_host(bytes, 0)), [](char* p) { free_host(p); });
    std::copy(from, from + bytes, copy.get());
    return submit([=] { return launch_kernel(nullptr, kernel, shape, copy.get(), bytes); });
  }
  Status submit(std::function<Status()> work) {
    if (recording == nullptr) return work();
    recording->push_back(std::move(work));
    return Status::ok();
  }
};
Recorder* recorder(void* impl) { return static_cast<Recorder*>(static_cast<emu::Queue*>(impl)); }

uint64_t now_ns() { return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count()); }

}  // namespace

struct Graph::Impl {
  std::unique_ptr<Work> work;
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

void release(void* p) {
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

Status Stream::synchronize() { return !capturing() ? Status::ok() : Status(ECAD_INTERNAL, "a stream under capture cannot be waited for"); }

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
  for (const auto& work : *graph.impl_->work) ECAD_TRY(work());
  return Status::ok();
}

Status Stream::call(std::function<Status(void*)> f) {
  return recorder(impl_)->submit([f = std::move(f), native = impl_] { return f(native); });
}

// ---- events: impl_ is the time of the last record ----------------------------------------------------------------

Event::~Event() { delete static_cast<uint64_t*>(impl_); }

Status Event::create(bool) {
  delete static_cast<uint64_t*>(impl_);
  impl_ = new uint64_t(0);
  return Status::ok();
}

Status Event::record(Stream& stream) {
  if (stream.capturing()) return Status(ECAD_INTERNAL, "events are not captured");
  *static_cast<uint64_t*>(impl_) = now_ns();
  return Status::ok();
}

Status Event::wait() { return Status::ok(); }

Status Event::nanoseconds(const Event& from, const Event& to, uint64_t* out) {
  *out = *static_cast<const uint64_t*>(to.impl_) - *static_cast<const uint64_t*>(from.impl_);
  return Status::ok();
}

Status encode_tensor_map(const TensorMapDesc& desc, TensorMap* out) { return emu::encode_tensor_map(desc, out); }

}  // namespace ecad::cuda
