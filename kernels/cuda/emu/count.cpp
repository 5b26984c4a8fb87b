// What accesses cost: wavefronts of shared memory, sectors of global memory. Threads run apart, so the accesses of a warp are put together by source
// line and execution number.
#include <algorithm>

#include "machine.h"

namespace ecad::cuda::emu {
namespace {

// Wavefronts of n lanes: the most distinct words in one of the 32 banks.
u32 wavefronts(const u64* address, u32 n, u32 bytes) {
  u64 words[32];  // n times bytes is at most 128
  u32 count = 0, worst = 1;
  for (u32 i = 0; i < n; ++i)
    for (u64 w = address[i] / 4; w <= (address[i] + bytes - 1) / 4; ++w) words[count++] = w;
  u8 load[32] = {};
  u64 first[32];
  bool simple = true;  // no bank with two words
  for (u32 i = 0; i < count; ++i) {
    const u32 bank = static_cast<u32>(words[i] % 32);
    if (!load[bank]) load[bank] = 1, first[bank] = words[i];
    else if (first[bank] != words[i]) simple = false;
  }
  if (simple) return 1;
  std::sort(words, words + count);
  count = static_cast<u32>(std::unique(words, words + count) - words);
  std::fill(load, load + 32, u8{0});
  for (u32 i = 0; i < count; ++i) worst = std::max<u32>(worst, ++load[words[i] % 32]);
  return worst;
}

// Distinct units of `unit` bytes that n accesses touch.
u32 units(const u64* address, u32 n, u32 bytes, u32 unit) {
  u64 seen[64];
  u32 count = 0;
  for (u32 i = 0; i < n; ++i)
    for (u64 s = address[i] / unit; s <= (address[i] + bytes - 1) / unit; ++s)
      if (!count || seen[count - 1] != s) seen[count++] = s;
  if (!std::is_sorted(seen, seen + count)) std::sort(seen, seen + count);
  return static_cast<u32>(std::unique(seen, seen + count) - seen);
}

}  // namespace

void Machine::close_group(u16 number, const AccessGroup& g) {
  if (!g.lanes) return;
  SiteCounts& site = report_.sites[number];
  const AccessKind kind = site_kinds_[number];
  ++site.accesses;
  const u32 at_once = !kind.shared ? 32 : kind.bytes == 16 ? 8 : kind.bytes == 8 ? 16 : 32;  // lanes of one wavefront
  for (u32 first = 0; first < 32; first += at_once) {
    u64 address[32];
    u32 n = 0;
    for (u32 i = first; i < first + at_once; ++i)
      if (g.lanes >> i & 1) address[n++] = g.address[i];
    if (!n) continue;
    if (kind.shared) {
      site.transactions += wavefronts(address, n, kind.bytes);
      ++site.ideal;
    } else {
      site.transactions += units(address, n, kind.bytes, 32);
      site.ideal += (units(address, n, kind.bytes, kind.bytes) * kind.bytes + 31u) / 32u;
    }
  }
}

void Machine::count_access(Lane& l, Site site, AccessKind kind, u64 address) {
  const u16 number = site_number(site, kind);
  Warp& w = *l.warp;
  if (w.accesses.size() <= number) w.accesses.resize(number + 1u);
  SiteAccess& a = w.accesses[number];
  const u32 index = a.seen[l.lane]++ - a.first + a.closed;
  while (a.groups.size() <= index) a.groups.emplace_back();
  AccessGroup& g = a.groups[index];
  g.address[l.lane] = address;
  g.lanes |= 1u << l.lane;
  while (a.closed < a.groups.size() && a.groups[a.closed].lanes == 0xffffffffu) {
    close_group(number, a.groups[a.closed]);
    ++a.closed;
    ++a.first;
  }
  if (a.closed == a.groups.size() || a.closed > 4096) {
    a.groups.erase(a.groups.begin(), a.groups.begin() + a.closed);
    a.closed = 0;
  }
}

void Machine::count_rows(Site site, const u32* addresses, u32 rows) {
  SiteCounts& s = report_.sites[site_number(site, {16, true, false})];
  ++s.accesses;
  for (u32 first = 0; first < rows; first += 8) {
    u64 eight[8];
    std::copy(addresses + first, addresses + first + 8, eight);
    s.transactions += wavefronts(eight, 8, 16);
    ++s.ideal;
  }
}

// The accesses that not every lane made, at the end of a block.
void Machine::flush_accesses(Warp& w) {
  for (size_t number = 0; number < w.accesses.size(); ++number) {
    SiteAccess& a = w.accesses[number];
    for (size_t i = a.closed; i < a.groups.size(); ++i) close_group(static_cast<u16>(number), a.groups[i]);
    a.groups.clear();
    a.closed = 0;
    std::fill(a.seen, a.seen + 32, 0u);
    a.first = 0;
  }
}

void Machine::sum_sites() {
  Counters& c = report_.counters;
  for (size_t i = 0; i < report_.sites.size(); ++i) {
    const SiteCounts& s = report_.sites[i];
    if (s.shared) c.shared_wavefronts += s.transactions, c.shared_ideal += s.ideal;
    else (site_kinds_[i].write ? c.written_sectors : c.read_sectors) += s.transactions;
  }
}

}  // namespace ecad::cuda::emu
