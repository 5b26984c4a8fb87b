// Probes of coordinates, shuffles, votes, barriers and the calls without a result of their own.
#include "probe.cuh"

namespace ecad::cuda::probe {
namespace {

using ptx::f32;
using ptx::i32;
using ptx::u32;
using ptx::u64;

ECAD_KERNEL coordinates(ECAD_PARAMS(ProbeParams) p) {
  const u32 block = (ptx::block_z() * ptx::grid_y() + ptx::block_y()) * ptx::grid_x() + ptx::block_x();
  const u32 at = 4 * (block * ptx::block_threads() + ptx::thread_id());
  put(p, at, ptx::block_x() | ptx::block_y() << 8 | ptx::block_z() << 16);
  put(p, at + 1, ptx::grid_x() | ptx::grid_y() << 8 | ptx::grid_z() << 16);
  put(p, at + 2, ptx::lane_id() | ptx::warp_id() << 8);
  put(p, at + 3, ptx::block_threads());
}

ECAD_KERNEL shuffles(ECAD_PARAMS(ProbeParams) p) {
  const u32 lane = ptx::lane_id(), v = 1000 + 7 * lane;
  const f32 f = 0.5f + f32(lane);
  const u64 wide = u64(lane) << 40 | v;
  u32 n = 32 * 9;
  const u32 at = lane;
  put(p, at, ptx::shfl_xor(v, 5));
  put(p, at + 32, ptx::shfl(v, (lane * 3 + 1) % 32));
  put(p, at + 64, ptx::shfl_down(v, 4));
  put(p, at + 96, ptx::shfl_up(v, 3));
  put(p, at + 128, ptx::shfl_xor(f, 16));
  put(p, at + 160, u32(ptx::shfl(-i32(v), 31)));
  const u64 moved = ptx::shfl_xor(wide, 1);
  put(p, at + 192, u32(moved));
  put(p, at + 224, u32(moved >> 32));
  put(p, at + 256, ptx::shfl(f, 40));  // lanes count modulo 32
  put(p, n + at, ptx::vote_ballot(lane % 3 == 0));
  const bool any = ptx::vote_any(lane == 31);
  const bool none = ptx::vote_any(lane == 32);
  const bool all = ptx::vote_all(lane < 32);
  const bool some = ptx::vote_all(lane < 31);
  put(p, n + 32 + at, u32(any) | u32(none) << 1 | u32(all) << 2 | u32(some) << 3);
}

ECAD_KERNEL barriers(ECAD_PARAMS(ProbeParams) p) {  // warp 0 tells warps 1 and 2 through barrier 3; then everybody meets
  const u32 smem = ptx::smem_base(), t = ptx::thread_id();
  if (ptx::warp_id() == 0) {
    ptx::st_shared(smem + 4 * t, 3 * t);
    ptx::barrier_arrive(3, 96);
  } else if (ptx::warp_id() < 3) {
    ptx::barrier_sync(3, 96);
    ptx::st_shared(smem + 4 * t, ptx::ld_shared<u32>(smem + 4 * (31 - ptx::lane_id())) + t);
  } else {
    ptx::st_shared(smem + 4 * t, t);
    ptx::warp_sync();
    ptx::st_shared(smem + 4 * t, ptx::ld_shared<u32>(smem + 4 * t) + 1);
  }
  ptx::block_sync();
  put(p, t, ptx::ld_shared<u32>(smem + 4 * (t ^ 33)));
}

ECAD_KERNEL time_and_fences(ECAD_PARAMS(ProbeParams) p) {
  ptx::pdl_wait();
  ptx::pdl_launch();
  const u64 before = ptx::global_timer();
  ptx::nanosleep(2000);
  ptx::prefetch_l2(p.in);
  ptx::fence_gpu();
  if (before == ~u64{0}) ptx::trap();
  put(p, ptx::thread_id(), u32(ptx::global_timer() >= before));
}

ECAD_KERNEL system_stores(ECAD_PARAMS(ProbeParams) p) {
  const u32 t = ptx::thread_id();
  ptx::st_system(p.out + t, 5 * t);
  ptx::st_system(p.out + 32 + 2 * t, u64(t) << 33 | t);
}

#if defined(ECAD_SM90A)
ECAD_DEVICE void one_lane(const ProbeParams& p) {  // which lane is the hardware's business, but it is one, and the same one again
  const bool first = ptx::elect_one();
  const bool again = ptx::elect_one();
  const u32 votes = ptx::vote_ballot(first);
  const bool same = ptx::vote_all(first == again);
  put(p, ptx::thread_id(), u32((votes & (votes - 1)) == 0 && votes != 0) | u32(same) << 1);
}
#endif
ECAD_KERNEL elected(ECAD_PARAMS(ProbeParams) p) {
#if defined(ECAD_SM90A)
  one_lane(p);
#endif
}

}  // namespace

void add_thread_probes(std::vector<Probe>* all) {
  all->push_back(exact<coordinates>("coordinates", Input::kCounting, 4 * 64 * 12, {{2, 3, 2}, 64}));
  all->push_back(exact<shuffles>("shuffles and votes", Input::kCounting, 32 * 11, {{1}, 32}));
  all->push_back(exact<barriers>("barriers", Input::kCounting, 128, {{1}, 128, 1024}));
  all->push_back(exact<time_and_fences>("timer, sleep, prefetch, fences", Input::kCounting, 32, {{1}, 32}));
  all->push_back(exact<system_stores>("stores for the host", Input::kCounting, 96, {{1}, 32}));
  all->push_back(exact<elected>("elect_one", Input::kCounting, 64, {{1}, 64}, true));
}

}  // namespace ecad::cuda::probe
