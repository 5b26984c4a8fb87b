// The tile of linear_mma.cuh for inputs whose rows may start anywhere.
#include "linear_mma.cuh"
#include "linear_variants.h"

namespace ecad::cuda {
namespace {

template <bool Gated, class Y>
constexpr LinearVariant kVariants[] = {{64, 64, launch_linear_mma<LinearMmaConfig<64, 64, 4, Gated, false, Y>>}};

}  // namespace

LinearVariants linear_mma_narrow_variants(bool gated, bool f32_y) {
  if (gated) return f32_y ? variants_of(kVariants<true, float>) : variants_of(kVariants<true, ptx::bf16>);
  return f32_y ? variants_of(kVariants<false, float>) : variants_of(kVariants<false, ptx::bf16>);
}

}  // namespace ecad::cuda
