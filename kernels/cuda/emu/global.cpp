// Global memory: which of it kernels may touch, what a launch read and wrote, and conflicts between and within blocks.
#include <algorithm>
#include <map>
#include <memory>
#include <mutex>

#include "machine.h"
#include "ops.h"

namespace ecad::cuda::emu {
namespace {

constexpr u64 kPageBytes = 4096;

struct Page {
  u64 launch = 0;  // its words are of this launch; older ones are stale
  GlobalWord words[kPageBytes / 4];
};

struct GlobalMemory {
  std::mutex mutex;                       // of `pieces`, which the host changes from any thread
  std::map<uintptr_t, uintptr_t> pieces;  // begin -> end
  std::unordered_map<u64, std::unique_ptr<Page>> pages;
  u64 launch = 0, last_number = ~u64{0};
  Page* last = nullptr;
  uintptr_t hit_begin = 0, hit_end = 0;   // the piece that the last access was in
  u64 unique_read = 0, unique_written = 0;
};

GlobalMemory& memory() {
  static GlobalMemory m;
  return m;
}

GlobalWord& global_word(u64 address) {
  GlobalMemory& g = memory();
  const u64 number = address / kPageBytes;
  if (number != g.last_number) {
    std::unique_ptr<Page>& page = g.pages[number];
    if (!page) page = std::make_unique<Page>();
    if (page->launch != g.launch) {
      std::fill(std::begin(page->words), std::end(page->words), GlobalWord{});
      page->launch = g.launch;
    }
    g.last_number = number;
    g.last = page.get();
  }
  return g.last->words[address % kPageBytes / 4];
}

u8 touched(u64 word_address, u64 begin, u64 end) {  // bytes of the word inside [begin, end)
  const u64 from = std::max(begin, word_address) - word_address, to = std::min(end, word_address + 4) - word_address;
  return static_cast<u8>(((1u << to) - 1) & ~((1u << from) - 1));
}

}  // namespace

void add_memory(const void* base, size_t bytes) {
  GlobalMemory& g = memory();
  const std::lock_guard<std::mutex> lock(g.mutex);
  g.pieces[reinterpret_cast<uintptr_t>(base)] = reinterpret_cast<uintptr_t>(base) + bytes;
}

void remove_memory(const void* base) {
  GlobalMemory& g = memory();
  const std::lock_guard<std::mutex> lock(g.mutex);
  g.pieces.erase(reinterpret_cast<uintptr_t>(base));
}

bool in_device_memory(const void* p) {
  GlobalMemory& g = memory();
  const std::lock_guard<std::mutex> lock(g.mutex);
  const auto at = g.pieces.upper_bound(reinterpret_cast<uintptr_t>(p));
  return at != g.pieces.begin() && reinterpret_cast<uintptr_t>(p) < std::prev(at)->second;
}

void Machine::begin_launch_memory() {
  GlobalMemory& g = memory();
  if (g.pages.size() > (64 << 20) / kPageBytes) g.pages.clear();  // the shadow is ten times the memory it describes
  ++g.launch;
  g.last_number = ~u64{0};
  g.hit_begin = g.hit_end = 0;
  g.unique_read = g.unique_written = 0;
}

void Machine::end_launch_memory(Counters* c) {
  c->unique_read_bytes = memory().unique_read;
  c->unique_written_bytes = memory().unique_written;
}

bool Machine::global_ok(const void* p, u32 bytes, Site site, u32 align) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  if (!align) align = bytes > 16 ? 16 : bytes;
  if (address % align) {
    fault(Fault::kAlignment, site, "global access of " + std::to_string(bytes) + " bytes at an address that is " + std::to_string(address % align) + " mod " + std::to_string(align));
    return false;
  }
  GlobalMemory& g = memory();
  if (address >= g.hit_begin && address + bytes <= g.hit_end) return true;
  const std::lock_guard<std::mutex> lock(g.mutex);
  if (g.pieces.empty()) {
    if (p) return true;
  } else {
    auto at = g.pieces.upper_bound(address);
    if (at != g.pieces.begin()) {
      --at;
      if (address >= at->first && address + bytes <= at->second) {
        g.hit_begin = at->first, g.hit_end = at->second;
        return true;
      }
    }
  }
  std::string where;
  const auto after = g.pieces.upper_bound(address);
  if (after != g.pieces.begin()) {
    const auto before = std::prev(after);
    where = ", " + std::to_string(address - before->first) + " bytes into a piece of " + std::to_string(before->second - before->first);
  }
  fault(Fault::kBounds, site, "global access of " + std::to_string(bytes) + " bytes outside of device memory" + where);
  return false;
}

void Machine::global_read(Lane& l, const void* p, u32 bytes, Site site, bool read_only) {
  GlobalMemory& g = memory();
  report_.counters.read_bytes += bytes;
  const u64 begin = reinterpret_cast<uintptr_t>(p), end = begin + bytes;
  const u32 me = block_ + 1;
  for (u64 a = begin & ~u64{3}; a < end; a += 4) {
    GlobalWord& w = global_word(a);
    const u8 mask = touched(a, begin, end);
    const bool written = w.write_block && (w.write_mask & mask);
    if (written && w.write_block != me && !w.atomic)
      fault(Fault::kBlocks, site, "read of global memory that another block of the launch wrote (line " + std::to_string(w.write_line) + ")");
    if (written && w.write_block == me && read_only)
      fault(Fault::kRace, site, "read through the read-only path of what this launch wrote (line " + std::to_string(w.write_line) + ")");
    for (u32 i = 0; i < 2; ++i) {
      if (!(mask >> 2 * i & 3)) continue;
      GlobalWord::Half& h = w.halves[i];
      if (written && w.write_block == me && (w.write_mask >> 2 * i & 3) && !w.atomic && !ordered(l, h.write_warp, h.write_clock, h.write_lane))
        fault(Fault::kRace, site, "read of global memory without synchronisation after the write by " + who(h.write_warp, h.write_lane, w.write_line));
      // Of several readers the last is kept; it stands for those that are not ordered before it as "some lane".
      const bool alone = w.read_block != me || ordered(l, h.read_warp, h.read_clock, h.read_lane);
      h.read_lane = alone ? static_cast<u8>(l.lane) : kAnyLane;
      h.read_warp = static_cast<u8>(l.warp_index), h.read_clock = l.warp->time;
    }
    g.unique_read += static_cast<u64>(__builtin_popcount(mask & ~w.read_mask));
    w.read_mask |= mask;
    w.read_block = w.read_block && w.read_block != me ? kManyBlocks : me;
  }
}

void Machine::global_write(Lane& l, const void* p, u32 bytes, Site site, bool atomic) {
  GlobalMemory& g = memory();
  report_.counters.written_bytes += bytes;
  const u64 begin = reinterpret_cast<uintptr_t>(p), end = begin + bytes;
  const u32 me = block_ + 1;
  for (u64 a = begin & ~u64{3}; a < end; a += 4) {
    GlobalWord& w = global_word(a);
    const u8 mask = touched(a, begin, end);
    const bool written = w.write_block && (w.write_mask & mask) && !(atomic && w.atomic), was_read = w.read_block && (w.read_mask & mask) && !atomic;
    if (written && w.write_block != me)
      fault(Fault::kBlocks, site, "write to global memory that another block of the launch wrote (line " + std::to_string(w.write_line) + ")");
    if (was_read && w.read_block != me) fault(Fault::kBlocks, site, "write to global memory that another block of the launch read");
    for (u32 i = 0; i < 2; ++i) {
      if (!(mask >> 2 * i & 3)) continue;
      GlobalWord::Half& h = w.halves[i];
      if (written && w.write_block == me && (w.write_mask >> 2 * i & 3) && !ordered(l, h.write_warp, h.write_clock, h.write_lane))
        fault(Fault::kRace, site, "write to global memory without synchronisation after the write by " + who(h.write_warp, h.write_lane, w.write_line));
      if (was_read && w.read_block == me && (w.read_mask >> 2 * i & 3) && !ordered(l, h.read_warp, h.read_clock, h.read_lane))
        fault(Fault::kRace, site, "write to global memory without synchronisation after the read by " + who(h.read_warp, h.read_lane, 0));
      h.write_warp = static_cast<u8>(l.warp_index), h.write_lane = static_cast<u8>(l.lane), h.write_clock = l.warp->time;
    }
    g.unique_written += static_cast<u64>(__builtin_popcount(mask & ~(w.write_block ? w.write_mask : 0)));
    w.write_mask = static_cast<u8>(w.write_block ? w.write_mask | mask : mask);
    w.write_block = me;
    w.write_line = static_cast<u16>(site.line);
    w.atomic = atomic;
  }
}

// ---- what kernels call ---------------------------------------------------------------------------------------------------

void op::ld_global(const void* p, void* out, u32 bytes, bool read_only, Site site) {
  Machine& m = *machine;
  if (!m.global_ok(p, bytes, site)) {
    std::memset(out, 0xff, bytes);
    return;
  }
  m.count_access(m.self(), site, {static_cast<u8>(bytes), false, false}, reinterpret_cast<uintptr_t>(p));
  m.global_read(m.self(), p, bytes, site, read_only);
  std::memcpy(out, p, bytes);
}

void op::st_global(void* p, const void* value, u32 bytes, Site site) {
  Machine& m = *machine;
  if (!m.global_ok(p, bytes, site)) return;
  m.count_access(m.self(), site, {static_cast<u8>(bytes), false, true}, reinterpret_cast<uintptr_t>(p));
  m.global_write(m.self(), p, bytes, site);
  std::memcpy(p, value, bytes);
}

void op::st_system(void* p, const void* value, u32 bytes, Site site) {
  if (machine->global_ok(p, bytes, site)) std::memcpy(p, value, bytes);
}

namespace {
template <class T, class F>
T atomic(T* p, Site site, F change) {
  Machine& m = *machine;
  if (!m.global_ok(p, sizeof(T), site)) return T{};
  m.count_access(m.self(), site, {static_cast<u8>(sizeof(T)), false, true}, reinterpret_cast<uintptr_t>(p));
  m.global_write(m.self(), p, sizeof(T), site, true);
  const T old = *p;
  *p = change(old);
  return old;
}
}  // namespace
u32 op::atomic_add(u32* p, u32 v, Site site) { return atomic(p, site, [v](u32 old) { return old + v; }); }
float op::atomic_add(float* p, float v, Site site) { return atomic(p, site, [v](float old) { return old + v; }); }
u32 op::atomic_max(u32* p, u32 v, Site site) { return atomic(p, site, [v](u32 old) { return old > v ? old : v; }); }

}  // namespace ecad::cuda::emu
