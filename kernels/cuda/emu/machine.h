// Inside the emulator: one block at a time, its threads (lanes), shared memory, clocks.
//
// Order is kept by vector clocks over agents: the warps, each warpgroup's stream of wgmma groups, the mbarriers. A component of a warp counts its
// releases; of a stream, its groups; of an mbarrier, its completed phases. Every lane has two vectors: what is ordered before it, and the part of
// that which the async proxy sees too. A lane's component of its own warp is what it acquired of the warp's *other* lanes.
#pragma once
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "emulator.h"
#include "fiber.h"
#include "site.h"

namespace ecad::cuda::emu {

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using i64 = int64_t;

constexpr u32 kSmemBase = 0x400;       // where the dynamic block begins; the device reserves as much
constexpr u32 kMaxSmem = 227 << 10;
constexpr u32 kReaderAgents = 40;      // warps and wgmma streams come first among the agents; nobody else is noted as reader
constexpr u8 kAnyLane = 0xff;          // a whole warp's access, or an asynchronous one

struct Rng {  // splitmix64
  u64 state = 1;
  u64 next() {
    u64 z = state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
  }
  u32 below(u32 n) { return static_cast<u32>((next() >> 32) * n >> 32); }
};

// ---- shadow of memory -------------------------------------------------------------------------------------------------

// Who touched a word of shared memory last.
struct Word {
  u32 write_clock = 0, read_clock = 0;  // 0: never
  u16 write_agent = 0, read_agent = 0;
  u8 write_lane = 0, read_lane = 0;
  u8 write_mask = 0xf;                  // bytes of the word that the writer wrote
  bool async = false;                   // written through the async proxy
  bool barrier = false;                 // holds an mbarrier
  bool copying = false;                 // destination of a cp.async that is not waited for
  u16 reading = 0;                      // bulk stores that may still read it
  int32_t readers = -1;                 // several concurrent readers: index of a vector of clocks
  u16 write_line = 0, read_line = 0;
};

// A word of global memory during one launch. Threads are known for each half, because bfloat16 elements have threads of their own.
struct GlobalWord {
  struct Half {
    u32 write_clock = 0, read_clock = 0;
    u8 write_warp = 0, write_lane = 0, read_warp = 0, read_lane = 0;
  };
  Half halves[2];
  u32 write_block = 0, read_block = 0;  // block number + 1; 0: none; kManyBlocks
  bool atomic = false;
  u8 read_mask = 0, write_mask = 0;     // bytes of the word
  u16 write_line = 0;
};
constexpr u32 kManyBlocks = 0xffffffffu;

// ---- threads ----------------------------------------------------------------------------------------------------------

enum class Wait : u8 { kNone, kCollective, kBarrier, kMbarrier, kGroup, kDone };

enum class Collective : u8 { kNone, kWarpSync, kShuffle, kVote, kElect, kLdmatrix, kStmatrix, kMma };

struct Warp;

// One cp.async of a lane.
struct Copy {
  u32 dst;
  const void* src;
  u32 bytes, valid;
  bool landed;
  Site site;
};

struct Lane {
  Fiber fiber;
  u32 index = 0, lane = 0, warp_index = 0;
  Warp* warp = nullptr;
  Wait wait = Wait::kNone;
  Site site = {"", 0};              // where it waits
  u32 wait_id = 0, wait_parity = 0; // barrier, or mbarrier's index
  void* args = nullptr;             // of the collective it waits in
  u32* clock = nullptr;
  u32* proxy = nullptr;
  u32 first_unfenced = 0;           // warp time of the first generic write to shared memory since the last proxy fence; 0: none
  u32 last_fence = 0;               // warp time of the last proxy fence
  std::vector<Copy> open_copies;    // not committed
  std::vector<std::vector<Copy>> copy_groups;  // oldest first
  std::vector<u32> open_bulk;       // bulk stores (indices of Block::bulk), not committed
  std::vector<std::vector<u32>> bulk_groups;
  u32 bulk_read_done = 0;           // of bulk_groups, how many are known to have been read
  bool fenced = false;              // wgmma.fence executed since the last wait
};

struct AccessGroup {  // one warp's execution of one access
  u32 lanes = 0;         // that took part
  u64 address[32];
};
struct SiteAccess {
  u32 seen[32] = {};     // executions by each lane
  u32 first = 0;         // execution number of the oldest open group
  u32 closed = 0;        // groups at the front of `groups` that are done with
  std::vector<AccessGroup> groups;
};
struct AccessKind {
  u8 bytes;
  bool shared, write;
};

struct Warp {
  u32 index = 0, time = 1;
  u32 ready = 0;                    // lanes that can run
  u32 done = 0;
  Collective collective = Collective::kNone;
  Site site = {"", 0};
  u32 arrived = 0;
  u32 elected = 0;
  Lane* lanes = nullptr;
  std::vector<SiteAccess> accesses;  // by site number
};

struct Barrier {
  u32 expected = 0, arrived = 0;
  std::vector<u32> clock, proxy;
  std::vector<u32> waiting;  // thread indices
  std::vector<u32> warps;    // that arrived; their time advances when it completes
};

struct Mbarrier {
  u32 address = 0, count = 0, pending = 0;
  u32 phase = 0;                                // completed ones
  u64 expected = 0, issued = 0, landed = 0;     // bytes of the phase under way
  bool fenced = false;
  u32 agent = 0;
  u16 init_warp = 0; u8 init_lane = 0; u32 init_clock = 0;
  std::vector<u32> clock, proxy;                // of the arrivals of the phase under way
  std::vector<u32> done_clock, done_proxy;      // of the last completed phase
};

// A bulk copy under way.
struct Bulk {
  enum Kind : u8 { kLoad, kStore } kind = kLoad;
  bool tensor = false, landed = false, read_done = false;
  TensorMap map;
  int32_t at[5] = {};
  u32 smem = 0, bytes = 0;
  void* global = nullptr;
  u32 mbarrier = 0;   // index
  Site site;
};

struct WgmmaOp;

struct Warpgroup {
  u32 index = 0, agent = 0;
  u32 arrived = 0;                  // lanes in the collective under way
  u8 kind = 0;                      // of that collective
  Site site = {"", 0};
  u32 groups = 0;                   // committed
  std::vector<WgmmaOp*> open;       // issued, not committed
  std::deque<std::vector<WgmmaOp*>> committed;  // not landed
  u32 registers = 0;                // setmaxnreg's, 0: as launched
};

// ---- the block --------------------------------------------------------------------------------------------------------

class Machine {
 public:
  // run.cpp
  Report run(const KernelEntry&, const LaunchShape&, const void* params, size_t bytes);
  [[noreturn]] void lane_main();
  void suspend(Wait, Site);             // the running lane waits; returns when somebody made it ready
  void make_ready(Lane&);
  [[noreturn]] void stop();             // ends the launch from inside a lane
  Lane& self() { return *current_; }

  // report.cpp
  void fault(Fault, Site, const std::string& what);
  u16 site_number(Site, AccessKind);

  // clock.cpp
  u32 new_agent();
  u32* scratch() { return scratch_.data(); }
  void join(u32* to, const u32* from) const;
  void publish(Lane&, std::vector<u32>* clock, std::vector<u32>* proxy);  // joins what the lane releases; the caller advances the warp's time
  void acquire(Lane&, const std::vector<u32>& clock, const std::vector<u32>& proxy);
  bool ordered(const Lane&, u32 agent, u32 clock, u8 lane) const;
  bool proxied(const Lane&, const Word&) const;
  u32 warp_proxied(const Warp&) const;

  // shared.cpp
  bool shared_ok(u32 address, u32 bytes, Site, const char* what);  // bounds and alignment
  u8* shared(u32 address) { return smem_.data() + (address - kSmemBase); }
  Word& word(u32 address) { return words_[(address - kSmemBase) / 4]; }
  void generic_read(Lane&, u32 address, u32 bytes, u8 as_lane, Site);
  void generic_write(Lane&, u32 address, u32 bytes, u8 as_lane, Site);
  void async_write(Lane&, u32 address, u32 bytes, u32 agent, u32 clock, Site);
  void async_read(Lane&, u32 address, u32 bytes, Site);  // marks it being read
  void stream_read(const u32* clock, const u32* proxy, u32 address, u32 bytes, u32 agent, u32 at, Site);  // clocks: of the slowest lane
  void note_read(const u32* clock, Word&, u32 agent, u32 at, u8 as_lane, u16 line);
  std::string who(u32 agent, u8 lane, u16 line) const;

  // global.cpp
  void global_read(Lane&, const void*, u32 bytes, Site, bool read_only = false);
  void global_write(Lane&, const void*, u32 bytes, Site, bool atomic = false);
  bool global_ok(const void*, u32 bytes, Site, u32 align = 0);  // 0: the access's own size, at most 16
  void begin_launch_memory();
  void end_launch_memory(Counters*);

  // count.cpp
  void count_access(Lane&, Site, AccessKind, u64 address);
  void count_rows(Site, const u32* addresses, u32 rows);  // ldmatrix, stmatrix: 16-byte rows, eight a wavefront
  void flush_accesses(Warp&);
  void sum_sites();

  // sync.cpp
  void collective(Collective, Site, void* args);
  void barrier(u32 id, u32 threads, bool wait, Site);

  // copy.cpp, mbarrier.cpp, bulk.cpp, wgmma.cpp
  void land_copy(Lane&, Copy&);
  Mbarrier* find_mbarrier(u32 address, Site, bool async);
  void complete_if_done(Mbarrier&);
  void issue(const Bulk&);
  void land(Bulk&);
  bool land_something(bool random);     // one pending asynchronous operation; false: none
  void land_groups(Warpgroup&, u32 keep);
  void check_exit(Lane&);

  LaunchShape shape;
  Rng rng;
  Options options;
  std::vector<Lane> lanes;
  std::vector<Warp> warps;
  std::vector<Warpgroup> groups;
  Barrier barriers[16];
  std::vector<Mbarrier> mbarriers;
  std::unordered_map<u32, u32> mbarrier_at;  // address -> index
  std::deque<Bulk> bulk;
  u32 bulk_landed = 0;                  // all before this index have landed
  std::unordered_set<const void*> acquired_maps;
  std::vector<u32> reader_clocks;       // rows of kReaderAgents clocks: see Word::readers
  u32 stride() const { return stride_; }
  u32 agents() const { return agents_; }
  u32 block_number() const { return block_; }
  Report* report() { return &report_; }

 private:
  void run_block(u32 x, u32 y, u32 z);
  void begin_block();
  Lane* pick();
  void switch_to(Lane*);
  void deadlock();
  void restride(u32 stride);
  bool check_read(Lane&, Word&, u8 mask, Site);
  bool check_write(Lane&, Word&, u8 mask, Site);
  void close_group(u16 site, const AccessGroup&);

  Report report_;
  const KernelEntry* kernel_ = nullptr;
  const void* params_ = nullptr;
  Fiber main_;
  Lane* current_ = nullptr;
  bool stopped_ = false;
  u32 block_ = 0, alive_ = 0, stride_ = 0, agents_ = 0;
  std::vector<u32> clocks_, scratch_;
  std::vector<u8> smem_;
  std::vector<Word> words_;
  std::unordered_map<u64, u32> issue_index_;
  std::unordered_map<u64, u16> site_index_;
  std::vector<AccessKind> site_kinds_;  // of report_.sites
  struct RecentSite {
    Site site = {nullptr, 0};
    AccessKind kind = {};
    u16 number = 0;
  } recent_sites_[64];                  // by line
};

extern Machine* machine;  // the launch under way

bool in_device_memory(const void*);  // inside a piece that add_memory named

}  // namespace ecad::cuda::emu
