// Probes of ldmatrix, stmatrix and mma: layouts by numbered elements, sums by whole numbers, and rounding by random data.
#include "gemm_sm80.cuh"
#include "probe.cuh"

namespace ecad::cuda::probe {
namespace {

using ptx::f32;
using ptx::u32;

template <int N, bool Transposed>
ECAD_KERNEL load_matrices(ECAD_PARAMS(ProbeParams) p) {  // rows in an order of their own, so that each lane's address counts
  const u32 smem = ptx::smem_base(), lane = ptx::lane_id();
  stage(p, smem, 32);
  ptx::block_sync();
  u32 r[N];
  ptx::ldmatrix<N, Transposed>(r, smem + 16 * ((lane * 5 + 3) % 32));
#pragma unroll
  for (u32 i = 0; i < N; ++i) put(p, lane * N + i, r[i]);
}

template <int N, bool Transposed>
ECAD_KERNEL store_matrices(ECAD_PARAMS(ProbeParams) p) {
#if defined(ECAD_SM90A)
  const u32 smem = ptx::smem_base(), lane = ptx::lane_id();
  u32 r[N];
#pragma unroll
  for (u32 i = 0; i < N; ++i) r[i] = 2 * (lane * N + i) | (2 * (lane * N + i) + 1) << 16;
  ptx::stmatrix<N, Transposed>(smem + 16 * ((lane * 5 + 3) % (8 * N)), r);
  ptx::block_sync();
  dump(p, smem, 32 * N);
#endif
}

// 16 x 8 x k from fragments read in order: values j of lane i at in[i * count + j].
ECAD_KERNEL multiply_k16(ECAD_PARAMS(ProbeParams) p) {
  const u32 lane = ptx::lane_id();
  const u32* in = static_cast<const u32*>(p.in);
  u32 a[4];
  f32 d[4];
#pragma unroll
  for (u32 i = 0; i < 4; ++i) a[i] = ptx::ld_global<u32>(in + 4 * lane + i);
#pragma unroll
  for (u32 i = 0; i < 4; ++i) d[i] = ptx::low_f32(ptx::ld_global<u32>(in + 192 + 4 * lane + i));
  ptx::mma_m16n8k16(d, a, ptx::ld_global<u32>(in + 128 + 2 * lane), ptx::ld_global<u32>(in + 129 + 2 * lane));
#pragma unroll
  for (u32 i = 0; i < 4; ++i) put(p, 4 * lane + i, d[i]);
}

ECAD_KERNEL multiply_k8(ECAD_PARAMS(ProbeParams) p) {
  const u32 lane = ptx::lane_id();
  const u32* in = static_cast<const u32*>(p.in);
  f32 d[4];
#pragma unroll
  for (u32 i = 0; i < 4; ++i) d[i] = ptx::low_f32(ptx::ld_global<u32>(in + 192 + 4 * lane + i));
  ptx::mma_m16n8k8(d, ptx::ld_global<u32>(in + 2 * lane), ptx::ld_global<u32>(in + 1 + 2 * lane), ptx::ld_global<u32>(in + 128 + lane));
#pragma unroll
  for (u32 i = 0; i < 4; ++i) put(p, 4 * lane + i, d[i]);
}

// The small product of gemm_sm80.cuh: x is in[0 .. 65*72), w follows.
Status product(StreamHandle stream, const LaunchShape& shape, const ProbeParams& p) {
  const GemmParams g = {p.in, static_cast<const char*>(p.in) + 2 * 65 * 72, p.out, 65, 66, 72};
  return launch<gemm_sm80<Defect::kNone>>(stream, shape, g);
}

}  // namespace

void add_matrix_probes(std::vector<Probe>* all) {
  const LaunchShape warp{{1}, 32, 1024};
  all->push_back(exact<load_matrices<1, false>>("ldmatrix.x1", Input::kCounting, 32, warp));
  all->push_back(exact<load_matrices<2, false>>("ldmatrix.x2", Input::kCounting, 64, warp));
  all->push_back(exact<load_matrices<4, false>>("ldmatrix.x4", Input::kCounting, 128, warp));
  all->push_back(exact<load_matrices<1, true>>("ldmatrix.x1.trans", Input::kCounting, 32, warp));
  all->push_back(exact<load_matrices<2, true>>("ldmatrix.x2.trans", Input::kCounting, 64, warp));
  all->push_back(exact<load_matrices<4, true>>("ldmatrix.x4.trans", Input::kCounting, 128, warp));
  all->push_back(exact<store_matrices<1, false>>("stmatrix.x1", Input::kCounting, 32, warp, true));
  all->push_back(exact<store_matrices<2, false>>("stmatrix.x2", Input::kCounting, 64, warp, true));
  all->push_back(exact<store_matrices<4, false>>("stmatrix.x4", Input::kCounting, 128, warp, true));
  all->push_back(exact<store_matrices<1, true>>("stmatrix.x1.trans", Input::kCounting, 32, warp, true));
  all->push_back(exact<store_matrices<2, true>>("stmatrix.x2.trans", Input::kCounting, 64, warp, true));
  all->push_back(exact<store_matrices<4, true>>("stmatrix.x4.trans", Input::kCounting, 128, warp, true));
  all->push_back(exact<multiply_k16>("mma.m16n8k16", Input::kIntegers, 128, warp));
  all->push_back(exact<multiply_k8>("mma.m16n8k8", Input::kIntegers, 128, warp));
  // Sums of 17 and 9 terms below 16, each perhaps truncated at 2^-23 of the largest.
  Probe rounding = exact<multiply_k16>("mma.m16n8k16, random", Input::kRandom, 128, warp);
  rounding.absolute = 0x1p-14;
  all->push_back(rounding);
  rounding = exact<multiply_k8>("mma.m16n8k8, random", Input::kRandom, 128, warp);
  rounding.absolute = 0x1p-14;
  all->push_back(rounding);
  all->push_back({"product on mma.sync", Input::kIntegers, 65 * 66, {{2, 2}, GemmSm80::kThreads, GemmSm80::kSmem}, false, 0, 0, product, nullptr, false});
}

}  // namespace ecad::cuda::probe
