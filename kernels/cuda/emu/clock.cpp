// Vector clocks: what is ordered before what, and what the async proxy sees.
#include <algorithm>

#include "machine.h"

namespace ecad::cuda::emu {

void Machine::join(u32* to, const u32* from) const {
  for (u32 i = 0; i < stride_; ++i) to[i] = std::max(to[i], from[i]);
}

// Wider vectors for everybody, when mbarriers have used up the room.
void Machine::restride(u32 stride) {
  std::vector<u32> wider(size_t{2} * stride * lanes.size(), 0);
  for (size_t i = 0; i < lanes.size(); ++i) {
    Lane& l = lanes[i];
    u32* to = &wider[2 * stride * i];
    std::copy(l.clock, l.clock + stride_, to);
    std::copy(l.proxy, l.proxy + stride_, to + stride);
    l.clock = to;
    l.proxy = to + stride;
  }
  const auto widen = [&](std::vector<u32>* v) {
    if (!v->empty()) v->resize(stride, 0);
  };
  for (Barrier& b : barriers) widen(&b.clock), widen(&b.proxy);
  for (Mbarrier& m : mbarriers) widen(&m.clock), widen(&m.proxy), widen(&m.done_clock), widen(&m.done_proxy);
  clocks_ = std::move(wider);
  scratch_.assign(size_t{2} * stride, 0);
  stride_ = stride;
}

u32 Machine::new_agent() {
  if (agents_ == stride_) restride(stride_ + 8);
  return agents_++;
}

// Up to which time the async proxy sees all that the warp's lanes wrote.
u32 Machine::warp_proxied(const Warp& w) const {
  u32 seen = w.time;
  for (u32 i = 0; i < 32; ++i)
    if (w.lanes[i].first_unfenced) seen = std::min(seen, w.lanes[i].first_unfenced - 1);
  return seen;
}

void Machine::publish(Lane& l, std::vector<u32>* clock, std::vector<u32>* proxy) {
  clock->resize(stride_, 0);
  proxy->resize(stride_, 0);
  join(clock->data(), l.clock);
  join(proxy->data(), l.proxy);
  u32& own = (*clock)[l.warp_index];
  own = std::max(own, l.warp->time);
  u32& seen = (*proxy)[l.warp_index];
  seen = std::max(seen, warp_proxied(*l.warp));
}

void Machine::acquire(Lane& l, const std::vector<u32>& clock, const std::vector<u32>& proxy) {
  if (clock.empty()) return;
  join(l.clock, clock.data());
  join(l.proxy, proxy.data());
}

bool Machine::ordered(const Lane& l, u32 agent, u32 clock, u8 lane) const {
  return (agent == l.warp_index && lane == l.lane) || l.clock[agent] >= clock;
}

// Does the async proxy, when this lane starts an operation, see the word's last generic write? Through a fence of the writer's before its release,
// or of this lane's after its acquire.
bool Machine::proxied(const Lane& l, const Word& w) const {
  if (w.async || l.proxy[w.write_agent] >= w.write_clock) return true;
  if (w.write_lane == kAnyLane || w.write_agent >= warps.size()) return false;
  return warps[w.write_agent].lanes[w.write_lane].last_fence >= w.write_clock;
}

}  // namespace ecad::cuda::emu
