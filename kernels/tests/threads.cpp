// Threads: calls on one device are serialised, two devices run side by side, cancel returns within one op. Built for ThreadSanitizer, too
// (make tsan). That the number of threads of a cpu device changes no bit is tested in cpu_ops.cpp, op by op.
#include <atomic>
#include <chrono>
#include <thread>

#include "corpus.h"

namespace {

using Clock = std::chrono::steady_clock;
using writer::kF32;

std::vector<int32_t> backends() {
  std::vector<int32_t> all;
  for (const int32_t b : {ECAD_BACKEND_REFERENCE, ECAD_BACKEND_CPU}) {
    if (ecad_device_count(b, nullptr, 0) > 0) all.push_back(b);
    else std::printf("SKIP backend %d: not built in\n", b);
  }
  return all;
}

void write_inputs(ecad_state* state) {
  std::vector<float> latents(96);
  for (size_t i = 0; i < latents.size(); ++i) latents[i] = static_cast<float>(i % 7) - 3;
  const int32_t counts[2] = {4, 1};
  write(state, "latents", latents);
  CHECK_OK(ecad_state_write(state, "counts", counts, sizeof counts, &err));
}

// Seen from on_item of every run on one device: never two at a time.
struct Watch {
  std::atomic<int> inside{0}, clashes{0}, calls{0};
};

int32_t watch_item(void* user, uint32_t, uint32_t) {
  auto* w = static_cast<Watch*>(user);
  if (w->inside.fetch_add(1) != 0) ++w->clashes;
  std::this_thread::sleep_for(std::chrono::microseconds(50));
  w->inside.fetch_sub(1);
  ++w->calls;
  return 0;
}

}  // namespace

// Every kind of call at once from 8 threads: each thread's results are those of a thread alone.
TEST(eight_threads_on_one_device) {
  for (const int32_t backend : backends()) {
    auto device = open_device(backend);
    auto weights = corpus::weights(device.get());
    const auto bytes = corpus::every_op().bytes();
    auto program = load(device.get(), weights.get(), corpus::every_op());
    auto trunk = new_state(program.get());
    write_inputs(trunk.get());
    auto alone = fork(trunk.get());
    CHECK_OK(ecad_run_schedule(alone.get(), program.get(), 0, nullptr, &err));
    const auto truth = read(alone.get(), "latents", 96);

    constexpr int kThreads = 8, kRounds = 12;
    Watch watch;
    std::atomic<int> wrong{0};
    std::vector<Handle<ecad_state>> starts;
    for (int t = 0; t < kThreads; ++t) starts.push_back(fork(trunk.get()));
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int round = 0; round < kRounds; ++round) {
          ecad_state* raw = nullptr;
          if (ecad_state_fork(starts[static_cast<size_t>(t)].get(), &raw, nullptr) != ECAD_OK) { ++wrong; return; }
          const Handle<ecad_state> state(raw);
          ecad_program* own = nullptr;
          if (round % 3 == t % 3 && ecad_program_load(device.get(), weights.get(), bytes.data(), bytes.size(), &own, nullptr) != ECAD_OK) ++wrong;
          ecad_run_args args = ECAD_RUN_ARGS_INIT;
          args.on_item = watch_item;
          args.user = &watch;
          float got[96] = {};
          if (ecad_run_schedule(raw, own != nullptr ? own : program.get(), 0, &args, nullptr) != ECAD_OK || ecad_state_read(raw, "latents", got, sizeof got, nullptr) != ECAD_OK) ++wrong;
          if (std::memcmp(got, truth.data(), sizeof got) != 0) ++wrong;
          ecad_device_info info{};
          info.struct_size = sizeof info;
          if (ecad_device_query(device.get(), &info, nullptr) != ECAD_OK || info.memory_used == 0) ++wrong;
          ecad_program_release(own);
        }
      });
    }
    for (auto& t : threads) t.join();
    CHECK_EQ(wrong.load(), 0);
    CHECK_EQ(watch.clashes.load(), 0);
    CHECK_EQ(watch.calls.load(), kThreads * kRounds * 5);
  }
}

namespace {

// Two runs that can only end if both are under way at once: each waits in its first on_item for the other's.
struct Meeting {
  std::atomic<int> here{0};
  std::atomic<bool> met{true};
};

int32_t meet(void* user, uint32_t done, uint32_t) {
  auto* m = static_cast<Meeting*>(user);
  if (done != 1) return 0;
  ++m->here;
  const auto limit = Clock::now() + std::chrono::seconds(30);
  while (m->here.load() < 2) {
    if (Clock::now() > limit) {
      m->met = false;
      return 1;
    }
    std::this_thread::yield();
  }
  return 0;
}

}  // namespace

TEST(two_devices_run_side_by_side) {
  for (const int32_t backend : backends()) {
    Meeting meeting;
    std::atomic<int> wrong{0};
    std::vector<float> results[2];
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&, i] {
        auto device = open_device(backend);
        auto weights = corpus::weights(device.get());
        auto program = load(device.get(), weights.get(), corpus::every_op());
        auto state = new_state(program.get());
        write_inputs(state.get());
        ecad_run_args args = ECAD_RUN_ARGS_INIT;
        args.on_item = meet;
        args.user = &meeting;
        if (ecad_run_schedule(state.get(), program.get(), 0, &args, nullptr) != ECAD_OK) ++wrong;
        results[i] = read(state.get(), "latents", 96);
      });
    }
    for (auto& t : threads) t.join();
    CHECK(meeting.met.load());
    CHECK_EQ(wrong.load(), 0);
    CHECK(results[0] == results[1]);
  }
}

namespace {

// A section of many ops, each of them a noticeable piece of work.
writer::Program long_program(int64_t size, int ops) {
  writer::Program p;
  const uint32_t x = p.persistent("x", kF32, {size, size}), w = p.constant(kF32, {size, size}, std::vector<float>(static_cast<size_t>(size * size), 1e-3f).data());
  uint32_t from = x;
  const uint32_t scratch[2] = {p.arena(kF32, {size, size}), p.arena(kF32, {size, size})};
  for (int i = 0; i < ops; ++i) {
    p.op(writer::kLinear, {from, w}, {scratch[i % 2]}, {1, 1, 0});
    from = scratch[i % 2];
  }
  p.io("x", x, 1);
  p.schedule("s", {{0, 0}});
  return p;
}

}  // namespace

TEST(cancel_returns_within_one_op) {
  for (const int32_t backend : backends()) {
    const int64_t size = backend == ECAD_BACKEND_REFERENCE ? 64 : 320;
    constexpr int kOps = 300;
    auto device = open_device(backend);
    auto program = load(device.get(), nullptr, long_program(size, kOps));
    auto state = new_state(program.get());
    write(state.get(), "x", std::vector<float>(static_cast<size_t>(size * size), 1));
    std::vector<ecad_op_time> times(kOps);
    for (const int wait_ms : {0, 3, 20}) {
      const Handle<ecad_cancel> cancel(ecad_cancel_create());
      ecad_run_args args = ECAD_RUN_ARGS_INIT;
      args.cancel = cancel.get();
      args.times = times.data();
      args.times_cap = times.size();
      const auto begin = Clock::now();
      Clock::time_point triggered;
      std::thread other([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(wait_ms));
        triggered = Clock::now();  // before the trigger: an op that starts later than this may still have missed it, but only one
        ecad_cancel_trigger(cancel.get());
      });
      const ecad_status s = ecad_run_schedule(state.get(), program.get(), 0, &args, nullptr);
      other.join();
      CHECK_EQ(s, ECAD_CANCELLED);
      CHECK(args.times_len < kOps);
      int late = 0;  // the run began no earlier than `begin`, so these surely started after the trigger
      for (uint64_t i = 0; i < args.times_len; ++i) late += begin + std::chrono::nanoseconds(times[i].start_ns) > triggered + std::chrono::milliseconds(1) ? 1 : 0;
      CHECK(late <= 1);
    }
    // Between ops and from the run's own thread: nothing at all runs any more.
    const Handle<ecad_cancel> cancel(ecad_cancel_create());
    ecad_cancel_trigger(cancel.get());
    ecad_run_args args = ECAD_RUN_ARGS_INIT;
    args.cancel = cancel.get();
    args.times = times.data();
    args.times_cap = times.size();
    CHECK_EQ(ecad_run_schedule(state.get(), program.get(), 0, &args, nullptr), ECAD_CANCELLED);
    CHECK_EQ(args.times_len, 0u);
    // The state is good for writing and running again.
    write(state.get(), "x", std::vector<float>(static_cast<size_t>(size * size), 1));
    ecad_cancel_reset(cancel.get());
    const auto stop = [](void*, uint32_t, uint32_t) -> int32_t { return 1; };
    args.on_item = stop;
    CHECK_EQ(ecad_run_schedule(state.get(), program.get(), 0, &args, nullptr), ECAD_CANCELLED);
    CHECK_EQ(args.times_len, static_cast<uint64_t>(kOps));
  }
}

CHECK_MAIN()
