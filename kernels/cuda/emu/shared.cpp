// Shared memory with its shadow: who wrote and read each word, and whether this lane may know.
#include <algorithm>

#include "machine.h"
#include "ops.h"

namespace ecad::cuda::emu {
namespace {

u8 byte_mask(u32 address, u32 bytes) { return bytes >= 4 ? 0xf : static_cast<u8>(((1u << bytes) - 1) << address % 4); }

}  // namespace

bool Machine::shared_ok(u32 address, u32 bytes, Site site, const char* what) {
  const u32 align = bytes > 16 ? 16 : bytes;
  if (address < kSmemBase || u64{address} + bytes > u64{kSmemBase} + shape.smem_bytes) {
    fault(Fault::kBounds, site,
          std::string(what) + " of " + std::to_string(bytes) + " bytes at shared address " + std::to_string(address) + ", offset " +
              std::to_string(static_cast<i64>(address) - static_cast<i64>(kSmemBase)) + " of a block with " + std::to_string(shape.smem_bytes) + " bytes");
    return false;
  }
  if (address % align) {
    fault(Fault::kAlignment, site, std::string(what) + " of " + std::to_string(bytes) + " bytes at shared address " + std::to_string(address));
    return false;
  }
  return true;
}

std::string Machine::who(u32 agent, u8 lane, u16 line) const {
  const std::string at = line ? " (line " + std::to_string(line) + ")" : "";
  if (agent < warps.size()) return "warp " + std::to_string(agent) + (lane == kAnyLane ? "" : " lane " + std::to_string(lane)) + at;
  if (agent < warps.size() + groups.size()) return "wgmma of warpgroup " + std::to_string(agent - warps.size()) + at;
  for (const Mbarrier& m : mbarriers)
    if (m.agent == agent) return "a bulk copy that reports to the mbarrier at " + std::to_string(m.address) + at;
  return "a bulk copy" + at;
}

// May the lane read what was written last? Reports once per call site; false stops further checks of the access.
bool Machine::check_read(Lane& l, Word& w, u8 mask, Site site) {
  if (w.barrier) {
    fault(Fault::kMbarrier, site, "the words of an mbarrier are read as data");
    return false;
  }
  if (w.copying) {
    fault(Fault::kPending, site, "read of the destination of a cp.async by " + who(w.write_agent, w.write_lane, w.write_line) + " that was not waited for");
    return false;
  }
  if (!w.write_clock || (w.write_mask & mask) != mask) {
    fault(Fault::kUnwritten, site, "shared memory is read that nothing has written");
    return false;
  }
  if (!ordered(l, w.write_agent, w.write_clock, w.write_lane)) {
    const bool bulk_copy = w.write_agent >= warps.size() + groups.size();
    fault(bulk_copy ? Fault::kPending : Fault::kRace, site,
          std::string(bulk_copy ? "read of what was not waited for, written by " : "read without synchronisation after the write by ") +
              who(w.write_agent, w.write_lane, w.write_line));
    return false;
  }
  return true;
}

// May the lane overwrite the word: is the last write ordered before it, and are all reads?
bool Machine::check_write(Lane& l, Word& w, u8 mask, Site site) {
  if (w.barrier) {
    fault(Fault::kMbarrier, site, "the words of an mbarrier are overwritten");
    return false;
  }
  if (w.copying || w.reading) {
    fault(Fault::kPending, site,
          w.copying ? "write to the destination of a cp.async by " + who(w.write_agent, w.write_lane, w.write_line) + " that was not waited for"
                    : std::string("write to the source of a bulk store that was not waited for"));
    return false;
  }
  if (w.write_clock && (w.write_mask & mask) && !ordered(l, w.write_agent, w.write_clock, w.write_lane)) {
    fault(Fault::kRace, site, "write without synchronisation after the write by " + who(w.write_agent, w.write_lane, w.write_line));
    return false;
  }
  if (w.readers >= 0) {
    const u32* clocks = &reader_clocks[static_cast<size_t>(w.readers) * kReaderAgents];
    for (u32 a = 0; a < kReaderAgents && a < agents_; ++a)
      if (clocks[a] && !ordered(l, a, clocks[a], kAnyLane)) {
        fault(a < warps.size() ? Fault::kRace : Fault::kPending, site, "write without synchronisation after the read by " + who(a, kAnyLane, w.read_line));
        return false;
      }
  } else if (w.read_clock && !ordered(l, w.read_agent, w.read_clock, w.read_lane)) {
    fault(w.read_agent < warps.size() ? Fault::kRace : Fault::kPending, site,
          "write without synchronisation after the read by " + who(w.read_agent, w.read_lane, w.read_line));
    return false;
  }
  return true;
}

// Remembers a read by `agent` at its time `at`; `clock` is what the reader has acquired. A read that is ordered before this one need not be kept.
void Machine::note_read(const u32* clock, Word& w, u32 agent, u32 at, u8 as_lane, u16 line) {
  w.read_line = line;
  if (w.readers >= 0) {
    reader_clocks[static_cast<size_t>(w.readers) * kReaderAgents + agent] = at;
    return;
  }
  if (!w.read_clock || (w.read_agent == agent && w.read_lane == as_lane) || clock[w.read_agent] >= w.read_clock) {
    w.read_clock = at, w.read_agent = static_cast<u16>(agent), w.read_lane = as_lane;
    return;
  }
  if (w.read_agent == agent) {
    w.read_clock = std::max(w.read_clock, at), w.read_lane = kAnyLane;
    return;
  }
  w.readers = static_cast<int32_t>(reader_clocks.size() / kReaderAgents);
  reader_clocks.resize(reader_clocks.size() + kReaderAgents, 0);
  u32* clocks = &reader_clocks[static_cast<size_t>(w.readers) * kReaderAgents];
  clocks[w.read_agent] = w.read_clock;
  clocks[agent] = at;
}

void Machine::generic_read(Lane& l, u32 address, u32 bytes, u8 as_lane, Site site) {
  const u8 mask = byte_mask(address, bytes);
  for (u32 a = address & ~3u; a < address + bytes; a += 4) {
    Word& w = word(a);
    if (!check_read(l, w, mask, site)) return;
    note_read(l.clock, w, l.warp_index, l.warp->time, as_lane, static_cast<u16>(site.line));
  }
}

void Machine::generic_write(Lane& l, u32 address, u32 bytes, u8 as_lane, Site site) {
  const u8 mask = byte_mask(address, bytes);
  bool good = true;
  for (u32 a = address & ~3u; a < address + bytes; a += 4) {
    Word& w = word(a);
    if (good) good = check_write(l, w, mask, site);
    if (w.barrier) continue;
    w.write_mask = mask == 0xf || !w.write_clock ? mask : w.write_mask | mask;
    w.write_agent = static_cast<u16>(l.warp_index), w.write_clock = l.warp->time, w.write_lane = as_lane;
    w.write_line = static_cast<u16>(site.line);
    w.async = w.copying = false;
    w.read_clock = 0, w.readers = -1;
  }
  if (!l.first_unfenced) l.first_unfenced = l.warp->time;
}

// A bulk copy, started by the lane, will write these words; they are the agent's from its time `clock` on.
void Machine::async_write(Lane& l, u32 address, u32 bytes, u32 agent, u32 clock, Site site) {
  bool good = true;
  for (u32 a = address & ~3u; a < address + bytes; a += 4) {
    Word& w = word(a);
    if (good) good = check_write(l, w, 0xf, site);
    if (good && w.write_clock && !proxied(l, w)) {
      fault(Fault::kProxy, site, "a bulk copy overwrites what was stored by " + who(w.write_agent, w.write_lane, w.write_line) + ", without a proxy fence between");
      good = false;
    }
    if (w.barrier) continue;
    w.write_mask = 0xf;
    w.write_agent = static_cast<u16>(agent), w.write_clock = clock, w.write_lane = kAnyLane, w.write_line = static_cast<u16>(site.line);
    w.async = true, w.copying = false;
    w.read_clock = 0, w.readers = -1;
  }
}

void Machine::async_read(Lane& l, u32 address, u32 bytes, Site site) {
  bool good = true;
  for (u32 a = address & ~3u; a < address + bytes; a += 4) {
    Word& w = word(a);
    if (good) good = check_read(l, w, 0xf, site);
    if (good && !proxied(l, w)) {
      fault(Fault::kProxy, site, "a bulk store reads what was stored by " + who(w.write_agent, w.write_lane, w.write_line) + ", without a proxy fence between");
      good = false;
    }
    ++w.reading;
  }
}

// wgmma reads operands; clock and proxy: what every lane of the warpgroup has acquired.
void Machine::stream_read(const u32* clock, const u32* proxy, u32 address, u32 bytes, u32 agent, u32 at, Site site) {
  for (u32 a = address & ~3u; a < address + bytes; a += 4) {
    Word& w = word(a);
    if (w.barrier || w.copying || !w.write_clock) {
      fault(w.barrier ? Fault::kMbarrier : w.copying ? Fault::kPending : Fault::kUnwritten, site,
            w.barrier ? "wgmma reads the words of an mbarrier"
            : w.copying ? "wgmma reads the destination of a cp.async that was not waited for" : "wgmma reads shared memory that nothing has written");
      return;
    }
    if (clock[w.write_agent] < w.write_clock) {
      const bool bulk_copy = w.write_agent >= warps.size() + groups.size();
      fault(bulk_copy ? Fault::kPending : Fault::kRace, site,
            std::string(bulk_copy ? "wgmma reads what not every thread has waited for, written by " : "wgmma reads without synchronisation after the write by ") +
                who(w.write_agent, w.write_lane, w.write_line));
      return;
    }
    if (!w.async && proxy[w.write_agent] < w.write_clock) {
      fault(Fault::kProxy, site, "wgmma reads what was stored by " + who(w.write_agent, w.write_lane, w.write_line) + ", without a proxy fence between");
      return;
    }
    note_read(clock, w, agent, at, kAnyLane, static_cast<u16>(site.line));
  }
}

// ---- what kernels call ---------------------------------------------------------------------------------------------------

void op::ld_shared(u32 address, void* out, u32 bytes, Site site) {
  Machine& m = *machine;
  if (!m.shared_ok(address, bytes, site, "load")) {
    std::memset(out, 0xff, bytes);
    return;
  }
  Lane& l = m.self();
  m.count_access(l, site, {static_cast<u8>(bytes), true, false}, address);
  m.generic_read(l, address, bytes, static_cast<u8>(l.lane), site);
  std::memcpy(out, m.shared(address), bytes);
}

void op::st_shared(u32 address, const void* value, u32 bytes, Site site) {
  Machine& m = *machine;
  if (!m.shared_ok(address, bytes, site, "store")) return;
  Lane& l = m.self();
  m.count_access(l, site, {static_cast<u8>(bytes), true, true}, address);
  m.generic_write(l, address, bytes, static_cast<u8>(l.lane), site);
  std::memcpy(m.shared(address), value, bytes);
}

}  // namespace ecad::cuda::emu
