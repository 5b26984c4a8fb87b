// What the wrappers of ptx_host.h call. Sites are the wrappers' call sites in kernels.
#pragma once
#include <cstdint>

#include "../tensor_map.h"
#include "site.h"

namespace ecad::cuda::emu {

// The running thread's coordinates.
struct Position {
  uint32_t thread, threads, block[3], grid[3];
};
extern Position position;

namespace op {

// sync.cpp
void barrier(uint32_t id, uint32_t threads, bool wait, Site);
void warp_sync(Site);
enum class Shuffle : uint8_t { kXor, kIndex, kDown, kUp };
uint64_t shuffle(Shuffle, uint64_t value, uint32_t by, Site);
uint32_t ballot(bool, Site);
bool elect(Site);
void trap(Site);
uint64_t timer();

// shared.cpp, global.cpp
void ld_shared(uint32_t address, void* out, uint32_t bytes, Site);
void st_shared(uint32_t address, const void* value, uint32_t bytes, Site);
void ld_global(const void* p, void* out, uint32_t bytes, bool read_only, Site);
void st_global(void* p, const void* value, uint32_t bytes, Site);
void st_system(void* p, const void* value, uint32_t bytes, Site);  // outside of the launch's order
uint32_t atomic_add(uint32_t* p, uint32_t v, Site);
float atomic_add(float* p, float v, Site);
uint32_t atomic_max(uint32_t* p, uint32_t v, Site);

// copy.cpp
void cp_async(uint32_t dst, const void* src, uint32_t bytes, uint32_t valid, Site);
void cp_async_commit(Site);
void cp_async_wait(uint32_t keep, Site);

// matrix.cpp
void ldmatrix(uint32_t* r, uint32_t count, bool transposed, uint32_t address, Site);
void stmatrix(const uint32_t* r, uint32_t count, bool transposed, uint32_t address, Site);
void mma(float* d, const uint32_t* a, uint32_t b0, uint32_t b1, uint32_t k, Site);  // k: 16 or 8

// mbarrier.cpp
void mbarrier_init(uint32_t address, uint32_t count, Site);
void mbarrier_invalidate(uint32_t address, Site);
void mbarrier_arrive(uint32_t address, uint32_t expect_bytes, bool arrive, Site);
void mbarrier_wait(uint32_t address, uint32_t parity, Site);
void fence_proxy(bool only_barriers);

// bulk.cpp
void tma_load(uint32_t dst, const TensorMap*, uint32_t mbarrier, const int32_t* at, uint32_t rank, Site);
void tma_store(const TensorMap*, uint32_t src, const int32_t* at, uint32_t rank, Site);
void bulk_load(uint32_t dst, const void* src, uint32_t bytes, uint32_t mbarrier, Site);
void bulk_store(void* dst, uint32_t src, uint32_t bytes, Site);
void bulk_commit(Site);
void bulk_wait(uint32_t keep, bool read_only, Site);
void tensormap_acquire(const TensorMap*, Site);

// wgmma.cpp
void setmaxnreg(uint32_t registers, bool increase, Site);
void wgmma_fence(Site);
void wgmma(float* d, uint32_t n, const uint32_t* a, uint64_t desc_a, uint64_t desc_b, bool trans_a, bool trans_b, bool accumulate, Site);  // a null: desc_a
void wgmma_commit(Site);
void wgmma_wait(uint32_t keep, Site);

}  // namespace op
}  // namespace ecad::cuda::emu
