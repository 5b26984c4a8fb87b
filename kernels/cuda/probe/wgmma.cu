// Probes of wgmma's operand forms: every swizzle, both majors of a and b, a from registers, accumulation, waits, setmaxnreg.
#include "wgmma.cuh"

namespace ecad::cuda::probe {
namespace {

using ptx::f32;
using ptx::u32;

// d [64, N] = a b, twice: overwriting what was there, then adding.
template <int N, Swizzle swizzle, int trans_a, int trans_b>
ECAD_KERNEL from_shared(ECAD_PARAMS(ProbeParams) p) {
#if defined(ECAD_SM90A)
  const u32 smem = ptx::smem_base();
  using A = Tile<64, swizzle, trans_a != 0>;
  using B = Tile<N, swizzle, trans_b != 0>;
  A::fill(p, smem, 0);
  B::fill(p, smem + kOperandB, 1024);
  ptx::fence_proxy_async();
  ptx::block_sync();
  f32 acc[N / 2];
#pragma unroll
  for (int i = 0; i < N / 2; ++i) acc[i] = 1000.0f;
  ptx::wgmma_fence(acc);
  ptx::wgmma_ss<N, trans_a, trans_b>(acc, A::descriptor(smem), B::descriptor(smem + kOperandB), false);
  ptx::wgmma_commit();
  ptx::wgmma_ss<N, trans_a, trans_b>(acc, A::descriptor(smem), B::descriptor(smem + kOperandB), true);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>(acc);
  put_accumulators<N>(p, acc);
#endif
}

template <int N, Swizzle swizzle, int trans_b>
ECAD_KERNEL from_registers(ECAD_PARAMS(ProbeParams) p) {
#if defined(ECAD_SM90A)
  const u32 smem = ptx::smem_base();
  using B = Tile<N, swizzle, trans_b != 0>;
  B::fill(p, smem + kOperandB, 1024);
  ptx::fence_proxy_async();
  ptx::block_sync();
  u32 a[4];
#pragma unroll
  for (u32 i = 0; i < 4; ++i) a[i] = ptx::ld_global<u32>(static_cast<const u32*>(p.in) + 4 * ptx::thread_id() + i);
  f32 acc[N / 2];
#pragma unroll
  for (int i = 0; i < N / 2; ++i) acc[i] = f32(i);
  ptx::wgmma_fence(acc, a);
  ptx::wgmma_rs<N, trans_b>(acc, a, B::descriptor(smem + kOperandB), true);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>(acc);
  put_accumulators<N>(p, acc);
#endif
}

// Two groups open at once, the older one waited for alone; two warpgroups trade registers.
ECAD_KERNEL ECAD_BOUNDS(256, 1) groups_and_registers(ECAD_PARAMS(ProbeParams) p) {
#if defined(ECAD_SM90A)
  const u32 smem = ptx::smem_base();
  using A = Tile<64, Swizzle::k32, false>;
  using B = Tile<16, Swizzle::k32, false>;
  A::fill(p, smem, 0);
  B::fill(p, smem + kOperandB, 1024);
  ptx::fence_proxy_async();
  ptx::block_sync();
  if (ptx::warp_id() >= 4) {
    ptx::setmaxnreg_dec<40>();
    return;
  }
  ptx::setmaxnreg_inc<208>();
  f32 first[8], second[8];
#pragma unroll
  for (u32 i = 0; i < 8; ++i) first[i] = second[i] = 0;
  ptx::wgmma_fence(first, second);
  ptx::wgmma_ss<16>(first, A::descriptor(smem), B::descriptor(smem + kOperandB), true);
  ptx::wgmma_commit();
  ptx::wgmma_ss<16>(second, A::descriptor(smem), B::descriptor(smem + kOperandB), false);
  ptx::wgmma_commit();
  ptx::wgmma_wait<1>(first);
#pragma unroll
  for (u32 i = 0; i < 8; ++i) put(p, i * 128 + ptx::thread_id(), first[i]);
  ptx::wgmma_wait<0>(second);
#pragma unroll
  for (u32 i = 0; i < 8; ++i) put(p, 1024 + i * 128 + ptx::thread_id(), second[i]);
#endif
}

template <Swizzle swizzle, int trans_a, int trans_b>
Probe form(const char* name) {
  return exact<from_shared<64, swizzle, trans_a, trans_b>>(name, Input::kIntegers, 32 * 128, {{1}, 128, kWgmmaSmem}, true);
}
template <int N, Swizzle swizzle, int trans_b>
Probe registers(const char* name) {
  return exact<from_registers<N, swizzle, trans_b>>(name, Input::kIntegers, N / 2 * 128, {{1}, 128, kWgmmaSmem}, true);
}

}  // namespace

void add_wgmma_probes(std::vector<Probe>* all) {
  all->push_back(form<Swizzle::k128, 0, 0>("wgmma, swizzle 128, a k-major, b k-major"));
  all->push_back(form<Swizzle::k128, 1, 0>("wgmma, swizzle 128, a m-major, b k-major"));
  all->push_back(form<Swizzle::k128, 0, 1>("wgmma, swizzle 128, a k-major, b n-major"));
  all->push_back(form<Swizzle::k64, 0, 0>("wgmma, swizzle 64, a k-major, b k-major"));
  all->push_back(form<Swizzle::k64, 1, 1>("wgmma, swizzle 64, a m-major, b n-major"));
  all->push_back(form<Swizzle::k32, 0, 0>("wgmma, swizzle 32, a k-major, b k-major"));
  all->push_back(form<Swizzle::k32, 1, 1>("wgmma, swizzle 32, a m-major, b n-major"));
  all->push_back(form<Swizzle::kNone, 0, 0>("wgmma, no swizzle, a k-major, b k-major"));
  all->push_back(form<Swizzle::kNone, 1, 1>("wgmma, no swizzle, a m-major, b n-major"));
  all->push_back(registers<8, Swizzle::k32, 0>("wgmma n8, a from registers, b k-major"));
  all->push_back(registers<72, Swizzle::k128, 0>("wgmma n72, a from registers, b k-major"));
  all->push_back(registers<80, Swizzle::k32, 1>("wgmma n80, a from registers, b n-major, swizzle 32"));
  all->push_back(registers<128, Swizzle::k128, 1>("wgmma n128, a from registers, b n-major, swizzle 128"));
  all->push_back(registers<256, Swizzle::k128, 1>("wgmma n256, a from registers, b n-major, swizzle 128"));
  all->push_back(exact<groups_and_registers>("wgmma groups, setmaxnreg", Input::kIntegers, 2048, {{1}, 256, kWgmmaSmem}, true));
  Probe rounding = exact<from_shared<64, Swizzle::k128, 0, 0>>("wgmma, random", Input::kRandom, 32 * 128, {{1}, 128, kWgmmaSmem}, true);
  rounding.absolute = 0x1p-13;  // two sums of 16 terms below 16, each perhaps truncated at 2^-23 of the largest
  all->push_back(rounding);
}

}  // namespace ecad::cuda::probe
