// cp.async: copies of the issuing thread that are complete for it after a wait, and for others after a barrier that follows.
#include "machine.h"
#include "ops.h"

namespace ecad::cuda::emu {

void Machine::land_copy(Lane&, Copy& c) {
  if (c.landed) return;
  u8* dst = shared(c.dst);
  if (c.valid) std::memcpy(dst, c.src, c.valid);
  std::memset(dst + c.valid, 0, c.bytes - c.valid);
  c.landed = true;
}

void op::cp_async(u32 dst, const void* src, u32 bytes, u32 valid, Site site) {
  Machine& m = *machine;
  Lane& l = m.self();
  if (valid > bytes) {
    m.fault(Fault::kBounds, site, "cp.async of " + std::to_string(bytes) + " bytes with " + std::to_string(valid) + " valid ones");
    valid = bytes;
  }
  if (!m.shared_ok(dst, bytes, site, "cp.async")) return;
  if (reinterpret_cast<uintptr_t>(src) % bytes) m.fault(Fault::kAlignment, site, "cp.async of " + std::to_string(bytes) + " bytes from a misaligned address");
  if (valid && !m.global_ok(src, valid, site, 1)) valid = 0;
  m.count_access(l, site, {static_cast<u8>(bytes), true, true}, dst);
  if (valid) {
    m.count_access(l, site, {static_cast<u8>(valid), false, false}, reinterpret_cast<uintptr_t>(src));
    m.global_read(l, src, valid, site);
  }
  m.generic_write(l, dst, bytes, static_cast<u8>(l.lane), site);
  for (u32 a = dst; a < dst + bytes; a += 4)
    if (!m.word(a).barrier) m.word(a).copying = true;
  std::memset(m.shared(dst), 0xff, bytes);
  l.open_copies.push_back({dst, src, bytes, valid, false, site});
  const Landing landing = m.options.landing;
  if (landing == Landing::kEarly || (landing == Landing::kRandom && m.rng.below(2))) m.land_copy(l, l.open_copies.back());
}

void op::cp_async_commit(Site) {
  Lane& l = machine->self();
  l.copy_groups.push_back(std::move(l.open_copies));
  l.open_copies.clear();
}

void op::cp_async_wait(u32 keep, Site) {
  Machine& m = *machine;
  Lane& l = m.self();
  while (l.copy_groups.size() > keep) {
    for (Copy& c : l.copy_groups.front()) {
      m.land_copy(l, c);
      for (u32 a = c.dst; a < c.dst + c.bytes; a += 4) {
        Word& w = m.word(a);
        w.copying = false;
        w.write_clock = l.warp->time;  // as if stored now
      }
    }
    if (!l.first_unfenced && !l.copy_groups.front().empty()) l.first_unfenced = l.warp->time;
    l.copy_groups.erase(l.copy_groups.begin());
  }
}

}  // namespace ecad::cuda::emu
