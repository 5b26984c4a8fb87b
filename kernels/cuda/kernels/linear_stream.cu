// The variants of linear_stream.cuh.
#include "linear_stream.cuh"
#include "linear_variants.h"

namespace ecad::cuda {
namespace {

template <int TilesM, int Groups, bool Gated, class Y>
constexpr LinearVariant variant() {
  return {16 * TilesM, 8 * Groups, launch_linear_stream<LinearStreamConfig<TilesM, Groups, Gated, Y>>};
}

template <class Y>
constexpr LinearVariant kPlain[] = {variant<1, 4, false, Y>(), variant<1, 2, false, Y>(), variant<2, 4, false, Y>(), variant<2, 2, false, Y>(), variant<4, 4, false, Y>()};
template <class Y>
constexpr LinearVariant kGated[] = {variant<1, 4, true, Y>(), variant<2, 4, true, Y>(), variant<4, 4, true, Y>()};
template <bool Gated, class Y>
constexpr LinearVariant kF32[] = {{8, 32, launch_linear_stream_f32<LinearStreamF32Config<Gated, Y>>}};

}  // namespace

LinearVariants linear_streams(const LinearKind& kind) {
  if (kind.f32) {
    if (kind.gated) return kind.f32_y ? variants_of(kF32<true, float>) : variants_of(kF32<true, ptx::bf16>);
    return kind.f32_y ? variants_of(kF32<false, float>) : variants_of(kF32<false, ptx::bf16>);
  }
  if (kind.gated) return kind.f32_y ? variants_of(kGated<float>) : variants_of(kGated<ptx::bf16>);
  return kind.f32_y ? variants_of(kPlain<float>) : variants_of(kPlain<ptx::bf16>);
}

}  // namespace ecad::cuda
