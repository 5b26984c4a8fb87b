// Mbarriers: arrivals, transaction bytes, phases; and the proxy fences.
#include <algorithm>

#include "machine.h"
#include "ops.h"

namespace ecad::cuda::emu {
namespace {

constexpr u32 kMaxBytes = (1u << 20) - 1;  // of a phase's transaction count

std::string name(const Mbarrier& b) { return "the mbarrier at shared address " + std::to_string(b.address); }

}  // namespace

// The barrier at the address, if the lane may use it. async: a bulk copy will report to it.
Mbarrier* Machine::find_mbarrier(u32 address, Site site, bool async) {
  if (!shared_ok(address, 8, site, "mbarrier")) stop();
  const auto at = mbarrier_at.find(address);
  if (at == mbarrier_at.end()) {
    fault(Fault::kMbarrier, site, "no mbarrier was initialised at shared address " + std::to_string(address));
    stop();
  }
  Mbarrier& b = mbarriers[at->second];
  const Lane& l = *current_;
  if (!ordered(l, b.init_warp, b.init_clock, b.init_lane))
    fault(Fault::kRace, site, name(b) + " is used without synchronisation after its initialisation by " + who(b.init_warp, b.init_lane, 0));
  if (async && !b.fenced)
    fault(Fault::kProxy, site, name(b) + " was initialised without fence_mbarrier_init or fence_proxy_async: bulk copies may not see it");
  return &b;
}

void Machine::complete_if_done(Mbarrier& b) {
  if (b.pending || b.landed != b.expected) return;
  b.clock.resize(stride_, 0), b.proxy.resize(stride_, 0);
  b.done_clock.resize(stride_, 0), b.done_proxy.resize(stride_, 0);
  join(b.done_clock.data(), b.clock.data());
  join(b.done_proxy.data(), b.proxy.data());
  ++b.phase;
  b.done_clock[b.agent] = b.done_proxy[b.agent] = b.phase;
  std::fill(b.clock.begin(), b.clock.end(), 0u);
  std::fill(b.proxy.begin(), b.proxy.end(), 0u);
  b.pending = b.count;
  b.expected = b.issued = b.landed = 0;
  const u32 index = static_cast<u32>(&b - mbarriers.data());
  for (Lane& l : lanes)
    if (l.wait == Wait::kMbarrier && l.wait_id == index && (b.phase & 1) != l.wait_parity) {
      acquire(l, b.done_clock, b.done_proxy);
      make_ready(l);
    }
}

// ---- what kernels call ---------------------------------------------------------------------------------------------------

void op::mbarrier_init(u32 address, u32 count, Site site) {
  Machine& m = *machine;
  Lane& l = m.self();
  if (!m.shared_ok(address, 8, site, "mbarrier")) m.stop();
  if (count == 0 || count >= 1u << 20) {
    m.fault(Fault::kMbarrier, site, "initialised for " + std::to_string(count) + " arrivals");
    m.stop();
  }
  if (m.mbarrier_at.count(address)) m.fault(Fault::kMbarrier, site, "initialised again while in use");
  else m.generic_write(l, address, 8, static_cast<u8>(l.lane), site);
  m.word(address).barrier = m.word(address + 4).barrier = true;
  Mbarrier b;
  b.agent = m.new_agent();
  b.address = address;
  b.count = b.pending = count;
  b.init_warp = static_cast<u16>(l.warp_index), b.init_lane = static_cast<u8>(l.lane), b.init_clock = l.warp->time;
  m.mbarrier_at[address] = static_cast<u32>(m.mbarriers.size());
  m.mbarriers.push_back(std::move(b));
}

void op::mbarrier_invalidate(u32 address, Site site) {
  Machine& m = *machine;
  Lane& l = m.self();
  m.find_mbarrier(address, site, false);  // complains if there is none
  m.mbarrier_at.erase(address);
  m.word(address).barrier = m.word(address + 4).barrier = false;
  m.generic_write(l, address, 8, static_cast<u8>(l.lane), site);
}

void op::mbarrier_arrive(u32 address, u32 expect_bytes, bool arrive, Site site) {
  Machine& m = *machine;
  Lane& l = m.self();
  Mbarrier& b = *m.find_mbarrier(address, site, false);
  b.expected += expect_bytes;
  if (b.expected > kMaxBytes) m.fault(Fault::kMbarrier, site, name(b) + ": more than " + std::to_string(kMaxBytes) + " bytes expected in one phase");
  if (!arrive) return;
  if (!b.pending) {
    m.fault(Fault::kMbarrier, site, name(b) + ": more arrivals than the " + std::to_string(b.count) + " it was initialised for");
    m.stop();
  }
  m.publish(l, &b.clock, &b.proxy);
  ++l.warp->time;
  --b.pending;
  m.complete_if_done(b);
}

void op::mbarrier_wait(u32 address, u32 parity, Site site) {
  Machine& m = *machine;
  Lane& l = m.self();
  Mbarrier& b = *m.find_mbarrier(address, site, false);
  if (parity > 1) m.fault(Fault::kMbarrier, site, "parity " + std::to_string(parity) + ": must be 0 or 1");
  if ((b.phase & 1) != parity) {
    m.acquire(l, b.done_clock, b.done_proxy);
    return;
  }
  l.wait_id = static_cast<u32>(&b - m.mbarriers.data());
  l.wait_parity = parity;
  m.suspend(Wait::kMbarrier, site);
}

void op::fence_proxy(bool only_barriers) {
  Machine& m = *machine;
  Lane& l = m.self();
  for (Mbarrier& b : m.mbarriers)
    if (b.init_warp == l.warp_index && b.init_lane == l.lane) b.fenced = true;
  if (only_barriers) return;
  m.join(l.proxy, l.clock);
  l.first_unfenced = 0;
  l.last_fence = l.warp->time++;
}

}  // namespace ecad::cuda::emu
