// Warpgroup matrix products: issued by 128 threads together, executed in order, visible after a wait.
#pragma once
#include <cstdint>

#include "machine.h"

namespace ecad::cuda::emu {

// An operand in shared memory as a descriptor describes it.
struct Operand {
  u32 start = 0, leading = 0, stride = 0;  // bytes
  Swizzle swizzle = Swizzle::kNone;
  bool mn_major = false;
};
Operand decode_operand(u64 descriptor, bool mn_major);

// Shared address of 8 consecutive elements of a tile of 16 along k. K-major: row i, elements 8 j ... of k; MN-major: k-row j, elements 8 i ... along m or n.
u32 operand_chunk(const Operand&, u32 i, u32 j);

void free_wgmma(Machine&);  // what is still open at the end of a block

}  // namespace ecad::cuda::emu
