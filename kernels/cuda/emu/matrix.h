// The warp's matrix instructions, run when all lanes have arrived.
#pragma once
#include "machine.h"

namespace ecad::cuda::emu {

void run_ldmatrix(Machine&, Warp&);
void run_stmatrix(Machine&, Warp&);
void run_mma(Machine&, Warp&);

inline float bf16_value(u16 bits) {
  const u32 u = u32{bits} << 16;
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
inline u16 half_of(u32 pair, u32 i) { return static_cast<u16>(pair >> 16 * i); }

}  // namespace ecad::cuda::emu
