// Types that kernels compute with, the same on the device and in the emulator.
#pragma once
#include <cstdint>

#include "launch.h"
#include "tensor_map.h"

namespace ecad::ptx {

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using i32 = int32_t;
using i64 = int64_t;
using f32 = float;

struct bf16 { u16 bits; };  // bfloat16 in memory; arithmetic is done in f32

// What one load or store moves: 8 or 16 bytes, naturally aligned.
struct alignas(8) u32x2 { u32 x, y; };
struct alignas(16) u32x4 { u32 x, y, z, w; };
struct alignas(8) f32x2 { f32 x, y; };
struct alignas(16) f32x4 { f32 x, y, z, w; };

// How a global load or store treats the caches.
enum class Cache {
  kDefault,
  kStream,       // read or written once: evict first
  kNoL1,         // keep out of L1
};

using cuda::Swizzle;
using cuda::TensorMap;

// Shared-memory matrix descriptor of wgmma (PTX ISA, "matrix descriptor"): where 8x8 core matrices lie. Tiles of 16-bit elements, addresses in bytes.
//   K-major, swizzle S bytes (rows of S bytes, 8 rows make one atom of 8 S bytes): stride_bytes from one group of 8 rows to the next; leading unused (0).
//   K-major, no swizzle: leading_bytes between the two core matrices along k, stride_bytes between groups of 8 rows.
//   MN-major, swizzle S (k-rows of S bytes along m or n): leading_bytes to the next S/2 elements along m or n, stride_bytes to the next 8 k-rows.
//   MN-major, no swizzle: stride_bytes to the next 8 elements along m or n, leading_bytes to the next 8 k-rows.
// Atoms begin at multiples of 8 S bytes; the address may advance inside an atom by multiples of 32 bytes along k.
ECAD_HOST_DEVICE u64 smem_descriptor(u32 addr, Swizzle swizzle, u32 leading_bytes, u32 stride_bytes) {
  const u64 mode = swizzle == Swizzle::k128 ? 1 : swizzle == Swizzle::k64 ? 2 : swizzle == Swizzle::k32 ? 3 : 0;
  return u64((addr & 0x3ffffu) >> 4) | u64(leading_bytes >> 4) << 16 | u64(stride_bytes >> 4) << 32 | mode << 62;
}

// Where the byte at `offset` of an atom-aligned tile lies after the swizzle: the 16-byte unit within the span is xored with the row's number (mod span/16).
ECAD_HOST_DEVICE u32 swizzle_bytes(Swizzle swizzle, u32 offset) {
  return swizzle == Swizzle::k128 ? offset ^ (offset >> 3 & 0x70u) : swizzle == Swizzle::k64 ? offset ^ (offset >> 3 & 0x30u)
       : swizzle == Swizzle::k32  ? offset ^ (offset >> 3 & 0x10u) : offset;
}

constexpr u32 kFullMask = 0xffffffffu;

}  // namespace ecad::ptx
