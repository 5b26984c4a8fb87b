#include "attention_mma.cuh"

namespace ecad::cuda {
namespace {

template <class C>
Status run(StreamHandle stream, int32_t batch, const AttentionParams& p) {
  const Dim3 grid{static_cast<uint32_t>((p.queries + C::kQueries - 1) / C::kQueries), static_cast<uint32_t>(p.heads), static_cast<uint32_t>(batch)};
  return launch<attention_mma<C>>(stream, LaunchShape{grid, C::kThreads, C::kSmemBytes}, p);
}

// Two tiles of 16 queries a warp halve the reads of keys and values from shared memory; they need enough blocks, and registers.
template <int kDepth>
Status run_depth(StreamHandle stream, bool large, int32_t batch, const AttentionParams& p) {
  if (p.bias.present) return run<AttentionMmaConfig<kDepth, 1, true>>(stream, batch, p);
  if constexpr (kDepth <= 72) {
    if (large) return run<AttentionMmaConfig<kDepth, 2, false>>(stream, batch, p);
  }
  return run<AttentionMmaConfig<kDepth, 1, false>>(stream, batch, p);
}

}  // namespace

Status launch_attention_mma(StreamHandle stream, bool large, int32_t batch, const AttentionParams& p) {
  if (p.depth <= 32) return run_depth<32>(stream, large, batch, p);
  if (p.depth <= 64) return run_depth<64>(stream, large, batch, p);
  if (p.depth <= 72) return run_depth<72>(stream, large, batch, p);
  return run_depth<128>(stream, large, batch, p);
}

}  // namespace ecad::cuda
