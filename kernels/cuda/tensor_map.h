// Tensor maps: how a bulk tensor copy finds a box of a tensor in global memory.
#pragma once
#include <cstdint>

namespace ecad::cuda {

// CUtensorMap's size and alignment; opaque to kernels. In the emulator it holds the emulator's own encoding (emu/tensor_map.h).
struct alignas(128) TensorMap { uint64_t words[16]; };

enum class Swizzle : uint32_t { kNone, k32, k64, k128 };  // bytes of the span that is permuted in 16-byte units

enum class MapType : uint32_t { kBF16, kF32 };

// What cuTensorMapEncodeTiled is told. Dimension 0 is the innermost and dense. Rules of the hardware: base 16-byte aligned; strides multiples of
// 16 bytes below 2^40; box extents 1..256; box[0] in bytes a multiple of 16 and, with a swizzle, at most its span. Elements outside the
// tensor are read as zeros and not written.
struct TensorMapDesc {
  MapType type = MapType::kBF16;
  uint32_t rank = 2;               // 1..5
  const void* base = nullptr;      // device address
  uint64_t dims[5] = {1, 1, 1, 1, 1};  // elements
  uint64_t strides[4] = {0, 0, 0, 0};  // bytes from one index of dimension i + 1 to the next
  uint32_t box[5] = {1, 1, 1, 1, 1};   // elements
  Swizzle swizzle = Swizzle::kNone;
};

}  // namespace ecad::cuda
