// States, runs, schedules: what is computed, shared, detached, refused, cancelled.
#include <atomic>
#include <thread>

#include "fixture.h"

using writer::kAbsent;
using writer::kF32;
using writer::kF64;

namespace {

// latents (io, both) is scaled by a step's coefficient; slot = latents + 1 goes to a cache slot; out = latents + slot.
struct Toy {
  writer::Program p;
  uint32_t latents, slot, out;
  Toy() {
    p.steps = 3;
    const double factors[3][1] = {{2}, {3}, {-1}};
    latents = p.persistent("latents", kF32, {1, 2, 2});
    slot = p.persistent("slot", kF32, {1, 2, 2}, 1);
    out = p.persistent("out", kF32, {1, 2, 2});
    const uint32_t factor = p.view(p.constant(kF64, {3, 1}, factors), {1}, {1}, 0, 1);
    const float one = 1;
    const uint32_t ones = p.constant(kF32, {1, 1, 1}, &one);
    const uint32_t scratch = p.arena(kF32, {1, 2, 2});
    p.section(1, "compute");
    p.op(writer::kLincomb, {latents, factor}, {latents}, {1}, {}, "scale");
    p.op(writer::kAdd, {latents, ones}, {slot}, {}, {}, "fill");
    p.op(writer::kCopy, {slot}, {scratch}, {}, {}, "copy");
    p.op(writer::kAdd, {latents, scratch}, {out}, {}, {}, "sum");
    p.section(1, "reuse");
    p.op(writer::kLincomb, {latents, factor}, {latents}, {1}, {}, "scale");
    p.op(writer::kAdd, {latents, slot}, {out}, {}, {}, "sum");
    p.io("latents", latents, 3);
    p.io("out", out, 2);
    p.schedule("all", {{0, 0}, {0, 1}, {0, 2}});
    p.schedule("cached", {{0, 0}, {1, 1}, {1, 2}});
  }
};

void run(ecad_state* s, ecad_program* p, std::vector<ecad_run_item> items) { CHECK_OK(ecad_run(s, p, items.data(), items.size(), nullptr, &err)); }

bool same(const std::vector<float>& a, const std::vector<float>& b) { return a == b; }

}  // namespace

TEST(schedule_computes_and_reuses) {
  auto device = open_device();
  auto program = load(device.get(), nullptr, Toy().p);
  auto state = new_state(program.get());
  write(state.get(), "latents", {1, 2, 3, 4});
  CHECK_OK(ecad_run_schedule(state.get(), program.get(), 0, nullptr, &err));
  CHECK(same(read(state.get(), "latents", 4), {-6, -12, -18, -24}));
  CHECK(same(read(state.get(), "out", 4), {-11, -23, -35, -47}));
  write(state.get(), "latents", {1, 2, 3, 4});
  CHECK_OK(ecad_run_schedule(state.get(), program.get(), 1, nullptr, &err));
  CHECK(same(read(state.get(), "out", 4), {-3, -7, -11, -15}));  // slot is that of step 0: 3, 5, 7, 9
}

TEST(fork_shares_until_written) {
  auto device = open_device();
  Toy toy;
  auto program = load(device.get(), nullptr, toy.p);
  auto a = new_state(program.get());
  write(a.get(), "latents", {1, 2, 3, 4});
  run(a.get(), program.get(), {{0, 0}});
  ecad_device_info info{};
  info.struct_size = sizeof info;
  CHECK_OK(ecad_device_query(device.get(), &info, &err));
  const uint64_t before = info.memory_used;
  auto b = fork(a.get());
  CHECK_OK(ecad_device_query(device.get(), &info, &err));
  CHECK_EQ(info.memory_used, before);  // a fork copies no data
  CHECK(same(read(b.get(), "out", 4), read(a.get(), "out", 4)));

  // lincomb reads and writes latents, which is shared: the reader sees the old content, the other state keeps it.
  run(b.get(), program.get(), {{1, 1}});
  CHECK(same(read(a.get(), "latents", 4), {2, 4, 6, 8}));
  CHECK(same(read(b.get(), "latents", 4), {6, 12, 18, 24}));
  CHECK(same(read(b.get(), "out", 4), {9, 17, 25, 33}));
  CHECK(same(read(a.get(), "out", 4), {5, 9, 13, 17}));
  float slot_a[4], slot_b[4];
  CHECK_OK(ecad_state_read_buffer(a.get(), 1, slot_a, sizeof slot_a, &err));
  CHECK_OK(ecad_state_read_buffer(b.get(), 1, slot_b, sizeof slot_b, &err));
  CHECK(std::memcmp(slot_a, slot_b, sizeof slot_a) == 0);

  // A host write detaches as well.
  auto c = fork(a.get());
  write(c.get(), "latents", {9, 9, 9, 9});
  CHECK(same(read(a.get(), "latents", 4), {2, 4, 6, 8}));
  a.reset();
  CHECK(same(read(b.get(), "latents", 4), {6, 12, 18, 24}));
  run(c.get(), program.get(), {{1, 2}});
  CHECK(same(read(c.get(), "out", 4), {-6, -4, -2, 0}));
}

TEST(shared_and_unshared_runs_are_equal) {
  auto device = open_device();
  auto program = load(device.get(), nullptr, Toy().p);
  auto trunk = new_state(program.get());
  write(trunk.get(), "latents", {0.1f, -2.7f, 3.3f, 1e-3f});
  run(trunk.get(), program.get(), {{0, 0}});
  for (uint32_t first : {0u, 1u}) {
    for (uint32_t second : {0u, 1u}) {
      auto branch = fork(trunk.get());
      run(branch.get(), program.get(), {{first, 1}, {second, 2}});
      auto alone = new_state(program.get());
      write(alone.get(), "latents", {0.1f, -2.7f, 3.3f, 1e-3f});
      run(alone.get(), program.get(), {{0, 0}, {first, 1}, {second, 2}});
      CHECK(same(read(branch.get(), "out", 4), read(alone.get(), "out", 4)));
      CHECK(same(read(branch.get(), "latents", 4), read(alone.get(), "latents", 4)));
    }
  }
}

TEST(reading_what_was_never_written) {
  auto device = open_device();
  auto program = load(device.get(), nullptr, Toy().p);
  auto state = new_state(program.get());
  float v[4];
  const ecad_run_item compute{0, 0}, reuse{1, 0};
  CHECK_FAILS(ecad_state_read(state.get(), "out", v, sizeof v, &err), ECAD_NOT_READY, "\"out\" was never written");
  CHECK_FAILS(ecad_run(state.get(), program.get(), &compute, 1, nullptr, &err), ECAD_NOT_READY, "reads \"latents\"");
  write(state.get(), "latents", {1, 2, 3, 4});
  {
    ecad_error err = ECAD_ERROR_INIT;
    CHECK_EQ(ecad_run(state.get(), program.get(), &reuse, 1, nullptr, &err), ECAD_NOT_READY);
    CHECK(std::strstr(err.message, "op 5 \"sum\" (add) at step 0: reads \"slot\"") != nullptr);
    CHECK_EQ(err.op, 5);
  }
  run(state.get(), program.get(), {{0, 0}, {1, 1}});
  CHECK_OK(ecad_state_reset(state.get(), &err));
  CHECK_FAILS(ecad_state_read(state.get(), "latents", v, sizeof v, &err), ECAD_NOT_READY, "latents");
}

TEST(lincomb_skips_terms_of_coefficient_zero) {
  writer::Program p;
  p.steps = 2;
  const double c[2][2] = {{1, 0}, {1, 10}};
  const uint32_t x = p.persistent("x", kF32, {3}), history = p.persistent("history", kF32, {3}), y = p.persistent("y", kF32, {3});
  const uint32_t coefficients = p.view(p.constant(kF64, {2, 2}, c), {2}, {1}, 0, 2);
  p.op(writer::kLincomb, {x, history, coefficients}, {y}, {2}, {}, "mix");
  p.io("x", x, 1);
  p.io("history", history, 1);
  p.io("y", y, 2);
  auto device = open_device();
  auto program = load(device.get(), nullptr, p);
  auto state = new_state(program.get());
  write(state.get(), "x", {1, 2, 3});
  run(state.get(), program.get(), {{0, 0}});
  CHECK(same(read(state.get(), "y", 3), {1, 2, 3}));
  const ecad_run_item second{0, 1};
  CHECK_FAILS(ecad_run(state.get(), program.get(), &second, 1, nullptr, &err), ECAD_NOT_READY, "reads \"history\"");
  write(state.get(), "history", {NAN, 1, 1});
  run(state.get(), program.get(), {{0, 0}});
  CHECK(same(read(state.get(), "y", 3), {1, 2, 3}));  // 0 times NaN is not read either
  run(state.get(), program.get(), {{0, 1}});
  CHECK_EQ(read(state.get(), "y", 3)[1], 12.0f);
}

TEST(layouts_must_agree) {
  auto device = open_device(), other = open_device();
  Toy toy, larger;
  larger.p.persistent("more", kF32, {1});
  auto program = load(device.get(), nullptr, toy.p), bigger = load(device.get(), nullptr, larger.p), elsewhere = load(other.get(), nullptr, toy.p);
  auto state = new_state(program.get());
  CHECK_FAILS(ecad_run_schedule(state.get(), bigger.get(), 0, nullptr, &err), ECAD_SHAPE_MISMATCH, "different layouts");
  CHECK_FAILS(ecad_run_schedule(state.get(), elsewhere.get(), 0, nullptr, &err), ECAD_INVALID_ARGUMENT, "different devices");
  toy.p.sections[1].name = "another program of the same layout";
  auto sibling = load(device.get(), nullptr, toy.p);
  write(state.get(), "latents", {1, 2, 3, 4});
  run(state.get(), program.get(), {{0, 0}});
  run(state.get(), sibling.get(), {{1, 1}});
  CHECK(same(read(state.get(), "out", 4), {9, 17, 25, 33}));
}

TEST(release_in_any_order) {
  auto device = open_device();
  auto program = load(device.get(), nullptr, Toy().p);
  auto state = new_state(program.get());
  write(state.get(), "latents", {1, 2, 3, 4});
  run(state.get(), program.get(), {{0, 0}});
  auto second = load(device.get(), nullptr, Toy().p);
  device.reset();
  program.reset();
  auto copy = fork(state.get());
  state.reset();
  run(copy.get(), second.get(), {{1, 1}});
  second.reset();
  CHECK(same(read(copy.get(), "out", 4), {9, 17, 25, 33}));
}

TEST(memory_is_counted_and_given_back) {
  auto device = open_device();
  ecad_device_info info{};
  info.struct_size = sizeof info;
  CHECK_OK(ecad_device_query(device.get(), &info, &err));
  CHECK_EQ(info.memory_used, 0u);
  CHECK(info.memory_total > (uint64_t{1} << 20));
  auto program = load(device.get(), nullptr, Toy().p);
  auto state = new_state(program.get());
  CHECK_OK(ecad_device_query(device.get(), &info, &err));
  const uint64_t loaded = info.memory_used;  // arena 64, constants 128
  CHECK_EQ(loaded, 192u);
  write(state.get(), "latents", {1, 2, 3, 4});
  run(state.get(), program.get(), {{0, 0}});
  CHECK_OK(ecad_device_query(device.get(), &info, &err));
  CHECK_EQ(info.memory_used, loaded + 3 * 64);
  auto copy = fork(state.get());
  run(copy.get(), program.get(), {{0, 1}});
  CHECK_OK(ecad_device_query(device.get(), &info, &err));
  CHECK_EQ(info.memory_used, loaded + 6 * 64);
  copy.reset();
  auto again = fork(state.get());
  run(again.get(), program.get(), {{0, 1}});  // its buffers come from the pool
  CHECK_OK(ecad_device_query(device.get(), &info, &err));
  CHECK_EQ(info.memory_used, loaded + 6 * 64);
  again.reset();
  state.reset();
  program.reset();
  CHECK_OK(ecad_device_query(device.get(), &info, &err));
  CHECK_EQ(info.memory_used, 0u);
  CHECK_EQ(info.memory_peak, loaded + 6 * 64);
}

namespace {

struct Progress {
  ecad_state* state = nullptr;
  ecad_program* program = nullptr;
  uint32_t stop_at = 100, calls = 0, of = 0;
  ecad_status nested = ECAD_OK;
  float first = NAN;
};

int32_t on_item(void* user, uint32_t done, uint32_t of) {
  auto* p = static_cast<Progress*>(user);
  ++p->calls;
  p->of = of;
  if (p->program != nullptr) {
    const ecad_run_item item{0, 0};
    p->nested = ecad_run(p->state, p->program, &item, 1, nullptr, nullptr);
    float v[4];
    if (ecad_state_read(p->state, "latents", v, sizeof v, nullptr) == ECAD_OK) p->first = v[0];
  }
  return done == p->stop_at;
}

}  // namespace

TEST(cancel_and_progress) {
  auto device = open_device();
  auto program = load(device.get(), nullptr, Toy().p);
  auto state = new_state(program.get());
  write(state.get(), "latents", {1, 2, 3, 4});
  Progress progress;
  progress.state = state.get();
  progress.program = program.get();
  ecad_run_args args = ECAD_RUN_ARGS_INIT;
  args.on_item = on_item;
  args.user = &progress;
  CHECK_OK(ecad_run_schedule(state.get(), program.get(), 0, &args, &err));
  CHECK_EQ(progress.calls, 3u);
  CHECK_EQ(progress.of, 3u);
  CHECK_EQ(progress.nested, ECAD_INVALID_ARGUMENT);  // a run inside a run
  CHECK_EQ(progress.first, -6.0f);                   // but a callback may look at the state
  progress = Progress();
  progress.stop_at = 2;
  CHECK_EQ(ecad_run_schedule(state.get(), program.get(), 0, &args, nullptr), ECAD_CANCELLED);
  CHECK_EQ(progress.calls, 2u);

  Handle<ecad_cancel> cancel(ecad_cancel_create());
  args.on_item = nullptr;
  args.cancel = cancel.get();
  ecad_cancel_trigger(cancel.get());
  ecad_error err = ECAD_ERROR_INIT;
  CHECK_EQ(ecad_run_schedule(state.get(), program.get(), 0, &args, &err), ECAD_CANCELLED);
  CHECK_EQ(err.code, ECAD_CANCELLED);
  ecad_cancel_reset(cancel.get());
  CHECK_OK(ecad_run_schedule(state.get(), program.get(), 0, &args, &err));
}

TEST(times) {
  auto device = open_device();
  auto program = load(device.get(), nullptr, Toy().p);
  auto state = new_state(program.get());
  write(state.get(), "latents", {1, 2, 3, 4});
  ecad_op_time times[16];
  ecad_run_args args = ECAD_RUN_ARGS_INIT;
  args.times = times;
  args.times_cap = 16;
  CHECK_OK(ecad_run_schedule(state.get(), program.get(), 1, &args, &err));
  CHECK_EQ(args.times_len, 8u);  // four ops, then two times two
  const uint32_t ops[8] = {0, 1, 2, 3, 4, 5, 4, 5}, items[8] = {0, 0, 0, 0, 1, 1, 2, 2};
  for (int i = 0; i < 8; ++i) {
    CHECK_EQ(times[i].op, ops[i]);
    CHECK_EQ(times[i].item, items[i]);
    CHECK(i == 0 || times[i].start_ns >= times[i - 1].start_ns + times[i - 1].dur_ns);
  }
  args.times_cap = 2;
  times[2].op = 77;
  CHECK_OK(ecad_run_schedule(state.get(), program.get(), 1, &args, &err));
  CHECK_EQ(args.times_len, 8u);
  CHECK_EQ(times[2].op, 77u);
}

TEST(check_finite_names_the_place) {
  auto device = open_device();
  Toy toy;
  toy.p.ops[3].block = 4;
  toy.p.ops[3].component = 2;
  auto program = load(device.get(), nullptr, toy.p);
  auto state = new_state(program.get());
  write(state.get(), "latents", {1, 2, 3e38f, 4});
  ecad_run_args args = ECAD_RUN_ARGS_INIT;
  args.flags = ECAD_RUN_CHECK_FINITE;
  ecad_error err = ECAD_ERROR_INIT;
  CHECK_EQ(ecad_run_schedule(state.get(), program.get(), 0, &args, &err), ECAD_DEVICE_ERROR);
  CHECK(std::strstr(err.message, "step 0, section 0 \"compute\", op 0 \"scale\" (lincomb): output 0 [1,2,2] holds an infinity at [0,1,0]") != nullptr);
  CHECK_EQ(err.op, 0);
  write(state.get(), "latents", {1, NAN, 3, 4});
  CHECK_FAILS(ecad_run_schedule(state.get(), program.get(), 0, &args, &err), ECAD_DEVICE_ERROR, "holds NaN at [0,0,1]");
  // The slot's op says whose it is: 3.4e38 is finite and its double is not.
  write(state.get(), "latents", {1, 2, 1.7e38f, 4});
  CHECK_FAILS(ecad_run_schedule(state.get(), program.get(), 0, &args, &err), ECAD_DEVICE_ERROR, "step 0, section 0 \"compute\", block 4, component 2, op 3 \"sum\" (add): output 0 [1,2,2] holds an infinity");
  write(state.get(), "latents", {1, 2, 3, 4});
  CHECK_OK(ecad_run_schedule(state.get(), program.get(), 0, &args, &err));
}

TEST(run_time_errors_of_operands) {
  writer::Program p;
  const uint32_t q = p.persistent("q", kF32, {1, 2, 4}), counts = p.persistent("counts", writer::kI32, {1}), y = p.persistent("y", kF32, {1, 2, 4});
  p.op(writer::kAttention, {q, q, q, counts}, {y}, {2, 2, 0}, {1}, "attn");
  p.io("q", q, 1);
  p.io("counts", counts, 1);
  auto device = open_device();
  auto program = load(device.get(), nullptr, p);
  auto state = new_state(program.get());
  write(state.get(), "q", {1, 2, 3, 4, 5, 6, 7, 8});
  const ecad_run_item item{0, 0};
  for (int32_t bad : {0, -1, 3}) {
    CHECK_OK(ecad_state_write(state.get(), "counts", &bad, 4, &err));
    CHECK_FAILS(ecad_run(state.get(), program.get(), &item, 1, nullptr, &err), ECAD_INVALID_ARGUMENT, "op 0 \"attn\" (attention) at step 0: key count");
    float v[8];
    CHECK_FAILS(ecad_state_read_buffer(state.get(), 2, v, sizeof v, &err), ECAD_NOT_READY, "\"y\"");
  }
  const int32_t fine = 2;
  CHECK_OK(ecad_state_write(state.get(), "counts", &fine, 4, &err));
  run(state.get(), program.get(), {{0, 0}});
}

// Two threads, each with its own states, on one device: calls are serialised, nothing mixes.
TEST(threads_share_a_device) {
  auto device = open_device();
  auto program = load(device.get(), nullptr, Toy().p);
  auto trunk = new_state(program.get());
  write(trunk.get(), "latents", {1, 2, 3, 4});
  run(trunk.get(), program.get(), {{0, 0}});
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  std::vector<Handle<ecad_state>> states;
  for (int t = 0; t < 2; ++t) states.push_back(fork(trunk.get()));
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < 200; ++round) {
        ecad_state* branch = nullptr;
        if (ecad_state_fork(states[static_cast<size_t>(t)].get(), &branch, nullptr) != ECAD_OK) { ++wrong; return; }
        const ecad_run_item items[2] = {{t == 0 ? 0u : 1u, 1}, {1, 2}};
        float v[4] = {};
        if (ecad_run(branch, program.get(), items, 2, nullptr, nullptr) != ECAD_OK || ecad_state_read(branch, "out", v, sizeof v, nullptr) != ECAD_OK) ++wrong;
        if (v[0] != (t == 0 ? 1.0f : -3.0f)) ++wrong;
        ecad_state_release(branch);
      }
    });
  }
  for (auto& t : threads) t.join();
  CHECK_EQ(wrong.load(), 0);
}

CHECK_MAIN()
