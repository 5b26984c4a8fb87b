// Operands of the small matrix products that prove the instruction layer.
#pragma once
#include <cstdint>

#include "../tensor_map.h"

namespace ecad::cuda::probe {

// What is deliberately wrong: only the emulator's tests use anything but kNone.
enum class Defect {
  kNone,
  kSwizzleOneSide,   // layout in shared memory: the writer does not permute, the reader does
  kSwizzleBothSides, // neither does: right values, bank conflicts
  kNoBarrier, kNoWait, kEarlyRelease, kRowTail, kWideStore,
  kNoProxyFence, kNoWgmmaFence, kNoWgmmaWait, kTooFewBytes, kTooManyBytes, kPhase, kNoInitFence, kNoInitBarrier, kOverArrival, kNoStoreWait, kTouchAccumulators,
};

struct GemmParams {
  const void *x, *w;  // bfloat16 [m, k], [n, k]
  void* y;            // [m, n]: float32 (sm_80), bfloat16 (sm_90a)
  int64_t m, n, k;
};

struct GemmMapParams {  // sm_90a: boxes of 64 x 64, swizzle of 128 bytes
  TensorMap x, w, y;
  int64_t m, n, k;
};

}  // namespace ecad::cuda::probe
