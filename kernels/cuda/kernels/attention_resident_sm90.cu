// The variants of attention_resident_sm90.cuh.
#include "attention_resident_sm90.cuh"

namespace ecad::cuda {
namespace {

template <int Depth, int Keys, int Tiles, int Stages = 3>
constexpr AttentionSm90Variant variant() {
  using Config = AttentionResidentConfig<Depth, Keys, Tiles, Stages>;
  return {Depth, Keys, Config::Consumers, Keys * Tiles, launch_attention_resident_sm90<Config>};
}

// Prompts of 120 tokens, and of 300; of head dim 128 shared memory holds 256 keys beside two tiles of queries. Of one head dim the smallest first.
constexpr AttentionSm90Variant kVariants[] = {variant<72, 128, 1>(), variant<72, 160, 2>(), variant<64, 128, 1>(), variant<64, 160, 2>(), variant<128, 128, 1>(), variant<128, 128, 2, 2>()};

}  // namespace

AttentionSm90Variants attention_resident_sm90_variants() { return {kVariants, static_cast<int32_t>(sizeof kVariants / sizeof kVariants[0])}; }

}  // namespace ecad::cuda
