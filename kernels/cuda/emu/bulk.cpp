// Bulk copies between global and shared memory, with and without tensor maps.
#include <algorithm>

#include "../ptx_types.h"
#include "machine.h"
#include "ops.h"
#include "tensor_map.h"

namespace ecad::cuda::emu {
namespace {

const EncodedMap& decode(const TensorMap& m) { return *reinterpret_cast<const EncodedMap*>(&m); }

u32 box_bytes(const EncodedMap& m) { return m.box(0) * m.box(1) * m.box(2) * m.box(3) * m.box(4) * m.element_bytes; }

// Calls f(shared offset of the row, first byte of the row inside the tensor, bytes inside, address of that byte) for every row of the box; 0 bytes: the
// whole row is outside.
template <class F>
void for_rows(const EncodedMap& m, const int32_t* at, F f) {
  const i64 element = m.element_bytes, inner = m.box(0);
  const i64 from = std::max<i64>(0, -static_cast<i64>(at[0])), to = std::min<i64>(inner, static_cast<i64>(m.dims[0]) - at[0]);
  u32 offset = 0;
  u32 i[5] = {};
  const u32 rows = m.box(1) * m.box(2) * m.box(3) * m.box(4);
  for (u32 r = 0; r < rows; ++r, offset += static_cast<u32>(inner * element)) {
    bool inside = to > from;
    i64 address = static_cast<i64>(m.base);
    for (u32 d = 1; d < 5; ++d) {
      const i64 c = (d < m.rank ? static_cast<i64>(at[d]) : 0) + i[d];
      inside &= c >= 0 && c < static_cast<i64>(m.dims[d]);
      if (d < m.rank) address += c * static_cast<i64>(m.strides[d - 1]);
    }
    if (inside) f(offset, static_cast<u32>(from * element), static_cast<u32>((to - from) * element), static_cast<u64>(address + (at[0] + from) * element));
    else f(offset, 0u, 0u, u64{0});
    for (u32 d = 1; d < 5 && ++i[d] == m.box(d); ++d) i[d] = 0;
  }
}

u32 place(const Bulk& b, u32 offset) {  // shared address of a byte of the box
  return b.tensor ? ptx::swizzle_bytes(static_cast<Swizzle>(decode(b.map).swizzle), b.smem + offset) : b.smem + offset;
}

u64 sectors_of(u64 address, u32 bytes) { return bytes ? (address + bytes - 1) / 32 - address / 32 + 1 : 0; }

}  // namespace

// Rows of a copy inside global memory, as f(shared offset, bytes, global address).
template <class F>
static void for_pieces(const Bulk& b, F f) {
  if (!b.tensor) return f(0u, b.bytes, reinterpret_cast<u64>(b.global));
  for_rows(decode(b.map), b.at, [&](u32 offset, u32 first, u32 bytes, u64 address) {
    if (bytes) f(offset + first, bytes, address);
  });
}

void Machine::issue(const Bulk& request) {
  Lane& l = *current_;
  const Site site = request.site;
  if (request.smem % (request.tensor ? 128 : 16)) {
    fault(Fault::kAlignment, site, "bulk copy at shared address " + std::to_string(request.smem) + ": must be a multiple of " + (request.tensor ? "128" : "16"));
    stop();
  }
  if (request.bytes && !shared_ok(request.smem & ~15u, 16, site, "bulk copy")) stop();
  if (u64{request.smem} + request.bytes > u64{kSmemBase} + shape.smem_bytes) {
    fault(Fault::kBounds, site, "bulk copy of " + std::to_string(request.bytes) + " bytes at shared address " + std::to_string(request.smem) + " leaves the block's shared memory");
    stop();
  }
  bool good = true;
  for_pieces(request, [&](u32, u32 bytes, u64 address) {
    const void* p = reinterpret_cast<const void*>(address);
    if (!global_ok(p, bytes, site, 1)) {
      good = false;
      return;
    }
    Counters& c = report_.counters;
    if (request.kind == Bulk::kLoad) {
      global_read(l, p, bytes, site);
      c.read_sectors += sectors_of(address, bytes);
    } else {
      global_write(l, p, bytes, site);
      c.written_sectors += sectors_of(address, bytes);
    }
  });
  if (!good) stop();
  if (request.kind == Bulk::kLoad) {
    Mbarrier& b = mbarriers[request.mbarrier];
    b.issued += request.bytes;
    if (b.issued > b.expected)
      fault(Fault::kMbarrier, site,
            "copies of " + std::to_string(b.issued) + " bytes report to the mbarrier at " + std::to_string(b.address) + " in a phase that expects " + std::to_string(b.expected));
    async_write(l, request.smem, request.bytes, b.agent, b.phase + 1, site);
    std::memset(shared(request.smem), 0xff, request.bytes);
  } else {
    async_read(l, request.smem, request.bytes, site);
    l.open_bulk.push_back(static_cast<u32>(bulk.size()));
  }
  bulk.push_back(request);
  if (options.landing == Landing::kEarly || (options.landing == Landing::kRandom && rng.below(4) == 0)) land(bulk.back());
}

void Machine::land(Bulk& b) {
  if (b.landed) return;
  b.landed = true;
  if (b.kind == Bulk::kStore) {
    for_pieces(b, [&](u32 offset, u32 bytes, u64 address) {
      for (u32 i = 0; i < bytes;) {  // 16-byte units stay together in shared memory
        const u32 n = std::min(bytes - i, 16 - (offset + i) % 16);
        std::memcpy(reinterpret_cast<u8*>(address) + i, shared(place(b, offset + i)), n);
        i += n;
      }
    });
    return;
  }
  std::memset(shared(b.smem), 0, b.bytes);  // what lies outside of the tensor arrives as zeros
  for_pieces(b, [&](u32 offset, u32 bytes, u64 address) {
    for (u32 i = 0; i < bytes;) {
      const u32 n = std::min(bytes - i, 16 - (offset + i) % 16);
      std::memcpy(shared(place(b, offset + i)), reinterpret_cast<const u8*>(address) + i, n);
      i += n;
    }
  });
  Mbarrier& m = mbarriers[b.mbarrier];
  m.landed += b.bytes;
  complete_if_done(m);
}

bool Machine::land_something(bool random) {
  while (bulk_landed < bulk.size() && bulk[bulk_landed].landed) ++bulk_landed;
  std::vector<u32> open;
  for (u32 i = bulk_landed; i < bulk.size(); ++i)
    if (!bulk[i].landed) open.push_back(i);
  if (open.empty()) return false;
  land(bulk[open[random ? rng.below(static_cast<u32>(open.size())) : 0]]);
  return true;
}

void Machine::check_exit(Lane& l) {
  const Site site = l.site.line ? l.site : Site{"", 0};
  if (!l.open_copies.empty() || !l.copy_groups.empty()) {
    const Site s = !l.open_copies.empty() ? l.open_copies[0].site : l.copy_groups[0].empty() ? site : l.copy_groups[0][0].site;
    if (!l.open_copies.empty() || !l.copy_groups[0].empty()) fault(Fault::kExit, s, "the thread ended with a cp.async that was not waited for");
  }
  if (!l.open_bulk.empty()) fault(Fault::kExit, bulk[l.open_bulk[0]].site, "the thread ended with a bulk store that was not committed");
  if (l.bulk_groups.size() > l.bulk_read_done && !l.bulk_groups[l.bulk_read_done].empty())
    fault(Fault::kExit, bulk[l.bulk_groups[l.bulk_read_done][0]].site, "the thread ended before its bulk store had read shared memory (bulk_wait_read)");
  const size_t g = l.index / 128;
  if (g < groups.size() && (l.clock[groups[g].agent] < groups[g].groups || !groups[g].open.empty()))
    fault(Fault::kExit, groups[g].site, "the thread ended with wgmma that was not waited for");
}

// ---- what kernels call ---------------------------------------------------------------------------------------------------

namespace {

Bulk tensor_copy(Bulk::Kind kind, const TensorMap* map, u32 smem, const int32_t* at, u32 rank, Site site) {
  Machine& m = *machine;
  Bulk b;
  b.kind = kind;
  b.tensor = true;
  b.smem = smem;
  b.site = site;
  if (reinterpret_cast<uintptr_t>(map) % 64 || decode(*map).magic != kMapMagic || decode(*map).rank != rank) {
    m.fault(Fault::kTensorMap, site,
            reinterpret_cast<uintptr_t>(map) % 64 ? std::string("the map is not aligned to 64 bytes")
            : decode(*map).magic != kMapMagic     ? std::string("no encoded map lies at this address")
                                                  : std::to_string(rank) + " coordinates for a map of rank " + std::to_string(decode(*map).rank));
    m.stop();
  }
  if (in_device_memory(map) && !m.acquired_maps.count(map))
    m.fault(Fault::kTensorMap, site, "a map in global memory is used before this block's tensormap_acquire");
  b.map = *map;
  std::copy(at, at + rank, b.at);
  b.bytes = box_bytes(decode(*map));
  return b;
}

void finish_read(Machine& m, Lane& l, u32 index) {
  Bulk& b = m.bulk[index];
  m.land(b);
  if (b.read_done) return;
  b.read_done = true;
  for (u32 a = b.smem; a < b.smem + b.bytes; a += 4) {
    Word& w = m.word(a);
    --w.reading;
    m.note_read(l.clock, w, l.warp_index, l.warp->time, static_cast<u8>(l.lane), static_cast<u16>(b.site.line));
  }
}

}  // namespace

void op::tma_load(u32 dst, const TensorMap* map, u32 mbarrier, const int32_t* at, u32 rank, Site site) {
  Machine& m = *machine;
  Mbarrier* b = m.find_mbarrier(mbarrier, site, true);
  Bulk copy = tensor_copy(Bulk::kLoad, map, dst, at, rank, site);
  copy.mbarrier = static_cast<u32>(b - m.mbarriers.data());
  m.issue(copy);
}

void op::tma_store(const TensorMap* map, u32 src, const int32_t* at, u32 rank, Site site) {
  machine->issue(tensor_copy(Bulk::kStore, map, src, at, rank, site));
}

namespace {
Bulk plain_copy(Bulk::Kind kind, u32 smem, void* global, u32 bytes, Site site) {
  Bulk b;
  b.kind = kind;
  b.smem = smem;
  b.global = global;
  b.bytes = bytes;
  b.site = site;
  if (bytes % 16 || reinterpret_cast<uintptr_t>(global) % 16) {
    machine->fault(Fault::kAlignment, site, "bulk copy of " + std::to_string(bytes) + " bytes: size and global address must be multiples of 16");
    machine->stop();
  }
  return b;
}
}  // namespace

void op::bulk_load(u32 dst, const void* src, u32 bytes, u32 mbarrier, Site site) {
  Machine& m = *machine;
  Mbarrier* b = m.find_mbarrier(mbarrier, site, true);
  Bulk copy = plain_copy(Bulk::kLoad, dst, const_cast<void*>(src), bytes, site);
  copy.mbarrier = static_cast<u32>(b - m.mbarriers.data());
  m.issue(copy);
}

void op::bulk_store(void* dst, u32 src, u32 bytes, Site site) { machine->issue(plain_copy(Bulk::kStore, src, dst, bytes, site)); }

void op::bulk_commit(Site) {
  Lane& l = machine->self();
  l.bulk_groups.push_back(std::move(l.open_bulk));
  l.open_bulk.clear();
}

void op::bulk_wait(u32 keep, bool read_only, Site) {
  Machine& m = *machine;
  Lane& l = m.self();
  while (l.bulk_groups.size() > l.bulk_read_done + keep) {
    for (u32 index : l.bulk_groups[l.bulk_read_done]) finish_read(m, l, index);
    ++l.bulk_read_done;
  }
  if (read_only) return;
  while (l.bulk_groups.size() > keep) {
    l.bulk_groups.erase(l.bulk_groups.begin());
    --l.bulk_read_done;
  }
}

void op::tensormap_acquire(const TensorMap* map, Site) { machine->acquired_maps.insert(map); }

}  // namespace ecad::cuda::emu
