// Probes of copies with tensor maps: where each element of a box comes to lie, with every swizzle, in every rank, and what happens at the edges.
#include "../runtime.h"
#include "gemm_sm90.cuh"
#include "probe.cuh"

namespace ecad::cuda::probe {
namespace {

using ptx::i32;
using ptx::u32;
using ptx::u64;

constexpr u32 kBar = 49152, kSmem = kBar + 64;

// ---- tensors: rank r, extents below, in `in` or `spare` ------------------------------------------------------------------------

constexpr uint64_t kDims[5] = {40, 7, 5, 4, 3};  // bfloat16; rows of 96 bytes
constexpr uint32_t kBox[5] = {16, 4, 3, 2, 2};

template <u32 rank, bool store>
TensorMapDesc map_of_rank(const void* in, const void* spare) {
  TensorMapDesc d;
  d.rank = rank;
  d.base = store ? spare : in;
  uint64_t stride = 96;
  for (u32 i = 0; i < rank; ++i) {
    d.dims[i] = kDims[i];
    d.box[i] = kBox[i];
    if (i + 1 < rank) d.strides[i] = stride, stride *= kDims[i + 1] + 1;
  }
  return d;
}

template <u32 rank>
constexpr u32 kBoxBytes = 2 * kBox[0] * (rank > 1 ? kBox[1] : 1) * (rank > 2 ? kBox[2] : 1) * (rank > 3 ? kBox[3] : 1) * (rank > 4 ? kBox[4] : 1);

// 128 bytes of the swizzle's span in a row, 24 rows; from a column before the tensor and past its last row.
template <Swizzle swizzle, u32 span>
TensorMapDesc map_of_swizzle(const void* in, const void*) {
  TensorMapDesc d;
  d.base = in;
  d.dims[0] = 200, d.dims[1] = 30;
  d.strides[0] = 416;
  d.box[0] = span / 2, d.box[1] = 24;
  d.swizzle = swizzle;
  return d;
}

// Float elements.
TensorMapDesc map_of_floats(const void* in, const void*) {
  TensorMapDesc d;
  d.type = MapType::kF32;
  d.base = in;
  d.dims[0] = 50, d.dims[1] = 20;
  d.strides[0] = 208;
  d.box[0] = 8, d.box[1] = 16;
  return d;
}

#if defined(ECAD_SM90A)
// One thread starts `copy`, which must deliver the bytes; all wait, and show them.
template <class F>
ECAD_DEVICE void load_and_dump(const ProbeParams& p, u32 bytes, F copy) {
  const u32 smem = ptx::smem_base(), bar = smem + kBar;
  if (ptx::thread_id() == 0) {
    ptx::mbarrier_init(bar, 1);
    ptx::fence_mbarrier_init();
  }
  ptx::block_sync();
  if (ptx::thread_id() == 0) {
    ptx::mbarrier_arrive_expect(bar, bytes);
    copy(smem, bar);
  }
  ptx::mbarrier_wait(bar, 0);
  dump(p, smem, bytes / 4);
}
template <u32 rank>
ECAD_DEVICE void load_rank(const ProbeParams& p, u32 smem, u32 bar) {
  if constexpr (rank == 1) ptx::tma_load(smem, &p.map, bar, -3);
  if constexpr (rank == 2) ptx::tma_load(smem, &p.map, bar, 30, 5);
  if constexpr (rank == 3) ptx::tma_load(smem, &p.map, bar, 2, -1, 1);
  if constexpr (rank == 4) ptx::tma_load(smem, &p.map, bar, 5, 0, 3, 3);
  if constexpr (rank == 5) ptx::tma_load(smem, &p.map, bar, 31, 4, -2, 1, 2);
}
template <u32 rank>
ECAD_DEVICE void store_rank(const ProbeParams& p, u32 smem) {
  if constexpr (rank == 1) ptx::tma_store(&p.map, smem, 32);
  if constexpr (rank == 2) ptx::tma_store(&p.map, smem, 30, 5);
  if constexpr (rank == 3) ptx::tma_store(&p.map, smem, 2, -1, 1);
  if constexpr (rank == 4) ptx::tma_store(&p.map, smem, 5, 0, 3, 3);
  if constexpr (rank == 5) ptx::tma_store(&p.map, smem, 31, 4, -2, 1, 2);
}
ECAD_DEVICE void finish_store() {
  ptx::bulk_commit();
  ptx::bulk_wait_read<0>();
  ptx::bulk_wait<0>();
}
#endif

template <u32 rank>
ECAD_KERNEL tensor_load(ECAD_PARAMS(ProbeParams) p) {
#if defined(ECAD_SM90A)
  load_and_dump(p, kBoxBytes<rank>, [&](u32 smem, u32 bar) { load_rank<rank>(p, smem, bar); });
#endif
}
template <u32 rank>
ECAD_KERNEL tensor_store(ECAD_PARAMS(ProbeParams) p) {
#if defined(ECAD_SM90A)
  const u32 smem = ptx::smem_base();
  stage(p, smem, kBoxBytes<rank> / 16);
  ptx::fence_proxy_async();
  ptx::block_sync();
  if (ptx::thread_id() == 0) {
    store_rank<rank>(p, smem);
    finish_store();
  }
#endif
}
template <u32 span>
ECAD_KERNEL swizzled_load(ECAD_PARAMS(ProbeParams) p) {
#if defined(ECAD_SM90A)
  load_and_dump(p, 24 * span, [&](u32 smem, u32 bar) { ptx::tma_load_hint(ptx::policy_evict_first(), smem, &p.map, bar, 200 - i32(span) / 2 + 8, 11); });
#endif
}
ECAD_KERNEL float_load(ECAD_PARAMS(ProbeParams) p) {
#if defined(ECAD_SM90A)
  load_and_dump(p, 8 * 16 * 4, [&](u32 smem, u32 bar) { ptx::tma_load(smem, &p.map, bar, 46, 8); });
#endif
}
template <u32 rank>
ECAD_KERNEL hinted_load(ECAD_PARAMS(ProbeParams) p) {
#if defined(ECAD_SM90A)
  load_and_dump(p, kBoxBytes<rank>, [&](u32 smem, u32 bar) {
    const u64 policy = ptx::policy_evict_last();
    if constexpr (rank == 3) ptx::tma_load_hint(policy, smem, &p.map, bar, 8, 1, 1);
    if constexpr (rank == 4) ptx::tma_load_hint(policy, smem, &p.map, bar, 8, 1, 1, 1);
  });
#endif
}
// The map is taken from device memory.
ECAD_KERNEL map_in_memory(ECAD_PARAMS(ProbeParams) p) {
#if defined(ECAD_SM90A)
  load_and_dump(p, kBoxBytes<2>, [&](u32 smem, u32 bar) {
    ptx::tensormap_acquire(p.map_in_memory);
    ptx::tensormap_prefetch(p.map_in_memory);
    ptx::tma_load(smem, p.map_in_memory, bar, 1, 2);
  });
#endif
}
ECAD_KERNEL plain_store(ECAD_PARAMS(ProbeParams) p) {  // two groups; the second reuses the first one's memory
#if defined(ECAD_SM90A)
  const u32 smem = ptx::smem_base();
  stage(p, smem, 32);
  ptx::fence_proxy_async();
  ptx::block_sync();
  if (ptx::thread_id() == 0) {
    ptx::bulk_store(p.spare, smem, 512);
    ptx::bulk_commit();
    ptx::bulk_wait_read<0>();
    ptx::st_shared(smem, ptx::u32x4{1, 2, 3, 4});
    ptx::fence_proxy_async();
    ptx::bulk_store(static_cast<char*>(p.spare) + 512, smem, 32);
    finish_store();
  }
#endif
}
// What generic stores left in global memory is read by a bulk copy of the same thread.
ECAD_KERNEL store_then_bulk_load(ECAD_PARAMS(ProbeParams) p) {
#if defined(ECAD_SM90A)
  load_and_dump(p, 64, [&](u32 smem, u32 bar) {
    for (u32 i = 0; i < 16; ++i) ptx::st_global(static_cast<u32*>(p.spare) + i, 11 * i);
    ptx::fence_proxy_async_global();
    ptx::bulk_load(smem, p.spare, 64, bar);
  });
#endif
}

template <u32 rank>
void add_rank(std::vector<Probe>* all, const char* load, const char* store) {
  all->push_back({load, Input::kCounting, kBoxBytes<rank> / 4, {{1}, 64, kSmem}, true, 0, 0, start<tensor_load<rank>>, map_of_rank<rank, false>, false});
  all->push_back({store, Input::kCounting, kOutWords, {{1}, 64, kSmem}, true, 0, 0, start<tensor_store<rank>>, map_of_rank<rank, true>, true});
}
template <Swizzle swizzle, u32 span>
Probe swizzled(const char* name) {
  return {name, Input::kCounting, 6 * span, {{1}, 64, kSmem}, true, 0, 0, start<swizzled_load<span>>, map_of_swizzle<swizzle, span>, false};
}

// ---- the small product of gemm_sm90.cuh ------------------------------------------------------------------------------------------

constexpr int64_t kM = 72, kN = 80, kK = 136;  // x [72, 136] at in, w [80, 136] behind it, y [72, 80] in spare

Status product(StreamHandle stream, const LaunchShape& shape, const ProbeParams& p) {
  GemmMapParams g = {};
  const auto encode = [](const void* base, int64_t rows, int64_t cols, TensorMap* out) {
    TensorMapDesc d;
    d.base = base;
    d.dims[0] = uint64_t(cols), d.dims[1] = uint64_t(rows);
    d.strides[0] = uint64_t(cols) * 2;
    d.box[0] = d.box[1] = 64;
    d.swizzle = Swizzle::k128;
    return encode_tensor_map(d, out);
  };
  ECAD_TRY(encode(p.in, kM, kK, &g.x));
  ECAD_TRY(encode(static_cast<const char*>(p.in) + 2 * kM * kK, kN, kK, &g.w));
  ECAD_TRY(encode(p.spare, kM, kN, &g.y));
  g.m = kM, g.n = kN, g.k = kK;
  return launch<gemm_sm90<Defect::kNone>>(stream, shape, g);
}

}  // namespace

void add_bulk_probes(std::vector<Probe>* all) {
  add_rank<1>(all, "tensor load, rank 1", "tensor store, rank 1");
  add_rank<2>(all, "tensor load, rank 2", "tensor store, rank 2");
  add_rank<3>(all, "tensor load, rank 3", "tensor store, rank 3");
  add_rank<4>(all, "tensor load, rank 4", "tensor store, rank 4");
  add_rank<5>(all, "tensor load, rank 5", "tensor store, rank 5");
  all->push_back(swizzled<Swizzle::k32, 32>("tensor load, swizzle 32"));
  all->push_back(swizzled<Swizzle::k64, 64>("tensor load, swizzle 64"));
  all->push_back(swizzled<Swizzle::k128, 128>("tensor load, swizzle 128"));
  const LaunchShape shape{{1}, 64, kSmem};
  all->push_back({"tensor load, float32", Input::kFloats, 128, shape, true, 0, 0, start<float_load>, map_of_floats, false});
  all->push_back({"tensor load with a hint, rank 3", Input::kCounting, kBoxBytes<3> / 4, shape, true, 0, 0, start<hinted_load<3>>, map_of_rank<3, false>, false});
  all->push_back({"tensor load with a hint, rank 4", Input::kCounting, kBoxBytes<4> / 4, shape, true, 0, 0, start<hinted_load<4>>, map_of_rank<4, false>, false});
  all->push_back({"tensor map in device memory", Input::kCounting, kBoxBytes<2> / 4, shape, true, 0, 0, start<map_in_memory>, map_of_rank<2, false>, false});
  all->push_back({"bulk store", Input::kCounting, 136, shape, true, 0, 0, start<plain_store>, nullptr, true});
  all->push_back(exact<store_then_bulk_load>("global store, then bulk load", Input::kCounting, 16, shape, true));
  all->push_back({"product on wgmma", Input::kIntegers, uint32_t(kM * kN / 2), {{2, 2}, GemmSm90::kThreads, GemmSm90::kSmem}, true, 0, 0, product, nullptr, true});
}

}  // namespace ecad::cuda::probe
