// Element by element over up to six dims: copy, convert, activate, add, permute, upsample, unpatchify.
//
// Computes: y[i] = act(a[i]) or a[i] + b[i] or a[i], where every operand has strides of its own over the dims of y (0: repeated).
//   The host turns each op into dims and strides (ops_map.cpp): an upsample repeats rows and columns by stride 0, a permute permutes strides.
// Inputs/outputs: float32 or bfloat16 each, or, for plain moves, elements of 2, 4 or 8 bytes. y's last stride is 1. y may be a itself.
// Accumulates in: float32, one rounding.
// Grid/block: 256 threads, a thread one run of kRun elements of the last dim (8 where all operands are wide, else 1), grid-stride over runs.
// Expected: bytes = |y| + |a| (+ |b|), of the elements read once per use: a repeated operand counts every time. FLOPs: 1 per element and
//   operation. Limited by HBM; a permute that moves the last dim reads 32 bytes for each element that neighbours do not share.
// Edge cases: any dims; 2^31 runs and more are refused by the host.
// Twin: kernels/ref/move.cpp (ref_copy, ref_permute, ref_unpatchify, ref_upsample), kernels/ref/elementwise.cpp (ref_add, ref_unary).
// Not supported: float16 and float64 where anything is computed or converted; single bytes that do not make wider runs.
#pragma once
#include "activation.cuh"
#include "elements.cuh"
#include "map.h"

namespace ecad::cuda {

template <MapOp kOp_, int kRun_>
struct MapConfig {
  static constexpr MapOp kOp = kOp_;
  static constexpr int kRun = kRun_;
  static constexpr int kThreads = kMapThreads;
};

namespace map {

ECAD_DEVICE const char* at(const char* base, const MapOperand& o, const uint32_t (&index)[kMapRank]) {
  ECAD_UNROLL
  for (int d = 0; d < kMapRank; ++d) base += static_cast<int64_t>(index[d]) * o.strides[d];
  return base;
}

// kRun elements at p, of which the last dim's stride may be anything when kRun is 1.
template <int kRun>
ECAD_DEVICE void load(const char* p, Elem t, float (&v)[kVector]) {
  if constexpr (kRun == kVector) load_vector(p, t, true, kVector, v);
  else v[0] = load_one(p, t);
}

}  // namespace map

template <class Config>
ECAD_KERNEL ECAD_BOUNDS(Config::kThreads) map_kernel(ECAD_PARAMS(MapParams) p) {
  constexpr int kRun = Config::kRun;
  enter(p.head);
  const char* a = resolve<const char>(p.head.frame, p.a.ref);
  const char* b = Config::kOp == MapOp::kAdd ? resolve<const char>(p.head.frame, p.b.ref) : nullptr;
  char* y = resolve<char>(p.head.frame, p.y.ref);
  for (uint32_t run = ptx::block_x() * Config::kThreads + ptx::thread_id(); run < p.runs; run += ptx::grid_x() * Config::kThreads) {
    uint32_t index[kMapRank], rest = run;
    ECAD_UNROLL
    for (int d = kMapRank - 1; d > 0; --d) {
      index[d] = rest % p.dims[d];
      rest /= p.dims[d];
    }
    index[0] = rest;
    const char* from = map::at(a, p.a, index);
    char* to = const_cast<char*>(map::at(y, p.y, index));
    if constexpr (Config::kOp == MapOp::kMove2) ptx::st_global(to, ptx::ld_global<uint16_t>(from));
    else if constexpr (Config::kOp == MapOp::kMove4) ptx::st_global(to, ptx::ld_global<uint32_t>(from));
    else if constexpr (Config::kOp == MapOp::kMove8) ptx::st_global(to, ptx::ld_global<uint64_t>(from));
    else if constexpr (Config::kOp == MapOp::kMove16) ptx::st_global(to, ptx::ld_global<ptx::u32x4>(from));
    else {
      float v[kVector] = {};
      map::load<kRun>(from, p.a.elem, v);
      if constexpr (Config::kOp == MapOp::kAdd) {
        float w[kVector] = {};
        map::load<kRun>(map::at(b, p.b, index), p.b.elem, w);
        ECAD_UNROLL
        for (int i = 0; i < kRun; ++i) v[i] += w[i];
      } else {
        activate(p.act, v);
      }
      if constexpr (kRun == kVector) store_vector(to, p.y.elem, true, kVector, v);
      else store_one(to, p.y.elem, v[0]);
    }
  }
}

}  // namespace ecad::cuda
