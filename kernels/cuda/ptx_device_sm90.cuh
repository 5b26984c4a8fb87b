// The instruction layer as inline PTX: what sm_90a adds, but for wgmma (ptx_device_wgmma.cuh). Interface and rules: ptx.cuh.
#pragma once
#include "ptx_device.cuh"

namespace ecad::ptx {

ECAD_DEVICE bool elect_one() {
  u32 r;
  asm volatile("{ .reg .pred q; elect.sync _|q, 0xffffffff; selp.u32 %0, 1, 0, q; }" : "=r"(r)::"memory");
  return r != 0;
}

template <int N, bool Transposed = false>
ECAD_DEVICE void stmatrix(u32 addr, const u32 (&r)[N]) {
  static_assert(N == 1 || N == 2 || N == 4, "stmatrix moves 1, 2 or 4 matrices");
#define ECAD_STMATRIX(trans)                                                                                                                     \
  if constexpr (N == 1) asm volatile("stmatrix.sync.aligned.m8n8.x1" trans ".shared.b16 [%0], {%1};" ::"r"(addr), "r"(r[0]) : "memory");           \
  if constexpr (N == 2)                                                                                                                          \
    asm volatile("stmatrix.sync.aligned.m8n8.x2" trans ".shared.b16 [%0], {%1, %2};" ::"r"(addr), "r"(r[0]), "r"(r[1]) : "memory");                 \
  if constexpr (N == 4)                                                                                                                          \
    asm volatile("stmatrix.sync.aligned.m8n8.x4" trans ".shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(addr), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) \
                 : "memory");
  if constexpr (Transposed) { ECAD_STMATRIX(".trans") } else { ECAD_STMATRIX("") }
#undef ECAD_STMATRIX
}

// ---- mbarriers ----------------------------------------------------------------------------------------------------------

ECAD_DEVICE void mbarrier_init(u32 bar, u32 count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(count) : "memory"); }
ECAD_DEVICE void mbarrier_invalidate(u32 bar) { asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(bar) : "memory"); }
ECAD_DEVICE void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
ECAD_DEVICE void mbarrier_arrive(u32 bar) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory"); }
ECAD_DEVICE void mbarrier_arrive_expect(u32 bar, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
ECAD_DEVICE void mbarrier_expect(u32 bar, u32 bytes) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
ECAD_DEVICE bool mbarrier_try_wait(u32 bar, u32 parity) {
  u32 r;
  asm volatile("{ .reg .pred q; mbarrier.try_wait.parity.shared::cta.b64 q, [%1], %2; selp.u32 %0, 1, 0, q; }" : "=r"(r) : "r"(bar), "r"(parity) : "memory");
  return r != 0;
}
ECAD_DEVICE void mbarrier_wait(u32 bar, u32 parity) {
  asm volatile(
      "{ .reg .pred q;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 q, [%0], %1;\n"
      "@q bra done;\n"
      "bra again;\n"
      "done: }" ::"r"(bar), "r"(parity) : "memory");
}

// ---- bulk copies --------------------------------------------------------------------------------------------------------

ECAD_DEVICE void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
ECAD_DEVICE void fence_proxy_async_global() { asm volatile("fence.proxy.async.global;" ::: "memory"); }

ECAD_DEVICE u64 policy_evict_first() {
  u64 p;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(p));
  return p;
}
ECAD_DEVICE u64 policy_evict_last() {
  u64 p;
  asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(p));
  return p;
}

#define ECAD_TMA_LOAD "cp.async.bulk.tensor."
#define ECAD_TMA_TAIL ".shared::cluster.global.tile.mbarrier::complete_tx::bytes"
ECAD_DEVICE void tma_load(u32 dst, const TensorMap* map, u32 bar, i32 c0) {
  asm volatile(ECAD_TMA_LOAD "1d" ECAD_TMA_TAIL " [%0], [%1, {%3}], [%2];" ::"r"(dst), "l"(map), "r"(bar), "r"(c0) : "memory");
}
ECAD_DEVICE void tma_load(u32 dst, const TensorMap* map, u32 bar, i32 c0, i32 c1) {
  asm volatile(ECAD_TMA_LOAD "2d" ECAD_TMA_TAIL " [%0], [%1, {%3, %4}], [%2];" ::"r"(dst), "l"(map), "r"(bar), "r"(c0), "r"(c1) : "memory");
}
ECAD_DEVICE void tma_load(u32 dst, const TensorMap* map, u32 bar, i32 c0, i32 c1, i32 c2) {
  asm volatile(ECAD_TMA_LOAD "3d" ECAD_TMA_TAIL " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(dst), "l"(map), "r"(bar), "r"(c0), "r"(c1), "r"(c2) : "memory");
}
ECAD_DEVICE void tma_load(u32 dst, const TensorMap* map, u32 bar, i32 c0, i32 c1, i32 c2, i32 c3) {
  asm volatile(ECAD_TMA_LOAD "4d" ECAD_TMA_TAIL " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(dst), "l"(map), "r"(bar), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
               : "memory");
}
ECAD_DEVICE void tma_load(u32 dst, const TensorMap* map, u32 bar, i32 c0, i32 c1, i32 c2, i32 c3, i32 c4) {
  asm volatile(ECAD_TMA_LOAD "5d" ECAD_TMA_TAIL " [%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(dst), "l"(map), "r"(bar), "r"(c0), "r"(c1), "r"(c2),
               "r"(c3), "r"(c4) : "memory");
}
#define ECAD_TMA_HINT ECAD_TMA_TAIL ".L2::cache_hint"
ECAD_DEVICE void tma_load_hint(u64 policy, u32 dst, const TensorMap* map, u32 bar, i32 c0, i32 c1) {
  asm volatile(ECAD_TMA_LOAD "2d" ECAD_TMA_HINT " [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(dst), "l"(map), "r"(bar), "r"(c0), "r"(c1), "l"(policy) : "memory");
}
ECAD_DEVICE void tma_load_hint(u64 policy, u32 dst, const TensorMap* map, u32 bar, i32 c0, i32 c1, i32 c2) {
  asm volatile(ECAD_TMA_LOAD "3d" ECAD_TMA_HINT " [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(dst), "l"(map), "r"(bar), "r"(c0), "r"(c1), "r"(c2), "l"(policy)
               : "memory");
}
ECAD_DEVICE void tma_load_hint(u64 policy, u32 dst, const TensorMap* map, u32 bar, i32 c0, i32 c1, i32 c2, i32 c3) {
  asm volatile(ECAD_TMA_LOAD "4d" ECAD_TMA_HINT " [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(dst), "l"(map), "r"(bar), "r"(c0), "r"(c1), "r"(c2), "r"(c3),
               "l"(policy) : "memory");
}
#undef ECAD_TMA_HINT
#undef ECAD_TMA_TAIL
#undef ECAD_TMA_LOAD

#define ECAD_TMA_STORE(rank) "cp.async.bulk.tensor." rank ".global.shared::cta.tile.bulk_group"
ECAD_DEVICE void tma_store(const TensorMap* map, u32 src, i32 c0) {
  asm volatile(ECAD_TMA_STORE("1d") " [%0, {%2}], [%1];" ::"l"(map), "r"(src), "r"(c0) : "memory");
}
ECAD_DEVICE void tma_store(const TensorMap* map, u32 src, i32 c0, i32 c1) {
  asm volatile(ECAD_TMA_STORE("2d") " [%0, {%2, %3}], [%1];" ::"l"(map), "r"(src), "r"(c0), "r"(c1) : "memory");
}
ECAD_DEVICE void tma_store(const TensorMap* map, u32 src, i32 c0, i32 c1, i32 c2) {
  asm volatile(ECAD_TMA_STORE("3d") " [%0, {%2, %3, %4}], [%1];" ::"l"(map), "r"(src), "r"(c0), "r"(c1), "r"(c2) : "memory");
}
ECAD_DEVICE void tma_store(const TensorMap* map, u32 src, i32 c0, i32 c1, i32 c2, i32 c3) {
  asm volatile(ECAD_TMA_STORE("4d") " [%0, {%2, %3, %4, %5}], [%1];" ::"l"(map), "r"(src), "r"(c0), "r"(c1), "r"(c2), "r"(c3) : "memory");
}
ECAD_DEVICE void tma_store(const TensorMap* map, u32 src, i32 c0, i32 c1, i32 c2, i32 c3, i32 c4) {
  asm volatile(ECAD_TMA_STORE("5d") " [%0, {%2, %3, %4, %5, %6}], [%1];" ::"l"(map), "r"(src), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4) : "memory");
}
#undef ECAD_TMA_STORE

ECAD_DEVICE void bulk_load(u32 dst, const void* src, u32 bytes, u32 bar) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(dst), "l"(src), "r"(bytes), "r"(bar) : "memory");
}
ECAD_DEVICE void bulk_store(void* dst, u32 src, u32 bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(dst), "r"(src), "r"(bytes) : "memory");
}
ECAD_DEVICE void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
template <int N>
ECAD_DEVICE void bulk_wait() { asm volatile("cp.async.bulk.wait_group %0;" ::"n"(N) : "memory"); }
template <int N>
ECAD_DEVICE void bulk_wait_read() { asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory"); }

ECAD_DEVICE void tensormap_prefetch(const TensorMap* map) { asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"); }
ECAD_DEVICE void tensormap_acquire(const TensorMap* map) {
  asm volatile("fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" ::"l"(map) : "memory");
}

// ---- registers of a warpgroup --------------------------------------------------------------------------------------------

template <int N>
ECAD_DEVICE void setmaxnreg_inc() {
  static_assert(N % 8 == 0 && N >= 24 && N <= 256, "a multiple of 8 from 24 to 256");
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
ECAD_DEVICE void setmaxnreg_dec() {
  static_assert(N % 8 == 0 && N >= 24 && N <= 256, "a multiple of 8 from 24 to 256");
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

}  // namespace ecad::ptx
