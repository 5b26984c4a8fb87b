// The tiles of linear_sm90.cuh for linear. 144 and 192 are there for widths of 1152 and 3072, which 128 and 256 cut into waves that do not fill 132
// multiprocessors; 64 x 96 for few rows.
#include "linear_sm90.cuh"

namespace ecad::cuda {
namespace {

template <int TileM, int TileN, int Consumers, int Stages, class Y>
constexpr LinearSm90Variant variant() {
  return {TileM, TileN, launch_linear_sm90<LinearSm90Config<TileM, TileN, Consumers, Stages, false, Y>>};
}

template <class Y>
constexpr LinearSm90Variant kVariants[] = {variant<128, 256, 2, 4, Y>(), variant<256, 144, 2, 4, Y>(), variant<192, 192, 3, 4, Y>(), variant<128, 192, 2, 5, Y>(),
                                           variant<128, 144, 2, 5, Y>(), variant<128, 128, 2, 6, Y>(), variant<128, 96, 2, 6, Y>(), variant<64, 96, 1, 6, Y>()};

}  // namespace

LinearSm90Variants linear_sm90_plain(bool f32_y) { return f32_y ? sm90_variants_of(kVariants<float>) : sm90_variants_of(kVariants<ptx::bf16>); }

}  // namespace ecad::cuda
