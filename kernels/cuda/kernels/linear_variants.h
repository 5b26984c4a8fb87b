// The tables of kernels that linear.cpp chooses from, one function per file of instantiations.
#pragma once
#include "linear.h"

namespace ecad::cuda {

template <int N>
LinearVariants variants_of(const LinearVariant (&table)[N]) {
  return {table, N};
}

LinearVariants linear_mma_variants(bool f32_y);
LinearVariants linear_mma_gated_variants(bool f32_y);
LinearVariants linear_mma_narrow_variants(bool gated, bool f32_y);
LinearVariants linear_f32_variants(bool gated, bool wide_x, bool f32_y);

}  // namespace ecad::cuda
