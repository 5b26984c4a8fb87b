// What this machine's processor can do, and which of it a device may use.
#pragma once
#include <cstdint>
#include <string>

namespace ecad {

// Levels our own kernels are compiled for, each a superset of the one before.
enum class Isa : int32_t {
  kGeneric = 0,      // whatever the compiler targets by default
  kAvx2 = 1,         // AVX2, FMA, F16C
  kAvx512 = 2,       // AVX-512 F, BW, DQ, VL
  kAvx512Bf16 = 3,   // the above and AVX-512 BF16
};

// The best level of this machine within bound (ECAD_ISA_*; AUTO and AMX bound nothing here).
Isa best_isa(int32_t bound);
const char* isa_name(Isa);

std::string cpu_features();  // "avx2 fma f16c avx512f ... amx_bf16", of those libecad knows; "generic" when none
std::string cpu_name();      // the processor's own name, or "unknown processor"
bool cpu_fast_bf16();        // multiplies bfloat16 faster than float32: AVX-512 BF16 or AMX
bool cpu_has_amx_bf16();     // in the processor and enabled by the operating system
int32_t usable_cores();      // cores this process may run on, at least 1

}  // namespace ecad
