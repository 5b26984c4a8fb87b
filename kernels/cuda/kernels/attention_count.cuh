// How many keys a sample has.
#pragma once
#include "../frame.cuh"
#include "attention.h"

namespace ecad::cuda {

// The sample's count, or all keys. 0 when the count is outside 1..keys, which is reported: the block is to end.
ECAD_DEVICE int key_count(const AttentionParams& p, int sample, int thread) {
  if (!p.has_counts) return p.keys;
  const int count = ptx::ld_global<int32_t>(resolve<const int32_t>(p.head.frame, p.counts) + sample);
  if (count >= 1 && count <= p.keys) return count;
  if (thread == 0) fault(p.head, Fault::kKeyCount, count);
  return 0;
}

}  // namespace ecad::cuda
