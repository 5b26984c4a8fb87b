// Elements of operands as float32, eight at a time: what every row kernel loads and stores with.
//
// A thread owns kVector adjacent elements. An operand is wide when its view allows 16-byte accesses everywhere: its rows start at multiples of
// 16 bytes and hold whole vectors. The host decides that once per op (views.h); other operands go element by element.
#pragma once
#include "../frame.cuh"
#include "../ptx.cuh"
#include "views.h"

namespace ecad::cuda {

constexpr float kInfinity = __builtin_huge_valf();

ECAD_DEVICE int elem_bytes(Elem t) { return t == Elem::kF32 ? 4 : 2; }

ECAD_DEVICE void unpack_bf16(const ptx::u32x4& raw, float (&v)[kVector]) {
  v[0] = ptx::low_f32(raw.x);
  v[1] = ptx::high_f32(raw.x);
  v[2] = ptx::low_f32(raw.y);
  v[3] = ptx::high_f32(raw.y);
  v[4] = ptx::low_f32(raw.z);
  v[5] = ptx::high_f32(raw.z);
  v[6] = ptx::low_f32(raw.w);
  v[7] = ptx::high_f32(raw.w);
}

ECAD_DEVICE ptx::u32x4 pack_bf16(const float (&v)[kVector]) {
  return {ptx::pack_bf16(v[0], v[1]), ptx::pack_bf16(v[2], v[3]), ptx::pack_bf16(v[4], v[5]), ptx::pack_bf16(v[6], v[7])};
}

ECAD_DEVICE float load_one(const char* p, Elem t) {
  if (t == Elem::kF32) return ptx::ld_global<float>(p);
  return ptx::to_f32(ptx::ld_global<ptx::bf16>(p));
}

ECAD_DEVICE void store_one(char* p, Elem t, float v) {
  if (t == Elem::kF32) ptx::st_global(p, v);
  else ptx::st_global(p, ptx::to_bf16(v));
}

// float32 nearest to d, rounded to odd: rounding it again, to bfloat16, gives what one rounding would (core/dtype.h: narrow_odd).
ECAD_DEVICE float narrow_to_odd(double d) {
  const float f = static_cast<float>(d);
  if (d != d || static_cast<double>(f) == d) return f;
  const double back = static_cast<double>(f);
  const bool away = (back < 0 ? -back : back) > (d < 0 ? -d : d);
  return ptx::u32_as_float((ptx::float_as_u32(f) - (away ? 1u : 0u)) | 1u);
}

// v[i] = element i at p for i < n, 0 beyond. Wide: n is kVector.
ECAD_DEVICE void load_vector(const char* p, Elem t, bool wide, int n, float (&v)[kVector]) {
  if (!wide) {
    ECAD_UNROLL
    for (int i = 0; i < kVector; ++i) v[i] = i < n ? load_one(p + i * elem_bytes(t), t) : 0.f;
  } else if (t == Elem::kBF16) {
    unpack_bf16(ptx::ld_global<ptx::u32x4>(p), v);
  } else {
    const auto a = ptx::ld_global<ptx::f32x4>(p), b = ptx::ld_global<ptx::f32x4>(p + 16);
    v[0] = a.x;
    v[1] = a.y;
    v[2] = a.z;
    v[3] = a.w;
    v[4] = b.x;
    v[5] = b.y;
    v[6] = b.z;
    v[7] = b.w;
  }
}

// Element i at p = v[i] for i < n, rounded to nearest even.
ECAD_DEVICE void store_vector(char* p, Elem t, bool wide, int n, const float (&v)[kVector]) {
  if (!wide) {
    ECAD_UNROLL
    for (int i = 0; i < kVector; ++i)
      if (i < n) store_one(p + i * elem_bytes(t), t, v[i]);
  } else if (t == Elem::kBF16) {
    ptx::st_global(p, pack_bf16(v));
  } else {
    ptx::st_global(p, ptx::f32x4{v[0], v[1], v[2], v[3]});
    ptx::st_global(p + 16, ptx::f32x4{v[4], v[5], v[6], v[7]});
  }
}

}  // namespace ecad::cuda
