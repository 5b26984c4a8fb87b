#include "qk_norm_rope.cuh"

namespace ecad::cuda {
namespace {

template <class Config>
Status run(StreamHandle stream, int32_t batch, int32_t tokens, const QkNormRopeParams& p) {
  return launch<qk_norm_rope_kernel<Config>>(stream, LaunchShape{{static_cast<uint32_t>(tokens), static_cast<uint32_t>(batch)}, Config::kThreads}, p);
}

using Small = QkNormRopeConfig<1>;
using Large = QkNormRopeConfig<kMaxRotatedHeadDim / Small::kMaxDepth>;

}  // namespace

Status launch_qk_norm_rope(StreamHandle stream, int32_t batch, int32_t tokens, const QkNormRopeParams& p) {
  return p.depth <= Small::kMaxDepth ? run<Small>(stream, batch, tokens, p) : run<Large>(stream, batch, tokens, p);
}

}  // namespace ecad::cuda
