#include "group_norm.cuh"

namespace ecad::cuda {
namespace {

template <class C>
Status run(StreamHandle stream, uint32_t batch, const GroupNormParams& p) {
  const auto pieces = static_cast<uint32_t>(p.pieces), slices = static_cast<uint32_t>((p.vectors + p.columns - 1) / p.columns);
  ECAD_TRY((launch<group_norm_sums<C>>(stream, LaunchShape{{pieces, slices, batch}, C::kThreads, C::kSumsSmem}, p)));
  ECAD_TRY(launch<group_norm_combine>(stream, LaunchShape{{static_cast<uint32_t>(p.groups), batch}, kCombineThreads, kCombineSmem}, p));
  return launch<group_norm_normalize<C>>(stream, LaunchShape{{pieces, slices, batch}, C::kThreads}, p);
}

}  // namespace

Status launch_group_norm(StreamHandle stream, bool wide, int32_t batch, const GroupNormParams& p) {
  return wide ? run<GroupNormConfig<kVector>>(stream, static_cast<uint32_t>(batch), p) : run<GroupNormConfig<1>>(stream, static_cast<uint32_t>(batch), p);
}

}  // namespace ecad::cuda
