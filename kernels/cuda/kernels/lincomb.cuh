// Linear combination: guidance and every sampler step.
//
// Computes     y = sum_i c_i x_i, clamped to lo..hi if asked (NaN stays). A term whose c_i is 0 is not read: its address may be null.
// Inputs       x_i float32 or bfloat16, up to four dims with any strides; coefficients float64 [n] in device memory, those of the step that runs.
// Output       y float32 or bfloat16, same dims; may be one of the x_i.
// Accumulates  in float64, terms in order, as the reference does because its coefficients are float64; one rounding.
// Grid/block   256 threads, a thread one element, grid-stride.
// Expected     bytes = |y| + sum over c_i != 0 of |x_i| + 8 n per thread from L1; FLOPs = 2 n per element in float64. Latents are small: limited by the launch.
// Edge cases   any dims.
// Twin         kernels/ref/elementwise.cpp: ref_lincomb.
// Not here     more than kMaxLincombTerms terms; float16 and float64 operands.
#pragma once
#include "elements.cuh"
#include "lincomb.h"

namespace ecad::cuda {

ECAD_KERNEL ECAD_BOUNDS(kLincombThreads) lincomb_kernel(ECAD_PARAMS(LincombParams) p) {
  enter(p.head);
  const char* coefficients = resolve<const char>(p.head.frame, p.coefficients);
  char* y = resolve<char>(p.head.frame, p.y.ref);
  const auto offset = [](const LincombOperand& o, const uint32_t (&index)[4]) {
    return index[0] * o.strides[0] + index[1] * o.strides[1] + index[2] * o.strides[2] + index[3] * o.strides[3];
  };
  for (uint32_t i = ptx::block_x() * kLincombThreads + ptx::thread_id(); i < p.count; i += ptx::grid_x() * kLincombThreads) {
    uint32_t index[4], rest = i;
    ECAD_UNROLL
    for (int d = 3; d > 0; --d) {
      index[d] = rest % p.dims[d];
      rest /= p.dims[d];
    }
    index[0] = rest;
    double sum = 0;
    for (int t = 0; t < p.num_terms; ++t) {
      const auto c = ptx::ld_global<double>(coefficients + 8 * t);
      if (c == 0) continue;
      sum += c * static_cast<double>(load_one(resolve<const char>(p.head.frame, p.terms[t].ref) + offset(p.terms[t], index), p.terms[t].elem));
    }
    if (p.clamp) sum = sum < p.low ? p.low : sum > p.high ? p.high : sum;
    char* to = y + offset(p.y, index);
    if (p.y.elem == Elem::kF32) ptx::st_global(to, static_cast<float>(sum));
    else ptx::st_global(to, ptx::to_bf16(narrow_to_odd(sum)));
  }
}

}  // namespace ecad::cuda
