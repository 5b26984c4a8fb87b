// y = x w^T by wgmma, fed by tensor-map copies: small on purpose, with every synchronisation in plain sight. The emulator's tests leave parts out
// (Defect) and expect to be told; the probes run it whole on a GPU.
//
// x [m, k], w [n, k], y [m, n] bfloat16. A block owns 64 x 64 of y. Warp 4 (of a second warpgroup, which gives its registers away) copies tiles of
// 64 along k into a ring of three buffers; the first warpgroup multiplies. full[i]: the copies of buffer i have arrived; empty[i]: it was read.
// y leaves through shared memory by stmatrix and a tensor-map store. Tails: the maps' zero fill and clipping. Twin: gemm_reference.
#pragma once
#include "../ptx.cuh"
#include "gemm_case.h"

namespace ecad::cuda::probe {

struct GemmSm90 {
  static constexpr ptx::u32 kThreads = 256, kTile = 64, kDepth = 64, kStages = 3;
  static constexpr ptx::u32 kOperand = kTile * kDepth * 2, kStage = 2 * kOperand;  // bytes; an operand is 8 atoms of 8 rows x 128 bytes
  static constexpr ptx::u32 kOut = kStages * kStage, kBars = kOut + kTile * kTile * 2;
  static constexpr ptx::u32 kSmem = kBars + 16 * kStages;
};

#if defined(ECAD_SM90A)
template <Defect defect>
struct GemmSm90Kernel {
  using u32 = ptx::u32;
  using i32 = ptx::i32;
  using f32 = ptx::f32;
  using C = GemmSm90;

  static ECAD_DEVICE u32 full(u32 smem, u32 stage) { return smem + C::kBars + 8 * stage; }
  static ECAD_DEVICE u32 empty(u32 smem, u32 stage) { return smem + C::kBars + 8 * C::kStages + 8 * stage; }

  static ECAD_DEVICE void produce(const GemmMapParams& p, u32 smem, i32 m0, i32 n0, i32 tiles) {
    if (!ptx::elect_one()) return;
    for (i32 tile = 0; tile < tiles; ++tile) {
      const u32 stage = u32(tile) % C::kStages, round = u32(tile) / C::kStages, buffer = smem + stage * C::kStage;
      ptx::mbarrier_wait(empty(smem, stage), defect == Defect::kPhase ? round & 1 : ~round & 1);
      const u32 bytes = defect == Defect::kTooFewBytes ? C::kOperand : defect == Defect::kTooManyBytes ? C::kStage + 16 : C::kStage;
      ptx::mbarrier_arrive_expect(full(smem, stage), bytes);
      ptx::tma_load(buffer, &p.x, full(smem, stage), tile * i32(C::kDepth), m0);
      ptx::tma_load(buffer + C::kOperand, &p.w, full(smem, stage), tile * i32(C::kDepth), n0);
    }
  }

  static ECAD_DEVICE void consume(const GemmMapParams& p, u32 smem, i32 m0, i32 n0, i32 tiles) {
    f32 acc[C::kTile / 2];
#pragma unroll
    for (u32 i = 0; i < C::kTile / 2; ++i) acc[i] = 0;
    for (i32 tile = 0; tile < tiles; ++tile) {
      const u32 stage = u32(tile) % C::kStages, round = u32(tile) / C::kStages, buffer = smem + stage * C::kStage;
      if (defect != Defect::kNoWait) ptx::mbarrier_wait(full(smem, stage), round & 1);
      if (defect != Defect::kNoWgmmaFence) ptx::wgmma_fence(acc);
      constexpr ptx::Swizzle swizzle = defect == Defect::kSwizzleOneSide ? ptx::Swizzle::kNone : ptx::Swizzle::k128;
#pragma unroll
      for (u32 step = 0; step < C::kDepth / 16; ++step)
        ptx::wgmma_ss<C::kTile>(acc, ptx::smem_descriptor(buffer + 32 * step, swizzle, 0, 1024),
                                ptx::smem_descriptor(buffer + C::kOperand + 32 * step, swizzle, 0, 1024), true);
      ptx::wgmma_commit();
      if (defect == Defect::kTouchAccumulators) acc[3] = 1;
      if (defect == Defect::kEarlyRelease && ptx::lane_id() == 0) ptx::mbarrier_arrive(empty(smem, stage));
      if (defect != Defect::kNoWgmmaWait) ptx::wgmma_wait<0>(acc);
      if (defect != Defect::kEarlyRelease && ptx::lane_id() == 0) ptx::mbarrier_arrive(empty(smem, stage));
      if (defect == Defect::kOverArrival && ptx::lane_id() == 0) ptx::mbarrier_arrive(empty(smem, stage));
    }
    store(p, smem + C::kOut, m0, n0, acc);
  }

  // Each warp puts its 16 rows down, 8 columns a matrix, in the order that the map's 128-byte swizzle expects.
  static ECAD_DEVICE void store(const GemmMapParams& p, u32 out, i32 m0, i32 n0, const f32 (&acc)[C::kTile / 2]) {
    const u32 lane = ptx::lane_id();
#pragma unroll
    for (u32 j = 0; j < C::kTile / 16; ++j) {
      u32 r[4];
#pragma unroll
      for (u32 i = 0; i < 4; ++i) r[i] = ptx::pack_bf16(acc[8 * j + 2 * i], acc[8 * j + 2 * i + 1]);  // rows 0-7, 8-15 of columns 0-7, then of 8-15
      const u32 row = 16 * ptx::warp_id() + lane % 16, unit = 2 * j + lane / 16;
      const u32 offset = row * 128 + 16 * unit;
      ptx::stmatrix<4>(out + (defect == Defect::kSwizzleBothSides ? offset : ptx::swizzle_bytes(ptx::Swizzle::k128, offset)), r);
    }
    if (defect != Defect::kNoProxyFence) ptx::fence_proxy_async();
    if (defect != Defect::kNoBarrier) ptx::barrier_sync(1, 128);
    if (ptx::warp_id() == 0 && ptx::elect_one()) {
      ptx::tma_store(&p.y, out, n0, m0);
      ptx::bulk_commit();
      if (defect != Defect::kNoStoreWait) ptx::bulk_wait_read<0>();
    }
  }

  static ECAD_DEVICE void run(const GemmMapParams& p) {
    const u32 smem = ptx::smem_base();
    if (ptx::thread_id() == 0) {
      for (u32 i = 0; i < C::kStages; ++i) {
        ptx::mbarrier_init(full(smem, i), 1);
        ptx::mbarrier_init(empty(smem, i), 4);  // one arrival per consumer warp
      }
      if (defect != Defect::kNoInitFence) ptx::fence_mbarrier_init();
    }
    if (defect != Defect::kNoInitBarrier) ptx::block_sync();
    const i32 m0 = i32(ptx::block_x() * C::kTile), n0 = i32(ptx::block_y() * C::kTile), tiles = i32((p.k + C::kDepth - 1) / C::kDepth);
    if (ptx::warp_id() >= 4) {
      ptx::setmaxnreg_dec<40>();
      if (ptx::warp_id() == 4) produce(p, smem, m0, n0, tiles);
    } else {
      ptx::setmaxnreg_inc<232>();
      consume(p, smem, m0, n0, tiles);
    }
  }
};
#endif

template <Defect defect>
ECAD_KERNEL ECAD_BOUNDS(GemmSm90::kThreads, 1) gemm_sm90(ECAD_PARAMS(GemmMapParams) p) {
#if defined(ECAD_SM90A)
  GemmSm90Kernel<defect>::run(p);
#endif
}

}  // namespace ecad::cuda::probe
