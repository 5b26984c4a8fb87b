// The two speeds of a device that everything else is a share of: products of bfloat16 matrices that never leave registers, and copies of memory.
#pragma once
#include "../runtime.h"

namespace ecad::cuda::probe {

struct Peaks {
  double wgmma_tflops = 0;  // 0: the device has none
  double mma_tflops = 0;    // mma.sync
  double copy_gb_per_s = 0;  // bytes read and bytes written
};

struct PeakSizes {
  uint32_t rounds;       // of a products kernel: a multiple of 16, at most 8192 for exact sums
  uint64_t copy_bytes;   // to copy
  int repeats;           // the best counts
};
constexpr PeakSizes kDevicePeaks = {4096, uint64_t{1} << 29, 8}, kSmallPeaks = {16, 1 << 16, 1};

// ECAD_INTERNAL: a sum or a copy came out wrong.
Status measure_peaks(const DeviceProperties&, Stream&, const PeakSizes&, Peaks* out);

}  // namespace ecad::cuda::probe
