// Computes     products_*: the same product of fixed matrices of small integers, added up `rounds` times; copy: y = x.
// Grid/block   products_wgmma: one block of two warpgroups for each multiprocessor, m64n256k16 with a in registers and b, 8 KB, in shared memory: the widest
//              instruction, which reads 512 bytes of it in 128 cycles. products_mma: two blocks of 8 warps, eight independent m16n8k16 in a warp.
//              copy: 16 bytes a thread, four in flight, as many blocks as fit.
// Expected     products_*: no memory traffic; FLOPs 2 64 256 16 a wgmma, 2 16 8 16 an mma. copy: 2 bytes of traffic for each byte.
// Check        sums are exact: `rounds` times those of one round.
#include "peaks.h"

#include <cstring>
#include <memory>
#include <vector>

#include "../../core/text.h"
#include "../ptx.cuh"

namespace ecad::cuda::probe {
namespace {

using ptx::f32;
using ptx::u32;
using ptx::u64;

constexpr u32 kThreads = 256, kPerRound = 4;             // instructions of a group of wgmma
constexpr u32 kWgmmaSums = 128, kMmaChains = 8, kMmaSums = 4 * kMmaChains;
constexpr u32 kSmemB = 256 * 16 * 2;

struct ProductParams {
  f32* sums;   // of block 0: [number of sums][threads]
  u32 rounds, pad;
};
struct CopyParams {
  const void* x;
  void* y;
  u64 units;  // of 16 bytes
};

// Two bfloat16 integers from -4 to 4 that differ from place to place.
ECAD_DEVICE u32 integers(u32 place) {
  const u32 h = place * 2654435761u;
  return ptx::pack_bf16(static_cast<f32>(static_cast<int>(h >> 8 & 0xff) % 9 - 4), static_cast<f32>(static_cast<int>(h >> 20 & 0xff) % 9 - 4));
}

template <u32 Sums>
ECAD_DEVICE void put_sums(const ProductParams& p, const f32 (&sums)[Sums]) {
  if (ptx::block_x() != 0) return;
  ECAD_UNROLL
  for (u32 i = 0; i < Sums; ++i) ptx::st_global(p.sums + i * kThreads + ptx::thread_id(), sums[i]);
}

ECAD_KERNEL ECAD_BOUNDS(kThreads, 1) products_wgmma(ECAD_PARAMS(ProductParams) p) {
#if defined(ECAD_SM90A)
  const u32 smem = ptx::smem_base();
  for (u32 i = ptx::thread_id(); i < kSmemB / 16; i += kThreads) ptx::st_shared(smem + 16 * i, ptx::u32x4{integers(4 * i), integers(4 * i + 1), integers(4 * i + 2), integers(4 * i + 3)});
  ptx::fence_proxy_async();
  ptx::block_sync();
  u32 a[4];
  f32 sums[kWgmmaSums];
  ECAD_UNROLL
  for (u32 i = 0; i < 4; ++i) a[i] = integers(100003 + 4 * ptx::thread_id() + i);
  ECAD_UNROLL
  for (u32 i = 0; i < kWgmmaSums; ++i) sums[i] = 0;
  const u64 b = ptx::smem_descriptor(smem, ptx::Swizzle::k32, 0, 256);
  for (u32 round = 0; round < p.rounds; ++round) {
    ptx::wgmma_fence(sums, a);
    ECAD_UNROLL
    for (u32 i = 0; i < kPerRound; ++i) ptx::wgmma_rs<256>(sums, a, b, true);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>(sums, a);
  }
  put_sums(p, sums);
#else
  (void)p;
  ptx::trap();
#endif
}

ECAD_KERNEL ECAD_BOUNDS(kThreads, 2) products_mma(ECAD_PARAMS(ProductParams) p) {
  u32 a[4];
  f32 chains[kMmaChains][4], sums[kMmaSums];
  ECAD_UNROLL
  for (u32 i = 0; i < 4; ++i) a[i] = integers(100003 + 4 * ptx::thread_id() + i);
  const u32 b0 = integers(ptx::thread_id()), b1 = integers(7 * ptx::thread_id() + 1);
  ECAD_UNROLL
  for (u32 i = 0; i < kMmaSums; ++i) chains[i / 4][i % 4] = 0;
  for (u32 round = 0; round < p.rounds; ++round) {
    ECAD_UNROLL
    for (u32 i = 0; i < kMmaChains; ++i) ptx::mma_m16n8k16(chains[i], a, b0, b1);
  }
  ECAD_UNROLL
  for (u32 i = 0; i < kMmaSums; ++i) sums[i] = chains[i / 4][i % 4];
  put_sums(p, sums);
}

ECAD_KERNEL ECAD_BOUNDS(kThreads) copy(ECAD_PARAMS(CopyParams) p) {
  const u64 all = static_cast<u64>(ptx::grid_x()) * kThreads, first = static_cast<u64>(ptx::block_x()) * kThreads + ptx::thread_id();
  for (u64 i = first; i < p.units; i += 4 * all) {
    ptx::u32x4 v[4];
    ECAD_UNROLL
    for (u32 k = 0; k < 4; ++k) v[k] = ptx::ld_global_nc_if<ptx::u32x4, ptx::Cache::kStream>(static_cast<const ptx::u32x4*>(p.x) + i + k * all, i + k * all < p.units);
    ECAD_UNROLL
    for (u32 k = 0; k < 4; ++k) ptx::st_global_if<ptx::Cache::kStream>(static_cast<ptx::u32x4*>(p.y) + i + k * all, v[k], i + k * all < p.units);
  }
}

struct Freed {
  void operator()(void* p) const { release(p); }
};
using Device = std::unique_ptr<void, Freed>;

Status device_memory(size_t bytes, Device* out) {
  void* p = nullptr;
  ECAD_TRY(allocate(bytes, &p));
  out->reset(p);
  return Status::ok();
}

// The shortest of the repeats, after one that warms up.
template <class F>
Status best_seconds(Stream& stream, int repeats, F enqueue, double* out) {
  Event begin, end;
  ECAD_TRY(begin.create(true));
  ECAD_TRY(end.create(true));
  for (int i = 0; i <= repeats; ++i) {
    ECAD_TRY(begin.record(stream));
    ECAD_TRY(enqueue());
    ECAD_TRY(end.record(stream));
    ECAD_TRY(stream.synchronize());
    uint64_t ns = 0;
    ECAD_TRY(Event::nanoseconds(begin, end, &ns));
    const double seconds = static_cast<double>(ns) * 1e-9;
    if (i == 1 || (i > 1 && seconds < *out)) *out = seconds;
  }
  return Status::ok();
}

// sums: how many a thread has; flops: of a block in one round.
template <auto kernel>
Status products(const char* what, Stream& stream, const PeakSizes& sizes, uint32_t blocks, uint32_t smem, uint32_t sums, double flops, double* tflops) {
  const size_t count = size_t{sums} * kThreads;
  Device device;
  ECAD_TRY(device_memory(count * sizeof(f32), &device));
  void* pinned = nullptr;
  ECAD_TRY(allocate_pinned(count * sizeof(f32), &pinned));
  const std::unique_ptr<void, void (*)(void*)> host(pinned, release_pinned);
  std::vector<f32> once(count), all(count);
  const auto run = [&](uint32_t rounds) { return launch<kernel>(stream.native(), {{blocks}, kThreads, smem}, {static_cast<f32*>(device.get()), rounds, 0}); };
  const auto fetch = [&](std::vector<f32>* to) {
    ECAD_TRY(stream.download(pinned, device.get(), count * sizeof(f32)));
    ECAD_TRY(stream.synchronize());
    std::memcpy(to->data(), pinned, count * sizeof(f32));
    return Status::ok();
  };
  ECAD_TRY(run(1));
  ECAD_TRY(fetch(&once));
  double seconds = 0;
  ECAD_TRY(best_seconds(stream, sizes.repeats, [&] { return run(sizes.rounds); }, &seconds));
  ECAD_TRY(fetch(&all));
  bool zero = true;
  for (size_t i = 0; i < count; ++i) {
    if (!(all[i] == static_cast<f32>(sizes.rounds) * once[i])) return Status(ECAD_INTERNAL, text(what, ": sum ", i, " is not ", sizes.rounds, " times that of one round"));
    zero = zero && once[i] == 0;
  }
  if (zero) return Status(ECAD_INTERNAL, text(what, ": every sum is 0"));
  *tflops = flops * blocks * sizes.rounds / seconds * 1e-12;
  return Status::ok();
}

Status copies(const DeviceProperties& device, Stream& stream, const PeakSizes& sizes, double* gb_per_s) {
  const auto bytes = static_cast<size_t>(sizes.copy_bytes);
  Device x, y;
  ECAD_TRY(device_memory(bytes, &x));
  ECAD_TRY(device_memory(bytes, &y));
  ECAD_TRY(stream.fill(x.get(), 0x3c, bytes));
  ECAD_TRY(stream.fill(y.get(), 0, bytes));
  const auto blocks = static_cast<uint32_t>(device.multiprocessors) * 8;
  double seconds = 0;
  ECAD_TRY(best_seconds(stream, sizes.repeats, [&] { return launch<copy>(stream.native(), {{blocks}, kThreads, 0}, {x.get(), y.get(), bytes / 16}); }, &seconds));
  constexpr size_t kSeen = 4096;  // at the end, where a short copy shows
  void* pinned = nullptr;
  ECAD_TRY(allocate_pinned(kSeen, &pinned));
  const std::unique_ptr<void, void (*)(void*)> host(pinned, release_pinned);
  ECAD_TRY(stream.download(pinned, static_cast<char*>(y.get()) + bytes - kSeen, kSeen));
  ECAD_TRY(stream.synchronize());
  for (size_t i = 0; i < kSeen; ++i)
    if (static_cast<char*>(pinned)[i] != 0x3c) return Status(ECAD_INTERNAL, "copy: the last bytes are not there");
  *gb_per_s = 2 * static_cast<double>(bytes) / seconds * 1e-9;
  return Status::ok();
}

}  // namespace

Status measure_peaks(const DeviceProperties& device, Stream& stream, const PeakSizes& sizes, Peaks* out) {
  const auto blocks = static_cast<uint32_t>(device.multiprocessors);
  if (device.arch() == 90) ECAD_TRY(products<products_wgmma>("wgmma", stream, sizes, blocks, kSmemB, kWgmmaSums, 2.0 * 2 * 64 * 256 * 16 * kPerRound, &out->wgmma_tflops));
  ECAD_TRY(products<products_mma>("mma.sync", stream, sizes, 2 * blocks, 0, kMmaSums, 2.0 * 16 * 8 * 16 * kMmaChains * kThreads / 32, &out->mma_tflops));
  return copies(device, stream, sizes, &out->copy_gb_per_s);
}

}  // namespace ecad::cuda::probe
