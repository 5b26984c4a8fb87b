// The tiles of linear_mma.cuh for linear.
#include "linear_mma.cuh"
#include "linear_variants.h"

namespace ecad::cuda {
namespace {

template <int TileM, int TileN, int Stages, class Y>
constexpr LinearVariant variant() {
  return {TileM, TileN, launch_linear_mma<LinearMmaConfig<TileM, TileN, Stages, false, true, Y>>};
}

template <class Y>
constexpr LinearVariant kVariants[] = {variant<128, 128, 3, Y>(), variant<128, 96, 3, Y>(), variant<64, 96, 4, Y>(), variant<64, 64, 4, Y>()};

}  // namespace

LinearVariants linear_mma_variants(bool f32_y) { return f32_y ? variants_of(kVariants<float>) : variants_of(kVariants<ptx::bf16>); }

}  // namespace ecad::cuda
