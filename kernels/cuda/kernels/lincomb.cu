#include "lincomb.cuh"

namespace ecad::cuda {

Status launch_lincomb(StreamHandle stream, const LincombParams& p) {
  constexpr uint32_t kMost = 1u << 14;
  const uint32_t blocks = (p.count + kLincombThreads - 1) / kLincombThreads;
  return launch<lincomb_kernel>(stream, LaunchShape{{blocks < kMost ? blocks : kMost}, kLincombThreads}, p);
}

}  // namespace ecad::cuda
