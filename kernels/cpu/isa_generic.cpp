// The row kernels for any processor.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../core/dtype.h"
#include "row_kernels.h"
#include "views.h"

#define ECAD_SIMD_LEVEL 0
#define ECAD_SIMD_NAMESPACE simd_generic

#include "simd.h"
#include "row_kernels_impl.h"
#include "attention_impl.h"
#include "isa_table.h"

namespace ecad {
const RowKernels& row_kernels_generic() { return simd_generic::kTable; }
}  // namespace ecad
