// Collectives of a warp and barriers of a block.
#include "machine.h"
#include "matrix.h"
#include "ops.h"

namespace ecad::cuda::emu {
namespace {

struct ShuffleArgs {
  op::Shuffle mode;
  u64 value;
  u32 by;
  u64 out;
};
struct VoteArgs {
  bool value;
  u32 out;
};

void run_shuffle(Warp& w) {
  for (u32 i = 0; i < 32; ++i) {
    auto* a = static_cast<ShuffleArgs*>(w.lanes[i].args);
    u32 from = i;
    switch (a->mode) {
      case op::Shuffle::kXor: from = i ^ a->by; break;
      case op::Shuffle::kIndex: from = a->by % 32; break;
      case op::Shuffle::kDown: from = i + a->by; break;
      case op::Shuffle::kUp: from = i - a->by; break;
    }
    a->out = static_cast<ShuffleArgs*>(w.lanes[from < 32 ? from : i].args)->value;
  }
}

void run_vote(Warp& w) {
  u32 bits = 0;
  for (u32 i = 0; i < 32; ++i) bits |= static_cast<u32>(static_cast<VoteArgs*>(w.lanes[i].args)->value) << i;
  for (u32 i = 0; i < 32; ++i) static_cast<VoteArgs*>(w.lanes[i].args)->out = bits;
}

void run_warp_sync(Machine& m, Warp& w) {
  u32* clock = m.scratch();
  u32* proxy = clock + m.stride();
  std::memset(clock, 0, sizeof(u32) * 2 * m.stride());
  for (u32 i = 0; i < 32; ++i) {
    m.join(clock, w.lanes[i].clock);
    m.join(proxy, w.lanes[i].proxy);
  }
  clock[w.index] = w.time;
  const u32 seen = m.warp_proxied(w);
  if (seen > proxy[w.index]) proxy[w.index] = seen;
  for (u32 i = 0; i < 32; ++i) {
    std::memcpy(w.lanes[i].clock, clock, sizeof(u32) * m.stride());
    std::memcpy(w.lanes[i].proxy, proxy, sizeof(u32) * m.stride());
  }
  ++w.time;
}

const char* collective_name(Collective c) {
  switch (c) {
    case Collective::kNone: break;
    case Collective::kWarpSync: return "warp_sync";
    case Collective::kShuffle: return "shuffle";
    case Collective::kVote: return "vote";
    case Collective::kElect: return "elect_one";
    case Collective::kLdmatrix: return "ldmatrix";
    case Collective::kStmatrix: return "stmatrix";
    case Collective::kMma: return "mma";
  }
  return "?";
}

}  // namespace

void Machine::collective(Collective kind, Site site, void* args) {
  Lane& l = *current_;
  Warp& w = *l.warp;
  if (!w.arrived) {
    w.collective = kind;
    w.site = site;
  } else if (w.collective != kind || w.site != site) {
    fault(Fault::kDivergence, site,
          std::string(collective_name(kind)) + " while other lanes of the warp are in the " + collective_name(w.collective) + " of line " + std::to_string(w.site.line) +
              "; all lanes must be in the same one");
    stop();
  }
  l.args = args;
  w.arrived |= 1u << l.lane;
  if (w.arrived != 0xffffffffu) {
    suspend(Wait::kCollective, site);
    return;
  }
  w.arrived = 0;
  switch (kind) {
    case Collective::kWarpSync: run_warp_sync(*this, w); break;
    case Collective::kShuffle: run_shuffle(w); break;
    case Collective::kVote: run_vote(w); break;
    case Collective::kLdmatrix: run_ldmatrix(*this, w); break;
    case Collective::kStmatrix: run_stmatrix(*this, w); break;
    case Collective::kMma: run_mma(*this, w); break;
    case Collective::kElect: case Collective::kNone: break;
  }
  for (u32 i = 0; i < 32; ++i) w.lanes[i].wait = Wait::kNone;
  w.ready = 0xffffffffu;
}

void Machine::barrier(u32 id, u32 threads, bool wait, Site site) {
  if (id >= 16 || threads == 0 || threads % 32 || threads > lanes.size()) {
    fault(Fault::kBarrier, site,
          "barrier " + std::to_string(id) + " of " + std::to_string(threads) + " threads: numbers are 0..15, threads a multiple of 32 within the block");
    stop();
  }
  Barrier& b = barriers[id];
  if (!b.arrived) b.expected = threads;
  if (b.expected != threads) {
    fault(Fault::kBarrier, site, "barrier " + std::to_string(id) + " of " + std::to_string(threads) + " threads, but others arrived at it for " + std::to_string(b.expected));
    stop();
  }
  Lane& l = *current_;
  publish(l, &b.clock, &b.proxy);
  if (!wait) ++l.warp->time;  // what follows is not released
  if (wait) b.waiting.push_back(l.index);
  if (++b.arrived < b.expected) {
    if (!wait) return;
    l.wait_id = id;
    suspend(Wait::kBarrier, site);
    return;
  }
  u32 last_warp = ~0u;
  for (u32 i : b.waiting) {
    Lane& other = lanes[i];
    acquire(other, b.clock, b.proxy);
    make_ready(other);
    if (other.warp_index != last_warp) ++other.warp->time;
    last_warp = other.warp_index;
  }
  b.arrived = 0;
  b.waiting.clear();
  std::fill(b.clock.begin(), b.clock.end(), 0);
  std::fill(b.proxy.begin(), b.proxy.end(), 0);
}

// ---- what kernels call ---------------------------------------------------------------------------------------------------

void op::barrier(u32 id, u32 threads, bool wait, Site site) { machine->barrier(id, threads, wait, site); }
void op::warp_sync(Site site) { machine->collective(Collective::kWarpSync, site, nullptr); }

u64 op::shuffle(Shuffle mode, u64 value, u32 by, Site site) {
  ShuffleArgs a = {mode, value, by, 0};
  machine->collective(Collective::kShuffle, site, &a);
  return a.out;
}

u32 op::ballot(bool value, Site site) {
  VoteArgs a = {value, 0};
  machine->collective(Collective::kVote, site, &a);
  return a.out;
}

bool op::elect(Site site) {
  machine->collective(Collective::kElect, site, nullptr);
  return machine->self().lane == machine->self().warp->elected;
}

void op::trap(Site site) {
  machine->fault(Fault::kTrap, site, "the kernel gave up");
  machine->stop();
}

u64 op::timer() {
  static u64 now = 0;
  return now += 32;
}

}  // namespace ecad::cuda::emu
