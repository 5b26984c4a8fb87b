// The tiles of linear_sm90.cuh for gated linear.
#include "linear_sm90.cuh"

namespace ecad::cuda {
namespace {

template <int TileM, int TileN, int Consumers, int Stages, class Y>
constexpr LinearSm90Variant variant() {
  return {TileM, TileN, launch_linear_sm90<LinearSm90Config<TileM, TileN, Consumers, Stages, true, Y>>};
}

template <class Y>
constexpr LinearSm90Variant kVariants[] = {variant<128, 256, 2, 4, Y>(), variant<128, 128, 2, 6, Y>()};

}  // namespace

LinearSm90Variants linear_sm90_gated(bool f32_y) { return f32_y ? sm90_variants_of(kVariants<float>) : sm90_variants_of(kVariants<ptx::bf16>); }

}  // namespace ecad::cuda
