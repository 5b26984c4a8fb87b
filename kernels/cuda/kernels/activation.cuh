// Activations on registers.
#pragma once
#include "../../core/program.h"
#include "../ptx.cuh"

namespace ecad::cuda {

// v[i] = act(v[i]), act as kernels/ref/ref.h defines it. SiLU, quick GELU and GELU by tanh are all x sigmoid(x (a + b x^2)), because
// (1 + tanh z) / 2 = sigmoid(2 z): two approximate instructions, relative error about 1e-6.
// GELU by erf: erfc of Abramowitz and Stegun 7.1.26, absolute error 1.5e-7, on |x| so that the negative tail keeps its digits.
template <int N>
ECAD_DEVICE void activate(int32_t act, float (&v)[N]) {
  constexpr float kLog2e = 1.4426950408889634f;
  if (act == static_cast<int32_t>(Act::kNone)) return;
  if (act == static_cast<int32_t>(Act::kRelu)) {
    ECAD_UNROLL
    for (int i = 0; i < N; ++i) v[i] = v[i] < 0 ? 0 : v[i];
  } else if (act == static_cast<int32_t>(Act::kGeluErf)) {
    ECAD_UNROLL
    for (int i = 0; i < N; ++i) {
      const float z = (v[i] < 0 ? -v[i] : v[i]) * 0.7071067811865476f, t = ptx::rcp_approx(1 + 0.3275911f * z);
      const float poly = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
      const float tail = 0.5f * v[i] * poly * ptx::ex2_approx(-kLog2e * z * z);
      v[i] = v[i] < 0 ? tail : v[i] - tail;
    }
  } else {
    const bool tanh = act == static_cast<int32_t>(Act::kGeluTanh), quick = act == static_cast<int32_t>(Act::kQuickGelu);
    const float a = -kLog2e * (tanh ? 1.5957691216057308f : quick ? 1.702f : 1), b = -kLog2e * (tanh ? 0.07135481282723573f : 0);
    ECAD_UNROLL
    for (int i = 0; i < N; ++i) v[i] *= ptx::rcp_approx(1 + ptx::ex2_approx(v[i] * (a + b * v[i] * v[i])));
  }
}

}  // namespace ecad::cuda
