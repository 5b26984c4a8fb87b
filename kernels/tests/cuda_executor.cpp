// The CUDA executor against the op-by-op reference: random sections run in random order on states that are forked, written and dropped between
// replays, with more sections than graphs are kept.
#include <cstdlib>

#include "fixture.h"
#ifdef ECAD_EMULATE
#include "../cuda/emu/device.h"
#endif

using writer::kF32;

namespace {

constexpr uint32_t kBuffers = 6, kSteps = 5, kSections = 90;
constexpr int64_t kElements = 24;

struct Random {
  uint64_t s;
  uint32_t below(uint32_t n) {
    s ^= s << 13;
    s ^= s >> 7;
    s ^= s << 17;
    return static_cast<uint32_t>((s >> 20) % n);
  }
};

// Copies between persistent buffers, scratch and a constant that differs at every step. Section 0 fills every buffer.
writer::Program shuffler(uint64_t seed, int64_t arena_elements) {
  writer::Program p;
  p.steps = kSteps;
  Random random{seed};
  std::vector<float> table;
  for (uint32_t i = 0; i < kSteps * kElements; ++i) table.push_back(static_cast<float>(i) + 0.5f);
  const uint32_t all = p.constant(kF32, {kSteps, kElements}, table.data());
  const uint32_t constant = p.view(all, {1, kElements}, {kElements, 1}, 0, kElements);
  std::vector<uint32_t> buffers, scratch;
  for (uint32_t i = 0; i < kBuffers; ++i) {
    buffers.push_back(p.persistent("b" + std::to_string(i), kF32, {1, kElements}, i % 2));
    p.io("b" + std::to_string(i), buffers.back(), 3);
  }
  for (int i = 0; i < 2; ++i) scratch.push_back(p.arena(kF32, {1, arena_elements}));
  for (uint32_t& s : scratch) s = p.view(s, {1, kElements}, {arena_elements, 1});
  p.section(0, "fill");
  for (const uint32_t b : buffers) p.op(writer::kCopy, {constant}, {b});
  for (uint32_t s = 1; s < kSections; ++s) {
    p.section(1, "s" + std::to_string(s));
    bool written[2] = {};
    for (uint32_t n = 1 + random.below(6); n > 0; --n) {
      uint32_t from = random.below(4) == 0 ? constant : buffers[random.below(kBuffers)];
      const uint32_t k = random.below(2);
      if (random.below(3) == 0 && written[k]) from = scratch[k];
      if (random.below(3) == 0) {
        if (from == scratch[1 - k]) written[k] = true;
        if (from != scratch[k]) p.op(writer::kCopy, {from}, {scratch[k]});
        written[k] = true;
      } else {
        p.op(writer::kCopy, {from}, {buffers[random.below(kBuffers)]});
      }
    }
  }
  p.schedule("fill", {{0, 0}});
  return p;
}

// The same thing on two devices.
struct Pair {
  Handle<ecad_device> device[2] = {open_device(ECAD_BACKEND_REFERENCE), open_device(ECAD_BACKEND_CUDA)};
  Handle<ecad_program> program[2];
  struct States {
    Handle<ecad_state> of[2];
  };
  std::vector<States> states;

  explicit Pair(const writer::Program& p) {
    for (int d = 0; d < 2; ++d) program[d] = load(device[d].get(), nullptr, p);
    states.emplace_back();
    for (int d = 0; d < 2; ++d) states[0].of[d] = new_state(program[d].get());
    run(0, {{0, 0}});
  }
  void run(size_t state, const std::vector<ecad_run_item>& items) {
    for (int d = 0; d < 2; ++d) CHECK_OK(ecad_run(states[state].of[d].get(), program[d].get(), items.data(), items.size(), nullptr, &err));
  }
  bool same(size_t state) {
    for (uint32_t b = 0; b < kBuffers; ++b) {
      const std::string name = "b" + std::to_string(b);
      if (read(states[state].of[0].get(), name.c_str(), kElements) != read(states[state].of[1].get(), name.c_str(), kElements)) return false;
    }
    return true;
  }
  void step(Random& random) {
    const size_t state = random.below(static_cast<uint32_t>(states.size()));
    switch (random.below(8)) {
      case 0:
        if (states.size() < 6) {
          States copy;
          for (int d = 0; d < 2; ++d) copy.of[d] = fork(states[state].of[d].get());
          states.push_back(std::move(copy));
        }
        break;
      case 1:
        if (states.size() > 2) states.erase(states.begin() + static_cast<std::ptrdiff_t>(state));
        break;
      case 2:
        for (int d = 0; d < 2; ++d) write(states[state].of[d].get(), "b0", std::vector<float>(kElements, static_cast<float>(random.s % 97)));
        random.below(2);
        break;
      default: {
        std::vector<ecad_run_item> items;
        for (uint32_t n = 1 + random.below(8); n > 0; --n) items.push_back({random.below(kSections), random.below(kSteps)});
        run(state, items);
      }
    }
  }
};

ecad_device_info info_of(ecad_device* device) {
  ecad_device_info info{};
  info.struct_size = sizeof info;
  CHECK_OK(ecad_device_query(device, &info, &err));
  return info;
}

}  // namespace

TEST(forks_between_replays) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    Pair pair(shuffler(seed * 7919, 64));
    Random random{seed * 104729};
    for (int i = 0; i < 400; ++i) pair.step(random);
    for (size_t s = 0; s < pair.states.size(); ++s) CHECK(pair.same(s));
  }
}

TEST(graphs_are_captured_at_the_second_use_and_bounded) {
  Pair pair(shuffler(5, 64));
  CHECK_EQ(info_of(pair.device[1].get()).graphs, 0u);
  pair.run(0, {{1, 0}});
  CHECK_EQ(info_of(pair.device[1].get()).graphs, 0u);
  pair.run(0, {{1, 1}, {1, 2}, {1, 3}});
  CHECK_EQ(info_of(pair.device[1].get()).graphs, 1u);
  for (int round = 0; round < 3; ++round) {
    for (uint32_t s = 1; s < kSections; ++s) pair.run(0, {{s, s % kSteps}});
  }
  CHECK(info_of(pair.device[1].get()).graphs > kSections);  // some were dropped and captured once more
  CHECK(pair.same(0));
  CHECK_EQ(info_of(pair.device[0].get()).graphs, 0u);
}

TEST(arena_that_grows_between_replays) {
  Pair pair(shuffler(11, 64));
  Random random{99};
  for (int i = 0; i < 100; ++i) pair.step(random);
  const auto larger = load(pair.device[1].get(), nullptr, shuffler(12, 100000));
  for (int i = 0; i < 100; ++i) pair.step(random);
  for (size_t s = 0; s < pair.states.size(); ++s) CHECK(pair.same(s));
}

TEST(errors_say_where) {
  Pair pair(shuffler(3, 64));
  auto fresh = new_state(pair.program[1].get());
  std::vector<ecad_run_item> items;
  for (uint32_t s = 1; s < kSections; ++s) items.push_back({s, 2});
  CHECK_FAILS(ecad_run(fresh.get(), pair.program[1].get(), items.data(), items.size(), nullptr, &err), ECAD_NOT_READY, "which was never written");
  // Cancelled between sections; the state is good for a reset.
  ecad_run_args args = ECAD_RUN_ARGS_INIT;
  Handle<ecad_cancel> cancel(ecad_cancel_create());
  args.cancel = cancel.get();
  ecad_cancel_trigger(cancel.get());
  CHECK_EQ(ecad_run_schedule(pair.states[0].of[1].get(), pair.program[1].get(), 0, &args, nullptr), ECAD_CANCELLED);
}

TEST(op_times_and_finite_checks_run_op_by_op) {
  Pair pair(shuffler(21, 64));
  ecad_op_time times[64];
  ecad_run_args args = ECAD_RUN_ARGS_INIT;
  args.times = times;
  args.times_cap = 64;
  const ecad_run_item items[] = {{0, 1}, {2, 3}};
  CHECK_OK(ecad_run(pair.states[0].of[1].get(), pair.program[1].get(), items, 2, &args, &err));
  CHECK(args.times_len > kBuffers);
  for (uint64_t i = 0; i < args.times_len; ++i) CHECK_EQ(times[i].op, times[0].op + i < kBuffers ? static_cast<uint32_t>(i) : times[i].op);
  CHECK_EQ(times[kBuffers].item, 1u);
  CHECK_EQ(ecad_run(pair.states[0].of[0].get(), pair.program[0].get(), items, 2, nullptr, nullptr), ECAD_OK);
  CHECK(pair.same(0));
  write(pair.states[0].of[1].get(), "b0", std::vector<float>(kElements, INFINITY));
  args = ECAD_RUN_ARGS_INIT;
  args.flags = ECAD_RUN_CHECK_FINITE;
  CHECK_OK(ecad_run(pair.states[0].of[1].get(), pair.program[1].get(), items, 1, &args, &err));
  CHECK_EQ(info_of(pair.device[1].get()).graphs, 0u);
}

// A copy out of a table whose fourth step holds an infinity: the check says at which step of which block and component it was made, once the section has run as
// a graph before and after.
TEST(finite_checks_name_step_block_and_component) {
  writer::Program p;
  p.steps = kSteps;
  std::vector<float> table(kSteps * kElements, 1.0f);
  table[3 * kElements + 5] = INFINITY;
  const uint32_t constant = p.view(p.constant(kF32, {kSteps, kElements}, table.data()), {1, kElements}, {kElements, 1}, 0, kElements);
  const uint32_t slot = p.persistent("slot", kF32, {1, kElements}, 1);
  p.io("slot", slot, 3);
  p.section(1, "step");
  p.op(writer::kCopy, {constant}, {slot}, {}, {}, "self-attention");
  p.ops.back().block = 4;
  p.ops.back().component = 1;
  p.schedule("all", {{0, 0}, {0, 1}, {0, 2}, {0, 3}});
  auto device = open_device(ECAD_BACKEND_CUDA);
  auto program = load(device.get(), nullptr, p);
  auto state = new_state(program.get());
  CHECK_OK(ecad_run_schedule(state.get(), program.get(), 0, nullptr, &err));
  ecad_run_args args = ECAD_RUN_ARGS_INIT;
  args.flags = ECAD_RUN_CHECK_FINITE;
  CHECK_FAILS(ecad_run_schedule(state.get(), program.get(), 0, &args, &err), ECAD_DEVICE_ERROR,
              "step 3, section 0 \"step\", block 4, component 1, op 0 \"self-attention\" (copy): output 0 [1,24] holds an infinity at [0,5]");
  ecad_error err = ECAD_ERROR_INIT;
  CHECK_EQ(ecad_run_schedule(state.get(), program.get(), 0, &args, &err), ECAD_DEVICE_ERROR);
  CHECK_EQ(err.op, 0);
  CHECK_EQ(ecad_run_schedule(state.get(), program.get(), 0, nullptr, nullptr), ECAD_OK);
}

// Every weight is copied to the device once, when the first program is loaded, and its bytes are let go: they are not held twice.
TEST(weights_are_held_only_while_they_are_packed) {
  struct Source {
    std::vector<float> w = std::vector<float>(8 * 16, 0.5f), b = std::vector<float>(8, 1.0f);
    int holds = 0, needs = 0;
  } source;
  writer::Program p;
  const uint32_t x = p.persistent("x", kF32, {3, 16}), y = p.persistent("y", kF32, {3, 8});
  p.io("x", x, 1);
  p.io("y", y, 2);
  p.section(1, "step");
  p.op(writer::kLinear, {x, p.weight("w", {8, 16}), p.weight("b", {8})}, {y}, {1, 1, 0});
  p.schedule("all", {{0, 0}});
  const ecad_tensor_desc descs[] = {{"w", ECAD_FLOAT32, 2, {8, 16, 1, 1}, source.w.data(), source.w.size() * 4}, {"b", ECAD_FLOAT32, 1, {8, 1, 1, 1}, source.b.data(), source.b.size() * 4}};
  ecad_weights_source calls = ECAD_WEIGHTS_SOURCE_INIT;
  calls.user = &source;
  calls.need = [](void* user, uint64_t) -> int32_t {
    auto* s = static_cast<Source*>(user);
    ++s->needs;
    ++s->holds;
    return 0;
  };
  calls.drop = [](void* user, uint64_t) { --static_cast<Source*>(user)->holds; };
  auto device = open_device(ECAD_BACKEND_CUDA);
  ecad_weights* w = nullptr;
  CHECK_OK(ecad_weights_create_on_demand(device.get(), descs, 2, &calls, &w, &err));
  const Handle<ecad_weights> weights(w);
  const auto first = load(device.get(), w, p), second = load(device.get(), w, p);
  CHECK_EQ(source.holds, 0);
  CHECK_EQ(source.needs, 2);
  source.w.assign(source.w.size(), NAN);  // what is packed is a copy
  auto state = new_state(second.get());
  write(state.get(), "x", std::vector<float>(3 * 16, 1.0f));
  CHECK_OK(ecad_run_schedule(state.get(), second.get(), 0, nullptr, &err));
  CHECK(read(state.get(), "y", 3 * 8) == std::vector<float>(3 * 8, 9.0f));
}

#ifdef ECAD_EMULATE

struct Behaving {
  explicit Behaving(const ecad::cuda::emu::DeviceBehaviour& b) { ecad::cuda::emu::set_device(b); }
  ~Behaving() { ecad::cuda::emu::set_device({}); }
};

// A device that does everything as late as it may: tables and steps in pinned memory must not change before they are read, nor buffers go while something reads them. And no more
// than two sections are ever queued, which is what a cancelled run waits for.
TEST(work_that_is_done_late) {
  const Behaving late({true, -1});
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    Pair pair(shuffler(seed * 7919, 64));
    Random random{seed * 104729};
    for (int i = 0; i < 200; ++i) pair.step(random);
    const auto larger = load(pair.device[1].get(), nullptr, shuffler(12, 100000));  // the arena moves
    for (int i = 0; i < 100; ++i) pair.step(random);
    for (size_t s = 0; s < pair.states.size(); ++s) CHECK(pair.same(s));
  }
  CHECK_EQ(ecad::cuda::emu::most_events_ahead(), 2u);
}

// Cancelled from the callback of the third step: the sections behind it never run.
TEST(cancelling_waits_for_what_is_queued) {
  const Behaving late({true, -1});
  writer::Program p;
  p.steps = kSteps;
  std::vector<float> table;
  for (uint32_t i = 0; i < kSteps * kElements; ++i) table.push_back(static_cast<float>(i / kElements));
  const uint32_t constant = p.view(p.constant(kF32, {kSteps, kElements}, table.data()), {1, kElements}, {kElements, 1}, 0, kElements), x = p.persistent("x", kF32, {1, kElements});
  p.io("x", x, 3);
  p.section(1, "step");
  p.op(writer::kCopy, {constant}, {x});
  p.schedule("all", {{0, 0}, {0, 1}, {0, 2}, {0, 3}, {0, 4}});
  auto device = open_device(ECAD_BACKEND_CUDA);
  auto program = load(device.get(), nullptr, p);
  auto state = new_state(program.get());
  Handle<ecad_cancel> cancel(ecad_cancel_create());
  ecad_run_args args = ECAD_RUN_ARGS_INIT;
  args.cancel = cancel.get();
  args.user = cancel.get();
  args.on_item = [](void* user, uint32_t done, uint32_t) -> int32_t {
    if (done == 3) ecad_cancel_trigger(static_cast<ecad_cancel*>(user));
    return 0;
  };
  CHECK_EQ(ecad_run_schedule(state.get(), program.get(), 0, &args, nullptr), ECAD_CANCELLED);
  CHECK(read(state.get(), "x", kElements) == std::vector<float>(kElements, 2.0f));
}

// A kernel breaks the device. CUDA says so at some later call: the error then names the op, block and step of the kernel that began last, every call after it fails with the
// same error, and a device that is opened anew works.
TEST(a_broken_device_says_where_and_stays_broken) {
  for (const bool late : {false, true}) {
    writer::Program p;
    p.steps = kSteps;
    const uint32_t a = p.persistent("a", kF32, {1, kElements}), b = p.persistent("b", kF32, {1, kElements}, 1);
    p.io("a", a, 3);
    p.io("b", b, 3);
    p.section(1, "step");
    p.op(writer::kCopy, {a}, {b}, {}, {}, "first");
    p.op(writer::kCopy, {b}, {a}, {}, {}, "self-attention");
    p.ops.back().block = 4;
    p.schedule("all", {{0, 0}, {0, 1}, {0, 2}, {0, 3}, {0, 4}});
    auto device = open_device(ECAD_BACKEND_CUDA);
    auto program = load(device.get(), nullptr, p);
    auto state = new_state(program.get());
    write(state.get(), "a", std::vector<float>(kElements, 1.0f));
    CHECK_OK(ecad_run_schedule(state.get(), program.get(), 0, nullptr, &err));
    {
      const Behaving breaks({late, 2 * 3 + 1});  // op 1 at step 3, in a graph
      CHECK_FAILS(ecad_run_schedule(state.get(), program.get(), 0, nullptr, &err), ECAD_DEVICE_ERROR,
                  "op 1 \"self-attention\" (copy), block 4: cuda: the device failed: an illegal address, as a test wants it; the last kernel that began was of op 1 at step 3; open the device anew");
    }
    for (int i = 0; i < 2; ++i) {  // the handle stays so, even where the device would work again
      const std::vector<float> data(kElements);
      CHECK_FAILS(ecad_state_write(state.get(), "a", data.data(), data.size() * 4, &err), ECAD_DEVICE_ERROR, "the last kernel that began was of op 1 at step 3");
      ecad_program* another = nullptr;
      const auto bytes = p.bytes();
      CHECK_EQ(ecad_program_load(device.get(), nullptr, bytes.data(), bytes.size(), &another, nullptr), ECAD_DEVICE_ERROR);
    }
    auto anew = open_device(ECAD_BACKEND_CUDA);
    auto again = load(anew.get(), nullptr, p);
    auto fresh = new_state(again.get());
    write(fresh.get(), "a", std::vector<float>(kElements, 1.0f));
    CHECK_OK(ecad_run_schedule(fresh.get(), again.get(), 0, nullptr, &err));
  }
}

#endif

TEST(a_program_that_does_not_fit_is_refused_with_the_numbers) {
  auto device = open_device(ECAD_BACKEND_CUDA);
  const auto bytes = shuffler(2, int64_t{1} << 30).bytes();
  ecad_program* program = nullptr;
  CHECK_FAILS(ecad_program_load(device.get(), nullptr, bytes.data(), bytes.size(), &program, &err), ECAD_OUT_OF_MEMORY, "MiB of device memory (weights 0, activations ");
}

CHECK_MAIN()
