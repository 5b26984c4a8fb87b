// The tiles of linear_mma.cuh for linear with heads of queries and keys among its columns.
#include "linear_mma.cuh"
#include "linear_variants.h"

namespace ecad::cuda {
namespace {

template <int TileM, int TileN, int Stages, int HeadDim>
constexpr LinearVariant variant() {
  return {TileM, TileN, launch_linear_mma<LinearMmaConfig<TileM, TileN, Stages, false, true, ptx::bf16, HeadDim>>};
}

template <int HeadDim>
constexpr LinearVariant kVariants[] = {variant<128, 128, 3, HeadDim>(), variant<64, 128, 4, HeadDim>()};

}  // namespace

LinearVariants linear_mma_heads(int64_t head_dim) { return head_dim == 64 ? variants_of(kVariants<64>) : head_dim == 128 ? variants_of(kVariants<128>) : LinearVariants{nullptr, 0}; }

}  // namespace ecad::cuda
