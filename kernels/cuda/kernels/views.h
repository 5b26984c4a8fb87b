// Operands as row kernels are given them, and how they follow from a tensor.
#pragma once
#include <cstdint>

#include "../../core/program.h"
#include "../frame.h"

namespace ecad::cuda {

inline constexpr int kVector = 8;  // elements that a thread of a row kernel owns

// dtypes that kernels compute on.
enum class Elem : int32_t { kF32, kBF16 };

// An operand [B,N,C]; strides in bytes, C dense. wide: its rows start at multiples of 16 bytes of whole vectors.
struct TokenView {
  Ref ref;
  int64_t batch, token;
  Elem elem;
  uint8_t present, wide;
};

// An operand [1 or B,C].
struct SampleView {
  Ref ref;
  int64_t batch;
  Elem elem;
  int32_t present;
};

}  // namespace ecad::cuda
