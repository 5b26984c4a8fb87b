// The tiles of linear_sm90.cuh for linear with heads of queries and keys among its columns: those whose width is a number of heads of 64 and of 128.
#include "linear_sm90.cuh"

namespace ecad::cuda {
namespace {

template <int TileM, int TileN, int Consumers, int Stages, int HeadDim>
constexpr LinearSm90Variant variant() {
  return {TileM, TileN, launch_linear_sm90<LinearSm90Config<TileM, TileN, Consumers, Stages, false, ptx::bf16, HeadDim>>};
}

template <int HeadDim>
constexpr LinearSm90Variant kVariants[] = {variant<128, 256, 2, 4, HeadDim>(), variant<128, 128, 2, 6, HeadDim>()};

}  // namespace

LinearSm90Variants linear_sm90_heads(int64_t head_dim) { return head_dim == 64 ? sm90_variants_of(kVariants<64>) : head_dim == 128 ? sm90_variants_of(kVariants<128>) : LinearSm90Variants{nullptr, 0}; }

}  // namespace ecad::cuda
