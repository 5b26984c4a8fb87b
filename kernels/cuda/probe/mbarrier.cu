// Probes of mbarriers: counts, phases, bytes.
#include "probe.cuh"

namespace ecad::cuda::probe {
namespace {

using ptx::u32;

#if defined(ECAD_SM90A)
// Warp 0 fills, warps 1..3 read, eight rounds through two buffers: full has one arrival, empty three.
ECAD_DEVICE void ring(const ProbeParams& p) {
  const u32 smem = ptx::smem_base(), lane = ptx::lane_id(), bars = smem + 256;
  if (ptx::thread_id() == 0) {
    for (u32 i = 0; i < 2; ++i) {
      ptx::mbarrier_init(bars + 8 * i, 1);
      ptx::mbarrier_init(bars + 16 + 8 * i, 3);
    }
    ptx::fence_mbarrier_init();
  }
  ptx::block_sync();
  for (u32 round = 0; round < 8; ++round) {
    const u32 buffer = round % 2, parity = round / 2 % 2, full = bars + 8 * buffer, empty = bars + 16 + 8 * buffer;
    if (ptx::warp_id() == 0) {
      ptx::mbarrier_wait(empty, parity ^ 1);
      ptx::st_shared(smem + 128 * buffer + 4 * lane, 100 * round + lane);
      ptx::warp_sync();
      if (lane == 0) ptx::mbarrier_arrive(full);
    } else {
      while (!ptx::mbarrier_try_wait(full, parity)) {}
      put(p, 96 * round + ptx::thread_id() - 32, ptx::ld_shared<u32>(smem + 128 * buffer + 4 * (31 - lane)));
      ptx::warp_sync();
      if (lane == 0) ptx::mbarrier_arrive(empty);
    }
  }
}

// Bytes announced apart from the arrival, in two parts; then the barrier's memory is used for something else.
ECAD_DEVICE void bytes(const ProbeParams& p) {
  const u32 smem = ptx::smem_base(), bar = smem + 512;
  if (ptx::thread_id() == 0) {
    ptx::mbarrier_init(bar, 2);
    ptx::fence_mbarrier_init();
  }
  ptx::block_sync();
  if (ptx::thread_id() == 0) {
    ptx::mbarrier_expect(bar, 64);
    ptx::bulk_load(smem, p.in, 64, bar);
    ptx::mbarrier_arrive(bar);
    ptx::mbarrier_arrive_expect(bar, 448);
    ptx::bulk_load(smem + 64, static_cast<const char*>(p.in) + 1024, 448, bar);
  }
  ptx::mbarrier_wait(bar, 0);
  dump(p, smem, 128);
  ptx::block_sync();
  if (ptx::thread_id() == 0) {
    ptx::mbarrier_invalidate(bar);
    ptx::st_shared(bar, 77u);
    put(p, 128, ptx::ld_shared<u32>(bar));
  }
}
#endif

ECAD_KERNEL barrier_ring(ECAD_PARAMS(ProbeParams) p) {
#if defined(ECAD_SM90A)
  ring(p);
#endif
}
ECAD_KERNEL barrier_bytes(ECAD_PARAMS(ProbeParams) p) {
#if defined(ECAD_SM90A)
  bytes(p);
#endif
}

}  // namespace

void add_mbarrier_probes(std::vector<Probe>* all) {
  all->push_back(exact<barrier_ring>("mbarrier phases", Input::kCounting, 8 * 96, {{1}, 128, 1024}, true));
  all->push_back(exact<barrier_bytes>("mbarrier bytes, bulk load", Input::kCounting, 129, {{1}, 64, 1024}, true));
}

}  // namespace ecad::cuda::probe
