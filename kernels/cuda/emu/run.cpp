// Launches, blocks and the switching of threads.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "machine.h"
#include "ops.h"
#include "wgmma.h"

namespace ecad::cuda::emu {

Machine* machine = nullptr;
Position position;

namespace {

std::mutex launch_mutex;
Options global_options;
uint64_t macs = 0;  // the most of a launch
std::function<void(const Report&)>& observer() {
  static std::function<void(const Report&)> f;
  return f;
}

void lane_entry() {
  enter_fiber();
  machine->lane_main();
}

std::string shape_error(const LaunchShape& s) {
  if (s.threads == 0 || s.threads > 1024 || s.threads % 32) return "a block of " + std::to_string(s.threads) + " threads: must be a multiple of 32 up to 1024";
  if (s.smem_bytes > kMaxSmem) return std::to_string(s.smem_bytes) + " bytes of shared memory: at most " + std::to_string(kMaxSmem);
  if (!s.grid.x || !s.grid.y || !s.grid.z || s.grid.y > 65535 || s.grid.z > 65535 || s.grid.x > 0x7fffffffu)
    return "a grid of " + std::to_string(s.grid.x) + " x " + std::to_string(s.grid.y) + " x " + std::to_string(s.grid.z) + " blocks";
  return "";
}

}  // namespace

Options options() { return global_options; }
void set_options(const Options& o) { global_options = o; }
void set_observer(std::function<void(const Report&)> f) { observer() = std::move(f); }

uint64_t most_macs() { return macs; }

Report run(const KernelEntry& kernel, const LaunchShape& shape, const void* params, size_t bytes) {
  const std::lock_guard<std::mutex> lock(launch_mutex);
  auto m = std::make_unique<Machine>();
  machine = m.get();
  Report report = m->run(kernel, shape, params, bytes);
  machine = nullptr;
  macs = std::max(macs, report.counters.macs);
  if (observer()) observer()(report);
  return report;
}

Status execute(const KernelEntry& kernel, const LaunchShape& shape, const void* params, size_t bytes) {
  const Report report = run(kernel, shape, params, bytes);
  return report.ok() ? Status::ok() : Status(ECAD_DEVICE_ERROR, report.text());
}

Report Machine::run(const KernelEntry& kernel, const LaunchShape& s, const void* params, size_t bytes) {
  report_.kernel = kernel.name;
  report_.shape = shape = s;
  kernel_ = &kernel;
  options = emu::options();
  rng.state = options.seed * 0x2545f4914f6cdd1dull + 1;
  const std::string wrong = shape_error(s);
  if (!wrong.empty()) {
    fault(Fault::kLaunch, {"", 0}, wrong);
    return std::move(report_);
  }
  // One aligned copy for the launch: tensor maps in it outlive the threads that name them.
  const size_t rounded = (bytes + 127) / 128 * 128;
  std::unique_ptr<void, void (*)(void*)> copy(std::aligned_alloc(128, rounded ? rounded : 128), std::free);
  std::memcpy(copy.get(), params, bytes);
  params_ = copy.get();

  begin_launch_memory();
  lanes.resize(s.threads);
  warps.resize(s.threads / 32);
  groups.resize(s.threads / 128);
  smem_.resize(s.smem_bytes);
  words_.resize((s.smem_bytes + 3) / 4);
  position.threads = s.threads;
  position.grid[0] = s.grid.x, position.grid[1] = s.grid.y, position.grid[2] = s.grid.z;
  for (u32 z = 0; z < s.grid.z; ++z)
    for (u32 y = 0; y < s.grid.y; ++y)
      for (u32 x = 0; x < s.grid.x && !stopped_; ++x) run_block(x, y, z);
  end_launch_memory(&report_.counters);
  sum_sites();
  return std::move(report_);
}

void Machine::begin_block() {
  std::fill(smem_.begin(), smem_.end(), 0xff);
  std::fill(words_.begin(), words_.end(), Word{});
  reader_clocks.clear();
  mbarriers.clear();
  mbarrier_at.clear();
  bulk.clear();
  bulk_landed = 0;
  acquired_maps.clear();
  for (Barrier& b : barriers) b = Barrier{};
  agents_ = static_cast<u32>(warps.size() + groups.size());
  stride_ = std::max(stride_, (agents_ + 7) / 8 * 8);
  clocks_.assign(size_t{2} * stride_ * lanes.size(), 0);
  scratch_.assign(size_t{2} * stride_, 0);
  for (size_t i = 0; i < lanes.size(); ++i) {
    Lane& l = lanes[i];
    Lane fresh;
    fresh.fiber = l.fiber;
    l = std::move(fresh);
    l.index = static_cast<u32>(i);
    l.lane = l.index % 32;
    l.warp_index = l.index / 32;
    l.warp = &warps[l.warp_index];
    l.clock = &clocks_[2 * stride_ * i];
    l.proxy = l.clock + stride_;
    start_fiber(&l.fiber, i, lane_entry);
    l.fiber.abandoned = true;  // until it has ended by itself
  }
  for (size_t w = 0; w < warps.size(); ++w) {
    Warp& warp = warps[w];
    std::vector<SiteAccess> accesses = std::move(warp.accesses);
    warp = Warp{};
    warp.accesses = std::move(accesses);
    warp.index = static_cast<u32>(w);
    warp.ready = 0xffffffffu;
    warp.elected = rng.below(32);
    warp.lanes = &lanes[32 * w];
  }
  for (size_t g = 0; g < groups.size(); ++g) {
    groups[g] = Warpgroup{};
    groups[g].index = static_cast<u32>(g);
    groups[g].agent = static_cast<u32>(warps.size() + g);
  }
  alive_ = static_cast<u32>(lanes.size());
}

void Machine::run_block(u32 x, u32 y, u32 z) {
  position.block[0] = x, position.block[1] = y, position.block[2] = z;
  block_ = (z * shape.grid.y + y) * shape.grid.x + x;
  begin_block();
  current_ = nullptr;
  Lane* first = pick();
  current_ = first;
  position.thread = first->index;
  switch_fiber(&main_, &first->fiber);
  for (Warp& w : warps) flush_accesses(w);
  free_wgmma(*this);
}

void Machine::lane_main() {
  kernel_->call(params_);
  Lane& l = *current_;
  check_exit(l);
  l.wait = Wait::kDone;
  l.warp->ready &= ~(1u << l.lane);
  l.warp->done |= 1u << l.lane;
  l.fiber.abandoned = false;
  if (--alive_ == 0) {
    while (land_something(false)) {}
    leave_fiber(&l.fiber, &main_);
  }
  Lane* next = pick();
  if (!next) {
    deadlock();
    leave_fiber(&l.fiber, &main_);
  }
  current_ = next;
  position.thread = next->index;
  ++report_.counters.switches;
  leave_fiber(&l.fiber, &next->fiber);
}

void Machine::make_ready(Lane& l) {
  l.wait = Wait::kNone;
  l.warp->ready |= 1u << l.lane;
}

// The next lane to run: one of the same warp while there is one, then of another, whose order the seed decides. When nobody can run, pending
// asynchronous operations make progress.
Lane* Machine::pick() {
  for (;;) {
    if (current_ && current_->warp->ready) {
      Warp& w = *current_->warp;
      const u32 above = current_->lane == 31 ? 0 : w.ready & ~((2u << current_->lane) - 1);
      return &w.lanes[__builtin_ctz(above ? above : w.ready)];
    }
    if (options.landing == Landing::kRandom && rng.below(4) == 0) land_something(true);
    const u32 n = static_cast<u32>(warps.size()), start = rng.below(n);
    for (u32 i = 0; i < n; ++i) {
      Warp& w = warps[(start + i) % n];
      if (w.ready) return &w.lanes[__builtin_ctz(w.ready)];
    }
    if (!land_something(options.landing == Landing::kRandom)) return nullptr;
  }
}

void Machine::switch_to(Lane* next) {
  Lane* from = current_;
  if (next == from) return;
  current_ = next;
  position.thread = next->index;
  ++report_.counters.switches;
  switch_fiber(&from->fiber, &next->fiber);
}

void Machine::suspend(Wait wait, Site site) {
  Lane& l = *current_;
  l.wait = wait;
  l.site = site;
  l.warp->ready &= ~(1u << l.lane);
  Lane* next = pick();
  if (!next) {
    deadlock();
    stop();
  }
  switch_to(next);
}

void Machine::stop() {
  stopped_ = true;
  leave_fiber(&current_->fiber, &main_);
}

}  // namespace ecad::cuda::emu
