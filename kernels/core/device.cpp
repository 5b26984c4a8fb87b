#include "device.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <system_error>

#include "text.h"

namespace ecad {
namespace {

uint64_t rounded(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

Status make_backend(int32_t kind, const DeviceOptions& options, std::unique_ptr<Backend>* out) {
  if (kind == ECAD_BACKEND_REFERENCE) return make_reference_backend(options, out);
#ifdef ECAD_HAVE_CPU
  if (kind == ECAD_BACKEND_CPU) return make_cpu_backend(options, out);
#endif
#ifdef ECAD_HAVE_CUDA
  if (kind == ECAD_BACKEND_CUDA) return make_cuda_backend(options, out);
#endif
  return Status(ECAD_NO_DEVICE, "backend is not built in");
}

}  // namespace

Status Device::open(int32_t backend, const DeviceOptions& options, std::shared_ptr<Device>* out) {
  std::shared_ptr<Device> device(new Device(backend));
  try {
    device->start();
  } catch (const std::system_error& e) {
    return Status(ECAD_OUT_OF_MEMORY, text("device: its thread cannot be started: ", e.what())).with_device_code(e.code().value());
  }
  ECAD_TRY(device->call([&] {
    ECAD_TRY(make_backend(backend, options, &device->backend_));
    device->backend_->describe(&device->info_);
    if (device->info_.memory_total == 0) device->info_.memory_total = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    device->note_memory();
    return Status::ok();
  }));
  *out = std::move(device);
  return Status::ok();
}

// The thread inherits a full signal mask: the host program's handlers run on the host program's threads.
void Device::start() {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    worker_ = std::thread([this] { work(); });
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Device::~Device() {
  if (!worker_.joinable()) return;
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    stopping_ = true;
    queued_.notify_one();
  }
  worker_.join();
}

void Device::work() {
  std::unique_lock<std::mutex> lock(queue_mutex_);
  while (true) {
    queued_.wait(lock, [this] { return first_ != nullptr || stopping_; });
    if (first_ == nullptr) break;
    Call* call = first_;
    first_ = call->next;
    lock.unlock();
    perform(call);
    lock.lock();
    call->done = true;
    call->finished.notify_one();  // under the lock: the caller may destroy the call as soon as it sees done
  }
  lock.unlock();
  if (backend_ != nullptr) trim();
  if (arena_ != nullptr) deallocate(arena_, arena_bytes_);
  backend_.reset();
}

void Device::perform(Call* call) {
  try {
    call->invoke(call->context);
  } catch (const std::bad_alloc&) {
    call->out_of_memory = true;
  } catch (const std::exception& e) {
    call->failed = true;
    std::snprintf(call->what, sizeof call->what, "%s", e.what());
  } catch (...) {
    call->failed = true;
    std::snprintf(call->what, sizeof call->what, "unknown exception");
  }
}

Status Device::submit(void (*invoke)(void*), void* context) {
  Call call(invoke, context);
  if (on_thread()) {
    perform(&call);
  } else {
    std::unique_lock<std::mutex> lock(queue_mutex_);
    if (first_ == nullptr) first_ = &call;
    else last_->next = &call;
    last_ = &call;
    queued_.notify_one();
    call.finished.wait(lock, [&call] { return call.done; });
  }
  if (call.out_of_memory) throw std::bad_alloc();
  if (call.failed) return Status(ECAD_INTERNAL, text("internal error: ", std::string_view(call.what)));
  return Status::ok();
}

Status Device::allocate(uint64_t bytes, void** out) {
  const uint64_t size = rounded(bytes);
  *out = backend_->allocate(size);
  if (*out == nullptr) {
    trim();
    *out = backend_->allocate(size);
  }
  if (*out == nullptr) ECAD_TRY(backend_->synchronize());  // a device that has failed gives no memory either
  if (*out == nullptr) return Status(ECAD_OUT_OF_MEMORY, text("device is out of memory: ", size, " bytes more than the ", memory_used(), " in use are not to be had"));
  used_ += size;
  note_memory();
  return Status::ok();
}

void Device::deallocate(void* data, uint64_t bytes) {
  backend_->deallocate(data, rounded(bytes));
  used_ -= rounded(bytes);
}

// Its content ends with each section, so growing it keeps nothing.
Status Device::ensure_arena(uint64_t bytes) {
  if (bytes <= arena_bytes_) return Status::ok();
  if (arena_ != nullptr) deallocate(arena_, arena_bytes_);
  arena_ = nullptr;
  arena_bytes_ = 0;
  ECAD_TRY(allocate(bytes, &arena_));
  arena_bytes_ = bytes;
  return Status::ok();
}

Status Device::acquire(uint64_t bytes, SharedBuffer** out) {
  {
    std::lock_guard<std::mutex> lock(pool_mutex_);
    SharedBuffer*& head = pool_[bytes];
    if (head != nullptr) {
      *out = head;
      head = head->next;
      (*out)->next = nullptr;
      (*out)->refs.store(1, std::memory_order_relaxed);
      return Status::ok();
    }
  }
  auto buffer = std::make_unique<SharedBuffer>();
  ECAD_TRY(allocate(bytes, &buffer->data));
  buffer->bytes = bytes;
  *out = buffer.release();
  return Status::ok();
}

void Device::release(SharedBuffer* buffer) {
  if (buffer == nullptr || buffer->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  std::lock_guard<std::mutex> lock(pool_mutex_);
  SharedBuffer*& head = pool_.find(buffer->bytes)->second;
  buffer->next = head;
  head = buffer;
}

uint64_t Device::pooled() {
  std::lock_guard<std::mutex> lock(pool_mutex_);
  uint64_t total = 0;
  for (const auto& [bytes, head] : pool_) {
    for (const SharedBuffer* b = head; b != nullptr; b = b->next) total += bytes;
  }
  return total;
}

void Device::trim() {
  std::lock_guard<std::mutex> lock(pool_mutex_);
  for (auto& [bytes, head] : pool_) {
    while (head != nullptr) {
      SharedBuffer* buffer = head;
      head = buffer->next;
      deallocate(buffer->data, bytes);
      delete buffer;
    }
  }
}

void Device::program_released() {
  if (--programs_ > 0) return;
  trim();
  if (arena_ != nullptr) deallocate(arena_, arena_bytes_);
  arena_ = nullptr;
  arena_bytes_ = 0;
}

void Device::note_memory() {
  packed_.store(backend_->packed_bytes());
  const GraphStats stats = backend_->graph_stats();
  graphs_.store(stats.graphs);
  graph_bytes_.store(stats.bytes);
  graph_ns_.store(stats.nanoseconds);
  uint64_t peak = peak_.load();
  const uint64_t now = memory_used();
  while (now > peak && !peak_.compare_exchange_weak(peak, now)) {
  }
}

}  // namespace ecad
