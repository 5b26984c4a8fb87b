// The threads of one cpu device.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "../core/status.h"

namespace ecad {

// A fixed set of threads that share the items of one loop. The caller is thread 0 and works too; helpers claim items one at a time and
// the caller waits only for helpers that took part, so a helper that the system does not schedule delays nobody (an OpenMP team would wait
// for it at its barrier). Which thread runs an item never changes the item's result. One caller at a time: the device's own thread.
class Team {
 public:
  // threads 0: all cores this process may use. Fails when a helper thread cannot be started.
  static Status create(int32_t threads, std::unique_ptr<Team>* out);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int32_t size() const { return 1 + static_cast<int32_t>(helpers_.size()); }

  // Calls body(item, thread) for each item of 0..count-1, thread in 0..size()-1; returns when all are done. body must not throw. Without
  // helpers, or with a single item, it is a plain loop.
  template <class Body>
  void each(int64_t count, const Body& body) {
    if (helpers_.empty() || count < 2) {
      for (int64_t i = 0; i < count; ++i) body(i, 0);
      return;
    }
    run(count, [](const void* b, int64_t item, int32_t thread) { (*static_cast<const Body*>(b))(item, thread); }, &body);
  }

 private:
  using Call = void (*)(const void* body, int64_t item, int32_t thread);
  Team() = default;
  void run(int64_t count, Call call, const void* body);
  void work(int32_t thread);
  void help(int32_t thread);

  std::vector<std::thread> helpers_;
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::atomic<uint64_t> generation_{0};  // odd while a loop is open to helpers
  bool stop_ = false;
  int32_t active_ = 0;  // helpers inside the open loop
  int64_t count_ = 0;
  std::atomic<int64_t> next_{0};
  Call call_ = nullptr;
  const void* body_ = nullptr;
};

}  // namespace ecad
