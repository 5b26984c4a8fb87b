// The instruction layer on the host: every call goes to the emulator with its place in the source. Interface and rules: ptx.cuh.
#pragma once
#include <cmath>
#include <cstring>

#include "../ptx_types.h"
#include "ops.h"

// The caller's line, when it is a default argument.
#define ECAD_SITE ::ecad::cuda::emu::Site site = {__builtin_FILE(), __builtin_LINE()}

namespace ecad::ptx {

namespace emu = ::ecad::cuda::emu;
namespace op = ::ecad::cuda::emu::op;

// ---- threads ----------------------------------------------------------------------------------------------------------

inline u32 thread_id() { return emu::position.thread; }
inline u32 lane_id() { return emu::position.thread & 31u; }
inline u32 warp_id() { return emu::position.thread >> 5; }
inline u32 block_threads() { return emu::position.threads; }
inline u32 block_x() { return emu::position.block[0]; }
inline u32 block_y() { return emu::position.block[1]; }
inline u32 block_z() { return emu::position.block[2]; }
inline u32 grid_x() { return emu::position.grid[0]; }
inline u32 grid_y() { return emu::position.grid[1]; }
inline u32 grid_z() { return emu::position.grid[2]; }

inline void block_sync(ECAD_SITE) { op::barrier(0, emu::position.threads, true, site); }
inline void barrier_sync(u32 id, u32 threads, ECAD_SITE) { op::barrier(id, threads, true, site); }
inline void barrier_arrive(u32 id, u32 threads, ECAD_SITE) { op::barrier(id, threads, false, site); }
inline void warp_sync(ECAD_SITE) { op::warp_sync(site); }

namespace detail {
template <class T>
T shuffle(op::Shuffle mode, T v, u32 by, emu::Site site) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
  u64 bits = 0;
  std::memcpy(&bits, &v, sizeof(T));
  bits = op::shuffle(mode, bits, by, site);
  std::memcpy(&v, &bits, sizeof(T));
  return v;
}
}  // namespace detail
template <class T>
T shfl_xor(T v, u32 mask, ECAD_SITE) { return detail::shuffle(op::Shuffle::kXor, v, mask, site); }
template <class T>
T shfl(T v, u32 lane, ECAD_SITE) { return detail::shuffle(op::Shuffle::kIndex, v, lane, site); }
template <class T>
T shfl_down(T v, u32 delta, ECAD_SITE) { return detail::shuffle(op::Shuffle::kDown, v, delta, site); }
template <class T>
T shfl_up(T v, u32 delta, ECAD_SITE) { return detail::shuffle(op::Shuffle::kUp, v, delta, site); }

inline u32 vote_ballot(bool p, ECAD_SITE) { return op::ballot(p, site); }
inline bool vote_any(bool p, ECAD_SITE) { return op::ballot(p, site) != 0; }
inline bool vote_all(bool p, ECAD_SITE) { return op::ballot(p, site) == kFullMask; }

inline void trap(ECAD_SITE) { op::trap(site); }
inline void nanosleep(u32) {}
inline u64 global_timer() { return op::timer(); }
inline void pdl_wait() {}
inline void pdl_launch() {}

// ---- memory -----------------------------------------------------------------------------------------------------------

inline u32 smem_base() { return 0x400; }

namespace detail {
template <class T>
constexpr bool kMovable = sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16;
}
template <class T>
T ld_shared(u32 addr, ECAD_SITE) {
  static_assert(detail::kMovable<T>, "2, 4, 8 or 16 bytes");
  T v;
  op::ld_shared(addr, &v, sizeof(T), site);
  return v;
}
template <class T>
void st_shared(u32 addr, T value, ECAD_SITE) {
  static_assert(detail::kMovable<T>, "2, 4, 8 or 16 bytes");
  op::st_shared(addr, &value, sizeof(T), site);
}
template <class T, Cache cache = Cache::kDefault>
T ld_global(const void* p, ECAD_SITE) {
  static_assert(detail::kMovable<T>, "2, 4, 8 or 16 bytes");
  T v;
  op::ld_global(p, &v, sizeof(T), false, site);
  return v;
}
template <class T, Cache cache = Cache::kDefault>
T ld_global_nc(const void* p, ECAD_SITE) {
  static_assert(detail::kMovable<T>, "2, 4, 8 or 16 bytes");
  T v;
  op::ld_global(p, &v, sizeof(T), true, site);
  return v;
}
template <Cache cache = Cache::kDefault, class T>
void st_global(void* p, T value, ECAD_SITE) {
  static_assert(detail::kMovable<T>, "2, 4, 8 or 16 bytes");
  op::st_global(p, &value, sizeof(T), site);
}
template <class T, Cache cache = Cache::kDefault>
T ld_global_if(const void* p, bool pred, ECAD_SITE) { return pred ? ld_global<T, cache>(p, site) : T{}; }
template <class T, Cache cache = Cache::kDefault>
T ld_global_nc_if(const void* p, bool pred, ECAD_SITE) { return pred ? ld_global_nc<T, cache>(p, site) : T{}; }
template <Cache cache = Cache::kDefault, class T>
void st_global_if(void* p, T value, bool pred, ECAD_SITE) {
  if (pred) st_global<cache>(p, value, site);
}
inline void st_system(void* p, u32 v, ECAD_SITE) { op::st_system(p, &v, 4, site); }
inline void st_system(void* p, u64 v, ECAD_SITE) { op::st_system(p, &v, 8, site); }
inline u32 atomic_add(u32* p, u32 v, ECAD_SITE) { return op::atomic_add(p, v, site); }
inline f32 atomic_add(f32* p, f32 v, ECAD_SITE) { return op::atomic_add(p, v, site); }
inline u32 atomic_max(u32* p, u32 v, ECAD_SITE) { return op::atomic_max(p, v, site); }
inline void fence_gpu() {}
inline void prefetch_l2(const void*) {}

// ---- arithmetic -------------------------------------------------------------------------------------------------------

inline u32 float_as_u32(f32 v) {
  u32 u;
  std::memcpy(&u, &v, 4);
  return u;
}
inline f32 u32_as_float(u32 u) {
  f32 v;
  std::memcpy(&v, &u, 4);
  return v;
}
inline f32 to_f32(bf16 v) { return u32_as_float(u32{v.bits} << 16); }
inline f32 low_f32(u32 pair) { return u32_as_float(pair << 16); }
inline f32 high_f32(u32 pair) { return u32_as_float(pair & 0xffff0000u); }
inline bf16 to_bf16(f32 v) {
  const u32 u = float_as_u32(v);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {0x7fff};  // what the instruction gives for NaN
  return {static_cast<u16>((u + 0x7fffu + (u >> 16 & 1u)) >> 16)};
}
inline u32 pack_bf16(f32 low, f32 high) { return to_bf16(low).bits | u32{to_bf16(high).bits} << 16; }
inline f32 fma_rn(f32 a, f32 b, f32 c) { return std::fma(a, b, c); }

namespace detail {
inline f32 flush(f32 v) { return std::fabs(v) < 0x1p-126f ? std::copysign(0.0f, v) : v; }
}
inline f32 ex2_approx(f32 x) { return detail::flush(std::exp2(detail::flush(x))); }
inline f32 lg2_approx(f32 x) { return std::log2(x); }
inline f32 rcp_approx(f32 x) { return detail::flush(1.0f / detail::flush(x)); }
inline f32 rsqrt_approx(f32 x) { return 1.0f / std::sqrt(x); }
inline f32 tanh_approx(f32 x) { return std::tanh(x); }

// ---- asynchronous copies, matrices --------------------------------------------------------------------------------------

template <int Bytes>
void cp_async(u32 dst, const void* src, u32 valid_bytes = Bytes, ECAD_SITE) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "cp.async moves 4, 8 or 16 bytes");
  op::cp_async(dst, src, Bytes, valid_bytes, site);
}
inline void cp_async_commit(ECAD_SITE) { op::cp_async_commit(site); }
template <int N>
void cp_async_wait(ECAD_SITE) { op::cp_async_wait(N, site); }

template <int N, bool Transposed = false>
void ldmatrix(u32 (&r)[N], u32 addr, ECAD_SITE) {
  static_assert(N == 1 || N == 2 || N == 4, "ldmatrix moves 1, 2 or 4 matrices");
  op::ldmatrix(r, N, Transposed, addr, site);
}
inline void mma_m16n8k16(f32 (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, ECAD_SITE) { op::mma(d, a, b0, b1, 16, site); }
inline void mma_m16n8k8(f32 (&d)[4], u32 a0, u32 a1, u32 b0, ECAD_SITE) {
  const u32 a[2] = {a0, a1};
  op::mma(d, a, b0, 0, 8, site);
}

}  // namespace ecad::ptx

#include "ptx_host_sm90.h"
#undef ECAD_SITE
