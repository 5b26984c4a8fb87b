// Last part of isa_*.cpp: the table of this instruction set.
#pragma once

namespace ecad {
namespace ECAD_SIMD_NAMESPACE {

constexpr RowKernels kTable = {convert, unary, add, glu, chain, norm_rope, channel_sums, normalize, ECAD_SIMD_LEVEL >= 3,
                               attention_packed_bytes, attention_pack, attention, kTileRows, attention_scratch};

}  // namespace ECAD_SIMD_NAMESPACE
}  // namespace ecad
