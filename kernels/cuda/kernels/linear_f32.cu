// The variants of linear_f32.cuh.
#include "linear_f32.cuh"
#include "linear_variants.h"

namespace ecad::cuda {
namespace {

template <bool Gated, bool WideX, class Y>
constexpr LinearVariant kVariants[] = {{64, 64, launch_linear_f32<LinearF32Config<Gated, WideX, Y>>}};

template <bool Gated, bool WideX>
LinearVariants pick(bool f32_y) {
  return f32_y ? variants_of(kVariants<Gated, WideX, float>) : variants_of(kVariants<Gated, WideX, ptx::bf16>);
}

}  // namespace

LinearVariants linear_f32_variants(bool gated, bool wide_x, bool f32_y) {
  if (gated) return wide_x ? pick<true, true>(f32_y) : pick<true, false>(f32_y);
  return wide_x ? pick<false, true>(f32_y) : pick<false, false>(f32_y);
}

}  // namespace ecad::cuda
