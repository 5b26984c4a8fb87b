#include "attention_tiled.cuh"

namespace ecad::cuda {
namespace {

template <class C>
Status run(StreamHandle stream, int32_t batch, const AttentionParams& p) {
  const Dim3 grid{static_cast<uint32_t>((p.queries + C::kRows - 1) / C::kRows), static_cast<uint32_t>(p.heads), static_cast<uint32_t>(batch)};
  return launch<attention_tiled_kernel<C>>(stream, LaunchShape{grid, C::kThreads, C::kSmemBytes}, p);
}

}  // namespace

Status launch_attention_tiled(StreamHandle stream, int32_t batch, const AttentionParams& p) {
  return p.depth <= 128 ? run<AttentionTiledConfig<128>>(stream, batch, p) : run<AttentionTiledConfig<kMaxHeadDim>>(stream, batch, p);
}

}  // namespace ecad::cuda
