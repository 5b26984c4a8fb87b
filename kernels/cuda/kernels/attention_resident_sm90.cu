// The variants of attention_resident_sm90.cuh.
#include "attention_resident_sm90.cuh"

namespace ecad::cuda {
namespace {

template <int Depth, int Keys, int Tiles>
constexpr AttentionSm90Variant variant() {
  using Config = AttentionResidentConfig<Depth, Keys, Tiles>;
  return {Depth, Keys, Config::Consumers, Keys * Tiles, launch_attention_resident_sm90<Config>};
}

constexpr AttentionSm90Variant kVariants[] = {variant<72, 128, 1>(), variant<72, 160, 2>()};  // prompts of 120 tokens, and of 300

}  // namespace

AttentionSm90Variants attention_resident_sm90_variants() { return {kVariants, static_cast<int32_t>(sizeof kVariants / sizeof kVariants[0])}; }

}  // namespace ecad::cuda
