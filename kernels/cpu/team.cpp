#include "team.h"

#include <omp.h>

#include <new>
#include <system_error>

#include "cpuid.h"

namespace ecad {
namespace {

constexpr int kSpins = 2000;  // some microseconds: ops follow each other closely
constexpr int32_t kMaxThreads = 1024;

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

Status Team::create(int32_t threads, std::unique_ptr<Team>* out) {
  if (threads < 0 || threads > kMaxThreads)
    return {ECAD_INVALID_ARGUMENT, "num_threads is " + std::to_string(threads) + ": give 0 (all cores) to " + std::to_string(kMaxThreads)};
  if (threads == 0) threads = usable_cores();
  // oneDNN's own loops stay on the thread that calls them: the team splits the work.
  omp_set_num_threads(1);
  std::unique_ptr<Team> team(new (std::nothrow) Team);
  if (!team) return {ECAD_OUT_OF_MEMORY, "no memory for the device's threads"};
  try {
    team->helpers_.reserve(static_cast<size_t>(threads - 1));
    for (int32_t t = 1; t < threads; ++t) team->helpers_.emplace_back([self = team.get(), t] { self->help(t); });
  } catch (const std::system_error&) {
    return {ECAD_OUT_OF_MEMORY, "cannot start " + std::to_string(threads) + " threads; set num_threads lower"};
  } catch (const std::bad_alloc&) {
    return {ECAD_OUT_OF_MEMORY, "no memory for the device's threads"};
  }
  *out = std::move(team);
  return Status::ok();
}

Team::~Team() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& t : helpers_) t.join();
}

void Team::work(int32_t thread) {
  for (int64_t item; (item = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) call_(body_, item, thread);
}

void Team::run(int64_t count, Call call, const void* body) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    count_ = count;
    call_ = call;
    body_ = body;
    next_.store(0, std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  work(0);
  std::unique_lock<std::mutex> lock(mutex_);
  generation_.fetch_add(1, std::memory_order_release);  // closed: a helper that wakes now finds nothing
  idle_.wait(lock, [this] { return active_ == 0; });
}

void Team::help(int32_t thread) {
  omp_set_num_threads(1);
  uint64_t seen = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    const auto open = [&] { return (generation_.load(std::memory_order_relaxed) & 1) && generation_.load(std::memory_order_relaxed) != seen; };
    if (!stop_ && !open()) {
      lock.unlock();
      for (int i = 0; i < kSpins; ++i) {
        const uint64_t now = generation_.load(std::memory_order_acquire);
        if ((now & 1) && now != seen) break;
        relax();
      }
      lock.lock();
    }
    wake_.wait(lock, [&] { return stop_ || open(); });
    if (stop_) return;
    seen = generation_.load(std::memory_order_relaxed);
    ++active_;
    lock.unlock();
    work(thread);
    lock.lock();
    if (--active_ == 0) idle_.notify_one();
  }
}

}  // namespace ecad
