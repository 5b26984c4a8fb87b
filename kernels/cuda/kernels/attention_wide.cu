#include "attention_wide.cuh"

namespace ecad::cuda {

Status launch_attention_wide(StreamHandle stream, int32_t batch, const AttentionParams& p) {
  using C = AttentionWideConfig;
  const Dim3 grid{static_cast<uint32_t>((p.queries + C::kQueries - 1) / C::kQueries), static_cast<uint32_t>(p.heads), static_cast<uint32_t>(batch)};
  return launch<attention_wide_kernel>(stream, LaunchShape{grid, C::kThreads, C::smem_bytes((p.depth + C::kSlice - 1) / C::kSlice)}, p);
}

}  // namespace ecad::cuda
