#include "embed.cuh"

namespace ecad::cuda {
namespace {
uint32_t blocks(int32_t count, int32_t each) { return static_cast<uint32_t>((count + each - 1) / each); }
}  // namespace

Status launch_embedding(StreamHandle stream, const EmbeddingParams& p) {
  return launch<embedding_kernel>(stream, LaunchShape{{p.dims[0] * p.dims[1] * p.dims[2]}, kEmbedThreads}, p);
}

Status launch_timestep(StreamHandle stream, const TimestepParams& p) {
  return launch<timestep_kernel>(stream, LaunchShape{{blocks(p.rows * p.half, kEmbedThreads)}, kEmbedThreads}, p);
}

Status launch_patch_embed(StreamHandle stream, const PatchParams& p) {
  using C = PatchConfig;
  const Dim3 grid{blocks(p.cols, C::kThreads * C::kColumns), blocks(p.tokens, C::kTokens), static_cast<uint32_t>(p.batch)};
  return launch<patch_embed_kernel>(stream, LaunchShape{grid, C::kThreads, C::kSmemBytes}, p);
}

}  // namespace ecad::cuda
