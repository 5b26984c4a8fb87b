// Stand-in for the emulator: threads one after another, no collectives.
#pragma once
#include "../launch.h"
#include "../ptx_types.h"

namespace ecad::ptx {
struct Place { u32 thread, block, threads, blocks; };
inline Place& place() {
  static Place p;
  return p;
}
inline u32 thread_id() { return place().thread; }
inline u32 block_x() { return place().block; }
inline u32 block_y() { return 0; }
inline u32 block_z() { return 0; }
inline u32 block_threads() { return place().threads; }
template <class T, Cache = Cache::kDefault>
T ld_global(const T* p) { return *p; }
template <Cache = Cache::kDefault, class T>
void st_global(T* p, T v) { *p = v; }
template <class T>
void st_system(T* p, T v) { *p = v; }
inline f32 to_f32(bf16 h) {
  const u32 u = static_cast<u32>(h.bits) << 16;
  f32 f;
  __builtin_memcpy(&f, &u, 4);
  return f;
}
inline bf16 to_bf16(f32 f) {
  u32 u;
  __builtin_memcpy(&u, &f, 4);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<u16>(u >> 16 | 0x40u)};
  return {static_cast<u16>((u + 0x7fffu + (u >> 16 & 1u)) >> 16)};
}
}  // namespace ecad::ptx
