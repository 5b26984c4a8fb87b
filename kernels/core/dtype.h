// Element types and their conversions. Every narrowing rounds once, to nearest even; NaN stays NaN.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "program.h"

namespace ecad {

const char* dtype_name(DType);
inline bool is_float(DType t) { return t == DType::kF32 || t == DType::kBF16 || t == DType::kF16 || t == DType::kF64; }

inline uint32_t float_bits(float f) { uint32_t u; std::memcpy(&u, &f, 4); return u; }
inline float bits_float(uint32_t u) { float f; std::memcpy(&f, &u, 4); return f; }

// float32 nearest in the sense of "round to odd": a second rounding to bfloat16 or float16 then gives what one rounding would.
inline float narrow_odd(double d) {
  float f = static_cast<float>(d);
  if (std::isnan(d) || static_cast<double>(f) == d) return f;
  uint32_t u = float_bits(f);
  const bool away = std::fabs(static_cast<double>(f)) > std::fabs(d);  // an overflow to infinity steps back to the largest float
  if (away) --u;
  return bits_float(u | 1u);
}

inline float bf16_to_float(uint16_t h) { return bits_float(static_cast<uint32_t>(h) << 16); }

inline uint16_t float_to_bf16(float f) {
  const uint32_t u = float_bits(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40u);
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

inline float f16_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, mantissa = h & 0x3ffu;
  if (exponent == 31) return bits_float(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  return bits_float(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

inline uint16_t float_to_f16(float f) {
  const uint32_t u = float_bits(f), magnitude = u & 0x7fffffffu;
  const uint16_t sign = static_cast<uint16_t>((u >> 16) & 0x8000u);
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 and above round to infinity
  if (magnitude < 0x38800000u) {  // below 2^-14: a multiple of 2^-24; the float addition rounds to nearest even
    const float shifted = bits_float(magnitude) + 0.5f;  // 0.5 has an ulp of 2^-24
    return static_cast<uint16_t>(sign | (float_bits(shifted) - float_bits(0.5f)));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u) - (112u << 23);
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

// Element i of dense storage of type t at p, which need not be aligned.
inline double load_element(const void* p, DType t, int64_t i) {
  const char* at = static_cast<const char*>(p);
  switch (t) {
    case DType::kF32: { float v; std::memcpy(&v, at + 4 * i, 4); return static_cast<double>(v); }
    case DType::kF64: { double v; std::memcpy(&v, at + 8 * i, 8); return v; }
    case DType::kBF16: { uint16_t v; std::memcpy(&v, at + 2 * i, 2); return static_cast<double>(bf16_to_float(v)); }
    case DType::kF16: { uint16_t v; std::memcpy(&v, at + 2 * i, 2); return static_cast<double>(f16_to_float(v)); }
    case DType::kI32: { int32_t v; std::memcpy(&v, at + 4 * i, 4); return static_cast<double>(v); }
    case DType::kU8: return static_cast<double>(static_cast<unsigned char>(at[i]));
    case DType::kAny: break;
  }
  return 0;
}

// Float destinations only: integers are copied, never computed.
inline void store_element(void* p, DType t, int64_t i, double value) {
  char* at = static_cast<char*>(p);
  switch (t) {
    case DType::kF32: { const float v = static_cast<float>(value); std::memcpy(at + 4 * i, &v, 4); return; }
    case DType::kF64: std::memcpy(at + 8 * i, &value, 8); return;
    case DType::kBF16: { const uint16_t v = float_to_bf16(narrow_odd(value)); std::memcpy(at + 2 * i, &v, 2); return; }
    case DType::kF16: { const uint16_t v = float_to_f16(narrow_odd(value)); std::memcpy(at + 2 * i, &v, 2); return; }
    case DType::kI32: case DType::kU8: case DType::kAny: return;
  }
}

}  // namespace ecad
