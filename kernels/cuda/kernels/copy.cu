#include "copy.cuh"

namespace ecad::cuda {
namespace {

template <class In, class Out, int64_t InBytes = sizeof(In), int64_t OutBytes = sizeof(Out)>
Status run(StreamHandle stream, const CopyParams& p) {
  const auto blocks = static_cast<uint32_t>((p.count + kCopyThreads - 1) / kCopyThreads);
  return launch<copy_kernel<CopyConfig<In, Out, InBytes, OutBytes>>>(stream, LaunchShape{{blocks}, kCopyThreads}, p);
}

template <class Element>
Status move(StreamHandle stream, bool vector, const CopyParams& p) {
  return vector ? run<ptx::u32x4, ptx::u32x4, sizeof(Element), sizeof(Element)>(stream, p) : run<Element, Element>(stream, p);
}

}  // namespace

Status launch_copy(StreamHandle stream, CopyKind kind, bool vector, const CopyParams& p) {
  switch (kind) {
    case CopyKind::kMove2: return move<ptx::u16>(stream, vector, p);
    case CopyKind::kMove4: return move<ptx::u32>(stream, vector, p);
    case CopyKind::kMove8: return move<ptx::u64>(stream, vector, p);
    case CopyKind::kNarrow: return run<ptx::f32, ptx::bf16>(stream, p);
    case CopyKind::kWiden: return run<ptx::bf16, ptx::f32>(stream, p);
  }
  return Status(ECAD_INTERNAL, "copy: kind");
}

}  // namespace ecad::cuda
