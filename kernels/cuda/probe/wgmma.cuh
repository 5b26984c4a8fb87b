// What the wgmma probes share: operands put into shared memory element by element, by the same formula that the emulator's tests hold against CuTe.
#pragma once
#include "probe.cuh"

namespace ecad::cuda::probe {

constexpr uint32_t kOperandB = 32768;  // where b begins in shared memory; a begins at its base
constexpr uint32_t kWgmmaSmem = kOperandB + 65536;

constexpr uint32_t span_of(Swizzle s) { return s == Swizzle::k128 ? 128 : s == Swizzle::k64 ? 64 : s == Swizzle::k32 ? 32 : 0; }

// A tile of `rows` x 16 (along m or n, along k). Strides as a descriptor has them.
template <uint32_t rows, Swizzle swizzle, bool mn_major>
struct Tile {
  static constexpr uint32_t kSpan = span_of(swizzle);
  static constexpr uint32_t kWide = kSpan / 2;  // elements of a span
  static constexpr uint32_t kLeading = !mn_major ? (kSpan ? 0 : 128) : kSpan ? 16 * kSpan : rows / 8 * 128;
  static constexpr uint32_t kStride = !mn_major ? (kSpan ? 8 * kSpan : 256) : kSpan ? 8 * kSpan : 128;

  static ECAD_DEVICE uint32_t offset(uint32_t row, uint32_t k) {  // bytes, before the swizzle
    if constexpr (!mn_major) {
      if constexpr (kSpan != 0) return row / 8 * kStride + row % 8 * kSpan + 2 * k;
      else return row / 8 * kStride + row % 8 * 16 + k / 8 * kLeading + 2 * (k % 8);
    } else if constexpr (kSpan != 0) {
      return row / kWide * kLeading + 2 * (row % kWide) + k % 8 * kSpan + k / 8 * kStride;
    } else {
      return row / 8 * kStride + 2 * (row % 8) + k % 8 * 16 + k / 8 * kLeading;
    }
  }
  // Element (row, k) is the input's bfloat16 number first + 16 row + k.
  static ECAD_DEVICE void fill(const ProbeParams& p, uint32_t base, uint32_t first) {
    for (uint32_t i = ptx::thread_id(); i < rows * 16; i += ptx::block_threads())
      ptx::st_shared(ptx::swizzle_bytes(swizzle, base + offset(i / 16, i % 16)), ptx::ld_global<ptx::bf16>(static_cast<const ptx::bf16*>(p.in) + first + i));
  }
  static ECAD_DEVICE uint64_t descriptor(uint32_t base) { return ptx::smem_descriptor(base, swizzle, kLeading, kStride); }
};

template <int N>
ECAD_DEVICE void put_accumulators(const ProbeParams& p, const float (&acc)[N / 2]) {
#pragma unroll
  for (int i = 0; i < N / 2; ++i) put(p, uint32_t(i) * 128 + ptx::thread_id(), acc[i]);
}

}  // namespace ecad::cuda::probe
