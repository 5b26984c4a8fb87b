// The emulator's contents of a TensorMap.
#pragma once
#include <cstdint>

#include "../tensor_map.h"

namespace ecad::cuda::emu {

struct EncodedMap {
  uint32_t magic;
  uint8_t rank, element_bytes;
  uint16_t swizzle;       // enum Swizzle
  uint64_t base;
  uint32_t dims[5];
  uint32_t box_0, box_1, box_2, box_3, box_4;
  uint64_t strides[4];
  uint32_t box(uint32_t i) const { return i == 0 ? box_0 : i == 1 ? box_1 : i == 2 ? box_2 : i == 3 ? box_3 : box_4; }
};
static_assert(sizeof(EncodedMap) <= sizeof(TensorMap), "the map's size is the driver's");
constexpr uint32_t kMapMagic = 0x7e45a9c1;

constexpr uint32_t swizzle_span(Swizzle s) { return s == Swizzle::k128 ? 128 : s == Swizzle::k64 ? 64 : s == Swizzle::k32 ? 32 : 0; }

}  // namespace ecad::cuda::emu
