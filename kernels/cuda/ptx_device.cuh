// The instruction layer as inline PTX: what every architecture from sm_80 on has. Interface and rules: ptx.cuh.
// `volatile` and "memory" stand wherever order matters to other threads; ptxas keeps volatile statements in program order.
#pragma once
#include "ptx_types.h"

namespace ecad::ptx {

// ---- threads ----------------------------------------------------------------------------------------------------------

ECAD_DEVICE u32 thread_id() { return threadIdx.x; }
ECAD_DEVICE u32 lane_id() { return threadIdx.x & 31u; }
ECAD_DEVICE u32 warp_id() { return threadIdx.x >> 5; }
ECAD_DEVICE u32 block_threads() { return blockDim.x; }
ECAD_DEVICE u32 block_x() { return blockIdx.x; }
ECAD_DEVICE u32 block_y() { return blockIdx.y; }
ECAD_DEVICE u32 block_z() { return blockIdx.z; }
ECAD_DEVICE u32 grid_x() { return gridDim.x; }
ECAD_DEVICE u32 grid_y() { return gridDim.y; }
ECAD_DEVICE u32 grid_z() { return gridDim.z; }

ECAD_DEVICE void block_sync() { asm volatile("bar.sync 0;" ::: "memory"); }
ECAD_DEVICE void barrier_sync(u32 id, u32 threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
ECAD_DEVICE void barrier_arrive(u32 id, u32 threads) { asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
ECAD_DEVICE void warp_sync() { asm volatile("bar.warp.sync 0xffffffff;" ::: "memory"); }

namespace detail {
enum class Shuffle { kXor, kIndex, kDown, kUp };
template <Shuffle mode>
ECAD_DEVICE u32 shuffle(u32 v, u32 by) {
  u32 r;
  if constexpr (mode == Shuffle::kXor) asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=r"(r) : "r"(v), "r"(by));
  if constexpr (mode == Shuffle::kIndex) asm volatile("shfl.sync.idx.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=r"(r) : "r"(v), "r"(by));
  if constexpr (mode == Shuffle::kDown) asm volatile("shfl.sync.down.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=r"(r) : "r"(v), "r"(by));
  if constexpr (mode == Shuffle::kUp) asm volatile("shfl.sync.up.b32 %0, %1, %2, 0, 0xffffffff;" : "=r"(r) : "r"(v), "r"(by));
  return r;
}
template <Shuffle mode>
ECAD_DEVICE i32 shuffle(i32 v, u32 by) { return i32(shuffle<mode>(u32(v), by)); }
template <Shuffle mode>
ECAD_DEVICE f32 shuffle(f32 v, u32 by) { return __uint_as_float(shuffle<mode>(__float_as_uint(v), by)); }
template <Shuffle mode>
ECAD_DEVICE u64 shuffle(u64 v, u32 by) {
  const u32 low = shuffle<mode>(u32(v), by);
  return u64(shuffle<mode>(u32(v >> 32), by)) << 32 | low;
}
}  // namespace detail
template <class T>
ECAD_DEVICE T shfl_xor(T v, u32 mask) { return detail::shuffle<detail::Shuffle::kXor>(v, mask); }
template <class T>
ECAD_DEVICE T shfl(T v, u32 lane) { return detail::shuffle<detail::Shuffle::kIndex>(v, lane); }
template <class T>
ECAD_DEVICE T shfl_down(T v, u32 delta) { return detail::shuffle<detail::Shuffle::kDown>(v, delta); }
template <class T>
ECAD_DEVICE T shfl_up(T v, u32 delta) { return detail::shuffle<detail::Shuffle::kUp>(v, delta); }

ECAD_DEVICE u32 vote_ballot(bool p) {
  u32 r;
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %1, 0; vote.sync.ballot.b32 %0, q, 0xffffffff; }" : "=r"(r) : "r"(u32(p)));
  return r;
}
ECAD_DEVICE bool vote_any(bool p) { return vote_ballot(p) != 0; }
ECAD_DEVICE bool vote_all(bool p) { return vote_ballot(p) == kFullMask; }

ECAD_DEVICE void trap() { asm volatile("trap;"); }
ECAD_DEVICE void nanosleep(u32 ns) { asm volatile("nanosleep.u32 %0;" ::"r"(ns)); }
ECAD_DEVICE u64 global_timer() {
  u64 t;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t)::"memory");
  return t;
}
ECAD_DEVICE void pdl_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
ECAD_DEVICE void pdl_launch() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ---- memory -----------------------------------------------------------------------------------------------------------

ECAD_DEVICE u32 smem_base() {
  extern __shared__ __align__(1024) unsigned char ecad_dynamic_smem[];
  return u32(__cvta_generic_to_shared(ecad_dynamic_smem));
}

namespace detail {
template <class T>
ECAD_DEVICE T from_words(const u32 (&w)[4]) {
  T v;
  __builtin_memcpy(&v, w, sizeof(T));
  return v;
}
template <class T>
ECAD_DEVICE void to_words(T v, u32 (&w)[4]) { __builtin_memcpy(w, &v, sizeof(T)); }
template <class T>
constexpr bool kMovable = sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16;
template <class T>
ECAD_DEVICE T from_half(u16 h) {
  T v;
  __builtin_memcpy(&v, &h, 2);
  return v;
}
template <class T>
ECAD_DEVICE u16 to_half(T v) {
  u16 h;
  __builtin_memcpy(&h, &v, 2);
  return h;
}
}  // namespace detail

// One load or store statement for each width. OP: instruction up to the width; R: constraint of the address.
#define ECAD_LOAD(OP, R, address, ...)                                                                                              \
  if constexpr (sizeof(T) == 2) {                                                                                                   \
    u16 h;                                                                                                                          \
    asm volatile(OP ".b16 %0, [%1];" : "=h"(h) : R(address) : __VA_ARGS__);                                                         \
    return detail::from_half<T>(h);                                                                                                 \
  } else {                                                                                                                          \
    u32 w[4];                                                                                                                       \
    if constexpr (sizeof(T) == 4) asm volatile(OP ".b32 %0, [%1];" : "=r"(w[0]) : R(address) : __VA_ARGS__);                        \
    if constexpr (sizeof(T) == 8) asm volatile(OP ".v2.b32 {%0, %1}, [%2];" : "=r"(w[0]), "=r"(w[1]) : R(address) : __VA_ARGS__);    \
    if constexpr (sizeof(T) == 16)                                                                                                  \
      asm volatile(OP ".v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3]) : R(address) : __VA_ARGS__); \
    return detail::from_words<T>(w);                                                                                                \
  }
#define ECAD_STORE(OP, R, address, value)                                                                                           \
  if constexpr (sizeof(T) == 2) {                                                                                                   \
    asm volatile(OP ".b16 [%0], %1;" ::R(address), "h"(detail::to_half(value)) : "memory");                                         \
  } else {                                                                                                                          \
    u32 w[4];                                                                                                                       \
    detail::to_words(value, w);                                                                                                     \
    if constexpr (sizeof(T) == 4) asm volatile(OP ".b32 [%0], %1;" ::R(address), "r"(w[0]) : "memory");                             \
    if constexpr (sizeof(T) == 8) asm volatile(OP ".v2.b32 [%0], {%1, %2};" ::R(address), "r"(w[0]), "r"(w[1]) : "memory");          \
    if constexpr (sizeof(T) == 16)                                                                                                  \
      asm volatile(OP ".v4.b32 [%0], {%1, %2, %3, %4};" ::R(address), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]) : "memory");        \
  }

template <class T>
ECAD_DEVICE T ld_shared(u32 addr) {
  static_assert(detail::kMovable<T>, "2, 4, 8 or 16 bytes");
  ECAD_LOAD("ld.shared", "r", addr, "memory")
}
template <class T>
ECAD_DEVICE void st_shared(u32 addr, T value) {
  static_assert(detail::kMovable<T>, "2, 4, 8 or 16 bytes");
  ECAD_STORE("st.shared", "r", addr, value)
}
template <class T, Cache cache = Cache::kDefault>
ECAD_DEVICE T ld_global(const void* p) {
  static_assert(detail::kMovable<T>, "2, 4, 8 or 16 bytes");
  if constexpr (cache == Cache::kStream) { ECAD_LOAD("ld.global.cs", "l", p, "memory") }
  else if constexpr (cache == Cache::kNoL1) { ECAD_LOAD("ld.global.L1::no_allocate", "l", p, "memory") }
  else { ECAD_LOAD("ld.global", "l", p, "memory") }
}
// Read-only data needs no order: the compiler may move these, so no "memory".
template <class T, Cache cache = Cache::kDefault>
ECAD_DEVICE T ld_global_nc(const void* p) {
  static_assert(detail::kMovable<T>, "2, 4, 8 or 16 bytes");
  if constexpr (cache == Cache::kStream) { ECAD_LOAD("ld.global.nc.L1::evict_first", "l", p) }
  else if constexpr (cache == Cache::kNoL1) { ECAD_LOAD("ld.global.nc.L1::no_allocate", "l", p) }
  else { ECAD_LOAD("ld.global.nc", "l", p) }
}
template <Cache cache = Cache::kDefault, class T>
ECAD_DEVICE void st_global(void* p, T value) {
  static_assert(detail::kMovable<T>, "2, 4, 8 or 16 bytes");
  if constexpr (cache == Cache::kStream) { ECAD_STORE("st.global.cs", "l", p, value) }
  else if constexpr (cache == Cache::kNoL1) { ECAD_STORE("st.global.L1::no_allocate", "l", p, value) }
  else { ECAD_STORE("st.global", "l", p, value) }
}
#undef ECAD_LOAD
#undef ECAD_STORE

template <class T, Cache cache = Cache::kDefault>
ECAD_DEVICE T ld_global_if(const void* p, bool pred) { return pred ? ld_global<T, cache>(p) : T{}; }
template <class T, Cache cache = Cache::kDefault>
ECAD_DEVICE T ld_global_nc_if(const void* p, bool pred) { return pred ? ld_global_nc<T, cache>(p) : T{}; }
template <Cache cache = Cache::kDefault, class T>
ECAD_DEVICE void st_global_if(void* p, T value, bool pred) {
  if (pred) st_global<cache>(p, value);
}

ECAD_DEVICE void st_system(void* p, u32 v) { asm volatile("st.relaxed.sys.global.b32 [%0], %1;" ::"l"(p), "r"(v) : "memory"); }
ECAD_DEVICE void st_system(void* p, u64 v) { asm volatile("st.relaxed.sys.global.b64 [%0], %1;" ::"l"(p), "l"(v) : "memory"); }
ECAD_DEVICE u32 atomic_add(u32* p, u32 v) {
  u32 old;
  asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], %2;" : "=r"(old) : "l"(p), "r"(v) : "memory");
  return old;
}
ECAD_DEVICE f32 atomic_add(f32* p, f32 v) {
  f32 old;
  asm volatile("atom.relaxed.gpu.global.add.f32 %0, [%1], %2;" : "=f"(old) : "l"(p), "f"(v) : "memory");
  return old;
}
ECAD_DEVICE u32 atomic_max(u32* p, u32 v) {
  u32 old;
  asm volatile("atom.relaxed.gpu.global.max.u32 %0, [%1], %2;" : "=r"(old) : "l"(p), "r"(v) : "memory");
  return old;
}
ECAD_DEVICE void fence_gpu() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }
ECAD_DEVICE void prefetch_l2(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

// ---- arithmetic -------------------------------------------------------------------------------------------------------

ECAD_DEVICE u32 float_as_u32(f32 v) { return __float_as_uint(v); }
ECAD_DEVICE f32 u32_as_float(u32 v) { return __uint_as_float(v); }
ECAD_DEVICE f32 to_f32(bf16 v) { return __uint_as_float(u32(v.bits) << 16); }
ECAD_DEVICE f32 low_f32(u32 pair) { return __uint_as_float(pair << 16); }
ECAD_DEVICE f32 high_f32(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }
ECAD_DEVICE bf16 to_bf16(f32 v) {
  bf16 r;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(v));
  return r;
}
ECAD_DEVICE u32 pack_bf16(f32 low, f32 high) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
ECAD_DEVICE f32 fma_rn(f32 a, f32 b, f32 c) { return __fmaf_rn(a, b, c); }
#define ECAD_UNARY(name, instruction)                   \
  ECAD_DEVICE f32 name(f32 x) {                         \
    f32 y;                                              \
    asm(instruction " %0, %1;" : "=f"(y) : "f"(x));     \
    return y;                                           \
  }
ECAD_UNARY(ex2_approx, "ex2.approx.ftz.f32")
ECAD_UNARY(lg2_approx, "lg2.approx.f32")
ECAD_UNARY(rcp_approx, "rcp.approx.ftz.f32")
ECAD_UNARY(rsqrt_approx, "rsqrt.approx.f32")
ECAD_UNARY(tanh_approx, "tanh.approx.f32")
#undef ECAD_UNARY

// ---- asynchronous copies ------------------------------------------------------------------------------------------------

template <int Bytes>
ECAD_DEVICE void cp_async(u32 dst, const void* src, u32 valid_bytes = Bytes) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "cp.async moves 4, 8 or 16 bytes");
  if constexpr (Bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(valid_bytes) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(dst), "l"(src), "n"(Bytes), "r"(valid_bytes) : "memory");
}
ECAD_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
ECAD_DEVICE void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// ---- matrices -----------------------------------------------------------------------------------------------------------

template <int N, bool Transposed = false>
ECAD_DEVICE void ldmatrix(u32 (&r)[N], u32 addr) {
  static_assert(N == 1 || N == 2 || N == 4, "ldmatrix moves 1, 2 or 4 matrices");
#define ECAD_LDMATRIX(trans)                                                                                                                     \
  if constexpr (N == 1) asm volatile("ldmatrix.sync.aligned.m8n8.x1" trans ".shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(addr) : "memory");         \
  if constexpr (N == 2)                                                                                                                          \
    asm volatile("ldmatrix.sync.aligned.m8n8.x2" trans ".shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(addr) : "memory");              \
  if constexpr (N == 4)                                                                                                                          \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" trans ".shared.b16 {%0, %1, %2, %3}, [%4];"                                                      \
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(addr) : "memory");
  if constexpr (Transposed) { ECAD_LDMATRIX(".trans") } else { ECAD_LDMATRIX("") }
#undef ECAD_LDMATRIX
}

ECAD_DEVICE void mma_m16n8k16(f32 (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
ECAD_DEVICE void mma_m16n8k8(f32 (&d)[4], u32 a0, u32 a1, u32 b0) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a0), "r"(a1), "r"(b0));
}

}  // namespace ecad::ptx
