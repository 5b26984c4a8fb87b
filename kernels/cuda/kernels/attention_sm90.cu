// The variants of attention_sm90.cuh.
#include "attention_sm90.cuh"

namespace ecad::cuda {
namespace {

template <int Depth, int Keys, int Consumers, int Stages>
constexpr AttentionSm90Variant variant() {
  return {Depth, Keys, Consumers, 0, launch_attention_sm90<AttentionSm90Config<Depth, Keys, Consumers, Stages>>};
}

constexpr AttentionSm90Variant kVariants[] = {variant<72, 160, 2, 3>(), variant<72, 128, 2, 3>(), variant<72, 160, 1, 3>(), variant<72, 128, 1, 3>(),
                                              variant<64, 128, 2, 3>(), variant<64, 128, 1, 3>(), variant<128, 128, 2, 2>(), variant<128, 128, 1, 2>()};

}  // namespace

AttentionSm90Variants attention_sm90_variants() { return {kVariants, static_cast<int32_t>(sizeof kVariants / sizeof kVariants[0])}; }

}  // namespace ecad::cuda
