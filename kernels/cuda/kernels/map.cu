#include "map.cuh"

namespace ecad::cuda {
namespace {

template <MapOp kOp, int kRun>
Status run(StreamHandle stream, const MapParams& p) {
  constexpr uint32_t kMost = 1u << 16;  // blocks; larger maps go round
  const uint32_t blocks = (p.runs + kMapThreads - 1) / kMapThreads;
  return launch<map_kernel<MapConfig<kOp, kRun>>>(stream, LaunchShape{{blocks < kMost ? blocks : kMost}, kMapThreads}, p);
}

}  // namespace

Status launch_map(StreamHandle stream, MapOp op, bool wide, const MapParams& p) {
  switch (op) {
    case MapOp::kMove2: return run<MapOp::kMove2, 1>(stream, p);
    case MapOp::kMove4: return run<MapOp::kMove4, 1>(stream, p);
    case MapOp::kMove8: return run<MapOp::kMove8, 1>(stream, p);
    case MapOp::kMove16: return run<MapOp::kMove16, 1>(stream, p);
    case MapOp::kUnary: return wide ? run<MapOp::kUnary, kVector>(stream, p) : run<MapOp::kUnary, 1>(stream, p);
    case MapOp::kAdd: return wide ? run<MapOp::kAdd, kVector>(stream, p) : run<MapOp::kAdd, 1>(stream, p);
  }
  return Status(ECAD_INTERNAL, "map: op");
}

}  // namespace ecad::cuda
