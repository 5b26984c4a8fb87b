// The tiles of linear_mma.cuh for gated linear.
#include "linear_mma.cuh"
#include "linear_variants.h"

namespace ecad::cuda {
namespace {

template <int TileM, int TileN, int Stages, class Y>
constexpr LinearVariant variant() {
  return {TileM, TileN, launch_linear_mma<LinearMmaConfig<TileM, TileN, Stages, true, true, Y>>};
}

template <class Y>
constexpr LinearVariant kVariants[] = {variant<128, 128, 3, Y>(), variant<64, 64, 4, Y>()};

}  // namespace

LinearVariants linear_mma_gated_variants(bool f32_y) { return f32_y ? variants_of(kVariants<float>) : variants_of(kVariants<ptx::bf16>); }

}  // namespace ecad::cuda
