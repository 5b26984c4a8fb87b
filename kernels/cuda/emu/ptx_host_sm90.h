// The instruction layer on the host: what sm_90a adds. Included by ptx_host.h.
#pragma once

namespace ecad::ptx {

inline bool elect_one(ECAD_SITE) { return op::elect(site); }

template <int N, bool Transposed = false>
void stmatrix(u32 addr, const u32 (&r)[N], ECAD_SITE) {
  static_assert(N == 1 || N == 2 || N == 4, "stmatrix moves 1, 2 or 4 matrices");
  op::stmatrix(r, N, Transposed, addr, site);
}

inline void mbarrier_init(u32 bar, u32 count, ECAD_SITE) { op::mbarrier_init(bar, count, site); }
inline void mbarrier_invalidate(u32 bar, ECAD_SITE) { op::mbarrier_invalidate(bar, site); }
inline void fence_mbarrier_init() { op::fence_proxy(true); }
inline void mbarrier_arrive(u32 bar, ECAD_SITE) { op::mbarrier_arrive(bar, 0, true, site); }
inline void mbarrier_arrive_expect(u32 bar, u32 bytes, ECAD_SITE) { op::mbarrier_arrive(bar, bytes, true, site); }
inline void mbarrier_expect(u32 bar, u32 bytes, ECAD_SITE) { op::mbarrier_arrive(bar, bytes, false, site); }
inline bool mbarrier_try_wait(u32 bar, u32 parity, ECAD_SITE) {
  op::mbarrier_wait(bar, parity, site);
  return true;
}
inline void mbarrier_wait(u32 bar, u32 parity, ECAD_SITE) { op::mbarrier_wait(bar, parity, site); }

inline void fence_proxy_async() { op::fence_proxy(false); }
inline void fence_proxy_async_global() {}
inline u64 policy_evict_first() { return 1; }
inline u64 policy_evict_last() { return 2; }

// The coordinates may be of any integer type, as they are on the device.
#define ECAD_TMA(rank, parameters, ...)                                                                                                     \
  inline void tma_load(u32 dst, const TensorMap* map, u32 bar, parameters, ECAD_SITE) {                                                      \
    const i32 at[] = {__VA_ARGS__};                                                                                                          \
    op::tma_load(dst, map, bar, at, rank, site);                                                                                             \
  }                                                                                                                                          \
  inline void tma_load_hint(u64, u32 dst, const TensorMap* map, u32 bar, parameters, ECAD_SITE) {                                            \
    const i32 at[] = {__VA_ARGS__};                                                                                                          \
    op::tma_load(dst, map, bar, at, rank, site);                                                                                             \
  }                                                                                                                                          \
  inline void tma_store(const TensorMap* map, u32 src, parameters, ECAD_SITE) {                                                              \
    const i32 at[] = {__VA_ARGS__};                                                                                                          \
    op::tma_store(map, src, at, rank, site);                                                                                                 \
  }
#define ECAD_C1 i32 c0
#define ECAD_C2 ECAD_C1, i32 c1
#define ECAD_C3 ECAD_C2, i32 c2
#define ECAD_C4 ECAD_C3, i32 c3
#define ECAD_C5 ECAD_C4, i32 c4
ECAD_TMA(1, ECAD_C1, c0)
ECAD_TMA(2, ECAD_C2, c0, c1)
ECAD_TMA(3, ECAD_C3, c0, c1, c2)
ECAD_TMA(4, ECAD_C4, c0, c1, c2, c3)
ECAD_TMA(5, ECAD_C5, c0, c1, c2, c3, c4)
#undef ECAD_TMA
#undef ECAD_C1
#undef ECAD_C2
#undef ECAD_C3
#undef ECAD_C4
#undef ECAD_C5

inline void bulk_load(u32 dst, const void* src, u32 bytes, u32 bar, ECAD_SITE) { op::bulk_load(dst, src, bytes, bar, site); }
inline void bulk_store(void* dst, u32 src, u32 bytes, ECAD_SITE) { op::bulk_store(dst, src, bytes, site); }
inline void bulk_commit(ECAD_SITE) { op::bulk_commit(site); }
template <int N>
void bulk_wait(ECAD_SITE) { op::bulk_wait(N, false, site); }
template <int N>
void bulk_wait_read(ECAD_SITE) { op::bulk_wait(N, true, site); }
inline void tensormap_prefetch(const TensorMap*) {}
inline void tensormap_acquire(const TensorMap* map, ECAD_SITE) { op::tensormap_acquire(map, site); }

template <int N>
void setmaxnreg_inc(ECAD_SITE) {
  static_assert(N % 8 == 0 && N >= 24 && N <= 256, "a multiple of 8 from 24 to 256");
  op::setmaxnreg(N, true, site);
}
template <int N>
void setmaxnreg_dec(ECAD_SITE) {
  static_assert(N % 8 == 0 && N >= 24 && N <= 256, "a multiple of 8 from 24 to 256");
  op::setmaxnreg(N, false, site);
}

template <class... Registers>
void wgmma_fence(Registers&...) { op::wgmma_fence({__FILE__, __LINE__}); }
inline void wgmma_commit(ECAD_SITE) { op::wgmma_commit(site); }
template <int N, class... Accumulators>
void wgmma_wait(Accumulators&...) { op::wgmma_wait(N, {__FILE__, __LINE__}); }
template <int N, int TransA = 0, int TransB = 0>
void wgmma_ss(f32 (&d)[N / 2], u64 desc_a, u64 desc_b, bool accumulate, ECAD_SITE) {
  static_assert(N % 8 == 0 && N >= 8 && N <= 256, "N is a multiple of 8 up to 256");
  op::wgmma(d, N, nullptr, desc_a, desc_b, TransA, TransB, accumulate, site);
}
template <int N, int TransB = 0>
void wgmma_rs(f32 (&d)[N / 2], const u32 (&a)[4], u64 desc_b, bool accumulate, ECAD_SITE) {
  static_assert(N % 8 == 0 && N >= 8 && N <= 256, "N is a multiple of 8 up to 256");
  op::wgmma(d, N, a, 0, desc_b, false, TransB, accumulate, site);
}

}  // namespace ecad::ptx
