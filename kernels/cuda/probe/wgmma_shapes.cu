// Probes of every shape of wgmma: m64nNk16 for N = 8, 16, ..., 256, both operands k-major with a swizzle of 128 bytes.
#include <string>
#include <utility>

#include "wgmma.cuh"

namespace ecad::cuda::probe {
namespace {

template <int N>
ECAD_KERNEL shape(ECAD_PARAMS(ProbeParams) p) {
#if defined(ECAD_SM90A)
  const ptx::u32 smem = ptx::smem_base();
  using A = Tile<64, Swizzle::k128, false>;
  using B = Tile<N, Swizzle::k128, false>;
  A::fill(p, smem, 0);
  B::fill(p, smem + kOperandB, 1024);
  ptx::fence_proxy_async();
  ptx::block_sync();
  float acc[N / 2];
#pragma unroll
  for (int i = 0; i < N / 2; ++i) acc[i] = float(i % 7);
  ptx::wgmma_fence(acc);
  ptx::wgmma_ss<N>(acc, A::descriptor(smem), B::descriptor(smem + kOperandB), true);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>(acc);
  put_accumulators<N>(p, acc);
#endif
}

template <int N>
const char* name_of() {
  static const std::string name = "wgmma m64n" + std::to_string(N) + "k16";
  return name.c_str();
}

template <int... J>
void add_all(std::vector<Probe>* all, std::integer_sequence<int, J...>) {
  (all->push_back(exact<shape<8 * J + 8>>(name_of<8 * J + 8>(), Input::kIntegers, (4 * J + 4) * 128, {{1}, 128, kWgmmaSmem}, true)), ...);
}

}  // namespace

void add_wgmma_shape_probes(std::vector<Probe>* all) { add_all(all, std::make_integer_sequence<int, 32>()); }

std::vector<Probe> all_probes() {
  std::vector<Probe> all;
  add_thread_probes(&all);
  add_memory_probes(&all);
  add_arithmetic_probes(&all);
  add_matrix_probes(&all);
  add_mbarrier_probes(&all);
  add_bulk_probes(&all);
  add_wgmma_probes(&all);
  add_wgmma_shape_probes(&all);
  return all;
}

}  // namespace ecad::cuda::probe
