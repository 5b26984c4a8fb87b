// The row kernels for avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl.
#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../core/dtype.h"
#include "row_kernels.h"
#include "views.h"

#define ECAD_SIMD_LEVEL 2
#define ECAD_SIMD_NAMESPACE simd_avx512
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"))), apply_to = function)
#else
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC bug 105593: its own _mm512_undefined_*
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
#endif

#include "simd.h"
#include "row_kernels_impl.h"
#include "attention_impl.h"
#include "isa_table.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace ecad {
const RowKernels& row_kernels_avx512() { return simd_avx512::kTable; }
}  // namespace ecad
#endif
