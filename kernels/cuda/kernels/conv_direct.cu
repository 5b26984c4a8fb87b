#include "conv_direct.cuh"

namespace ecad::cuda {

Status launch_conv_direct(StreamHandle stream, const ConvParams& p) {
  using C = ConvDirectConfig;
  const int64_t pixels = static_cast<int64_t>(p.batch) * p.out_height * p.out_width;
  const Dim3 grid{static_cast<uint32_t>((pixels + C::kTile - 1) / C::kTile), static_cast<uint32_t>((p.out_channels + C::kTile - 1) / C::kTile)};
  return launch<conv_direct_kernel>(stream, LaunchShape{grid, C::kThreads, C::kSmemBytes}, p);
}

}  // namespace ecad::cuda
