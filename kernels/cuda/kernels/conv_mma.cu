#include "conv_mma.cuh"

namespace ecad::cuda {
namespace {

template <class C>
Status run(StreamHandle stream, const ConvParams& p) {
  const int64_t pixels = static_cast<int64_t>(p.batch) * p.out_height * p.out_width;
  const Dim3 grid{static_cast<uint32_t>((pixels + C::kTileM - 1) / C::kTileM), static_cast<uint32_t>((p.out_channels + C::kTileN - 1) / C::kTileN)};
  return launch<conv_mma_kernel<C>>(stream, LaunchShape{grid, C::kThreads, C::kSmemBytes}, p);
}

}  // namespace

Status launch_conv_mma(StreamHandle stream, const ConvParams& p) {
  return p.out_channels > 64 ? run<ConvMmaConfig<128>>(stream, p) : run<ConvMmaConfig<64>>(stream, p);
}

}  // namespace ecad::cuda
