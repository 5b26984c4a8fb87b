#include "cpuid.h"

#include <cstring>
#include <thread>

#include "../include/ecad.h"

#if defined(__x86_64__) || defined(__i386__)
#define ECAD_X86 1
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

namespace ecad {
namespace {

struct Features {
  bool avx2 = false, fma = false, f16c = false, avx512f = false, avx512bw = false, avx512dq = false, avx512vl = false;
  bool avx512_vnni = false, avx512_bf16 = false, amx_tile = false, amx_int8 = false, amx_bf16 = false;
  char name[49] = {0};
};

#if ECAD_X86
uint64_t enabled_state() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

Features probe() {
  Features f;
  unsigned a, b, c, d;
  for (unsigned i = 0; i < 3; ++i) {
    if (!__get_cpuid(0x80000002u + i, &a, &b, &c, &d)) break;
    const unsigned words[4] = {a, b, c, d};
    std::memcpy(f.name + 16 * i, words, 16);
  }
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 27))) return f;  // no OSXSAVE: the wide registers are not usable
  const uint64_t state = enabled_state();
  const bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6, tiles = (state & 0x60000) == 0x60000;
  f.fma = ymm && (c & (1u << 12));
  f.f16c = ymm && (c & (1u << 29));
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return f;
  f.avx2 = ymm && (b & (1u << 5));
  f.avx512f = zmm && (b & (1u << 16));
  f.avx512dq = zmm && (b & (1u << 17));
  f.avx512bw = zmm && (b & (1u << 30));
  f.avx512vl = zmm && (b & (1u << 31));
  f.avx512_vnni = zmm && (c & (1u << 11));
  f.amx_bf16 = tiles && (d & (1u << 22));
  f.amx_tile = tiles && (d & (1u << 24));
  f.amx_int8 = tiles && (d & (1u << 25));
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) f.avx512_bf16 = zmm && (a & (1u << 5));
  return f;
}
#else
Features probe() { return {}; }
#endif

const Features& features() {
  static const Features f = probe();
  return f;
}

}  // namespace

Isa best_isa(int32_t bound) {
  const Features& f = features();
  const bool avx2 = f.avx2 && f.fma && f.f16c;
  const bool avx512 = avx2 && f.avx512f && f.avx512bw && f.avx512dq && f.avx512vl;
  if (bound == ECAD_ISA_GENERIC || !avx2) return Isa::kGeneric;
  if (bound == ECAD_ISA_AVX2 || !avx512) return Isa::kAvx2;
  return f.avx512_bf16 ? Isa::kAvx512Bf16 : Isa::kAvx512;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kGeneric: return "generic";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
    case Isa::kAvx512Bf16: return "avx512_bf16";
  }
  return "unknown";
}

std::string cpu_features() {
  const Features& f = features();
  const struct { bool has; const char* name; } all[] = {
      {f.avx2, "avx2"}, {f.fma, "fma"}, {f.f16c, "f16c"}, {f.avx512f, "avx512f"}, {f.avx512bw, "avx512bw"},
      {f.avx512dq, "avx512dq"}, {f.avx512vl, "avx512vl"}, {f.avx512_vnni, "avx512_vnni"}, {f.avx512_bf16, "avx512_bf16"},
      {f.amx_tile, "amx_tile"}, {f.amx_int8, "amx_int8"}, {f.amx_bf16, "amx_bf16"}};
  std::string out;
  for (const auto& one : all) {
    if (!one.has) continue;
    if (!out.empty()) out += ' ';
    out += one.name;
  }
  return out.empty() ? "generic" : out;
}

std::string cpu_name() {
  std::string name(features().name);
  const size_t first = name.find_first_not_of(' ');
  if (first == std::string::npos) return "unknown processor";
  return name.substr(first, name.find_last_not_of(' ') - first + 1);
}

bool cpu_fast_bf16() { return features().avx512_bf16 || features().amx_bf16; }
bool cpu_has_amx_bf16() { return features().amx_bf16; }

int32_t usable_cores() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    const int n = CPU_COUNT(&set);
    if (n > 0) return n;
  }
#endif
  const unsigned n = std::thread::hardware_concurrency();
  return n > 0 ? static_cast<int32_t>(n) : 1;
}

}  // namespace ecad
