// The instruction layer: the one header that kernels include, and the only way they touch memory, other threads or special units.
// Two implementations of the same functions: inline PTX (ptx_device*.cuh, by nvcc) and calls into the host emulator (emu/ptx_host*.h, by
// g++ -DECAD_EMULATE), which checks what the hardware leaves undefined.
//
// Rules for kernels
//   - Shared memory is the launch's dynamic block, addressed by u32 from smem_base() (aligned to 1024 bytes); no __shared__ variables, no pointers
//     into it. Every load and store, global ones too, is one of these calls.
//   - Blocks are one-dimensional, whole warps. Collectives (shuffles, votes, warp_sync, ldmatrix, stmatrix, mma, wgmma, elect_one) are executed by all
//     lanes of the warp (wgmma, setmaxnreg: of the warpgroup) at one source line; two branches of an `if` with a collective each are an error.
//     A barrier is reached by every thread it counts.
//   - No <<<>>>, no CUDA built-in variables or bf16 types, no destructors. Standard math functions of both worlds (fmaxf, erff, ...) are fine.
//   - What stands under ECAD_SM90A below exists only where that macro is defined: code that names it needs the same guard.
//   - Accumulators of wgmma: one named array, passed by reference, not touched between wgmma_* and wgmma_wait, which takes them too.
//
// Threads
//   u32 thread_id(), lane_id(), warp_id(), block_threads(), block_x/y/z(), grid_x/y/z()
//   void block_sync()                         all threads of the block; orders shared and global memory among them
//   void barrier_sync(id, threads)            named barrier 1..15 (0 is block_sync's); threads: how many take part, a multiple of 32
//   void barrier_arrive(id, threads)          counts this warp in, does not wait
//   void warp_sync()                          orders memory among the lanes
//   T shfl_xor(v, lane_mask), shfl(v, lane), shfl_down(v, delta), shfl_up(v, delta)      T: u32, i32, f32, u64; order no memory
//   bool vote_any(p), vote_all(p); u32 vote_ballot(p)
//   void trap()                               ends the launch with an error
//   void nanosleep(ns); u64 global_timer()    nanoseconds
//   void pdl_wait(), pdl_launch()             programmatic dependent launch: wait for the kernels in front; let the next one start
//
// Memory. T: 2, 4, 8 or 16 bytes, naturally aligned (bf16, u16, u32, i32, f32, u64, u32x2, f32x2, u32x4, f32x4)
//   u32 smem_base()
//   T ld_shared<T>(addr); void st_shared(addr, T)
//   T ld_global<T, Cache>(p); void st_global<Cache>(p, T)
//   T ld_global_nc<T, Cache>(p)               through the read-only path: data that no block of this launch writes
//   T ld_global_if<T, Cache>(p, pred)         zero, and p is not touched, where pred is false; likewise ld_global_nc_if, st_global_if
//   void st_system(p, u32 or u64)             volatile store visible to the host (breadcrumbs in mapped memory)
//   T atomic_add(p, v), atomic_max(p, v)      global, relaxed, gpu scope; add: u32, f32; max: u32
//   void fence_gpu()                          membar.gl
//   void prefetch_l2(p)
//
// Arithmetic
//   f32 to_f32(bf16), bf16 to_bf16(f32), u32 pack_bf16(low, high), f32 low_f32(u32), high_f32(u32): rounding to nearest even
//   f32 fma_rn(a, b, c)                       one rounding
//   f32 ex2_approx(x), lg2_approx(x), rcp_approx(x), rsqrt_approx(x), tanh_approx(x): ex2 and rcp flush denormals (.ftz)
//   u32 float_as_u32(f32), f32 u32_as_float(u32)
//
// Asynchronous copies, sm_80: 4, 8 or 16 bytes per call from global to shared memory; bytes from valid_bytes on arrive as zeros (0: src is not read)
//   void cp_async<Bytes>(dst, src, valid_bytes = Bytes)
//   void cp_async_commit(), cp_async_wait<N>()    waits until at most N groups of this thread are open; others see the data after a barrier
//
// Matrices (fragments as PTX lays them out)
//   void ldmatrix<N, Transposed = false>(u32 (&r)[N], addr)      N = 1, 2, 4 matrices of 8x8 16-bit elements; lane i gives the address of row i
//   void mma_m16n8k16(f32 (&d)[4], const u32 (&a)[4], b0, b1)    d += a b, bfloat16 products, f32 sums
//   void mma_m16n8k8(f32 (&d)[4], a0, a1, b0)
//
// ECAD_SM90A
//   bool elect_one()                              true in one lane of the warp, always the same one
//   void stmatrix<N, Transposed = false>(addr, const u32 (&r)[N])
//   void mbarrier_init(bar, count), mbarrier_invalidate(bar), fence_mbarrier_init()
//   void mbarrier_arrive(bar), mbarrier_arrive_expect(bar, bytes), mbarrier_expect(bar, bytes)
//   void mbarrier_wait(bar, parity)               until the phase of that parity has completed (a fresh barrier: parity 1 passes)
//   bool mbarrier_try_wait(bar, parity)           may suspend for a while; the emulator suspends until the phase completes
//   void fence_proxy_async()                      generic accesses to shared memory before it, async ones after it
//   void fence_proxy_async_global()               the same for global memory
//   void tma_load(dst, const TensorMap*, bar, c0, ..., c_rank-1), tma_load_hint(policy, dst, map, bar, c0, ...)     rank 1..5, element coordinates
//   void tma_store(const TensorMap*, src, c0, ..., c_rank-1)
//   void bulk_load(dst, src, bytes, bar), bulk_store(dst, src, bytes)            one-dimensional, 16-byte units
//   void bulk_commit(), bulk_wait<N>(), bulk_wait_read<N>()       groups of this thread's stores: done; source free for reuse
//   void tensormap_prefetch(map), tensormap_acquire(map)          acquire: before the first use of a map that lies in global memory
//   u64 policy_evict_first(), policy_evict_last()                 for tma_load_hint
//   void setmaxnreg_inc<N>(), setmaxnreg_dec<N>()             the kernel needs ECAD_BOUNDS(threads, 1), or ptxas ignores them (C7508)
//   void wgmma_fence(registers...)                before the first wgmma and after any other use of its registers; registers: accumulators and, for
//                                                 wgmma_rs, fragments of a, as arrays of any rank
//   void wgmma_commit(), wgmma_wait<N>(acc...)    acc: every accumulator array of the groups waited for
//   void wgmma_ss<N, TransA = 0, TransB = 0>(f32 (&d)[N / 2], desc_a, desc_b, bool accumulate)     m64nNk16, N = 8, 16, ..., 256; Trans 1: MN-major
//   void wgmma_rs<N, TransB = 0>(f32 (&d)[N / 2], const u32 (&a)[4], desc_b, bool accumulate)
//   u64 smem_descriptor(addr, Swizzle, leading_bytes, stride_bytes)     see ptx_types.h
#pragma once
#include "launch.h"
#include "ptx_types.h"
#include "tensor_map.h"

#if defined(ECAD_EMULATE)
#define ECAD_SM90A 1
#include "emu/ptx_host.h"
#elif defined(__CUDACC__)
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define ECAD_SM90A 1
#endif
#include "ptx_device.cuh"
#if defined(ECAD_SM90A)
#include "ptx_device_sm90.cuh"
#include "ptx_device_wgmma.cuh"
#endif
#else
#error "kernels are compiled by nvcc, or by g++ with -DECAD_EMULATE"
#endif
