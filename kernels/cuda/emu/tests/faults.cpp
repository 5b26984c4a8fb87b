// The emulator can fail: each deliberate defect is reported, in every timing, as the kind of fault that it is. Where a gate other than the faults is what
// catches it (values, bank conflicts), the test says so.
#include "../../../tests/check.h"
#include "emu_gemm.h"

namespace {

using namespace emu_test;
using emu::Fault;

constexpr Shape kShape = {128, 64, 256};

// The defect is reported as `fault`; texts name the kernel and a line.
void expect(const Product& r, Fault fault) {
  if (!CHECK(r.report.has(fault))) std::printf("  expected '%s', got: %s\n", emu::fault_name(fault), r.report.text().c_str());
  CHECK(r.report.text().find("kernel ecad::cuda::probe::gemm_sm") != std::string::npos);
  CHECK(r.report.text().find(".cuh:") != std::string::npos || fault == Fault::kDeadlock);
}

template <Defect defect>
void sm80_reports(Fault fault) {
  for_timings([&] { expect(run_sm80<defect>(kShape), fault); });
}
template <Defect defect>
void sm90_reports(Fault fault) {
  for_timings([&] { expect(run_sm90<defect>(kShape), fault); });
}

TEST(missing_barrier) { sm80_reports<Defect::kNoBarrier>(Fault::kRace); }
TEST(missing_wait_for_copies) { sm80_reports<Defect::kNoWait>(Fault::kPending); }
TEST(buffer_refilled_too_early) { sm80_reports<Defect::kEarlyRelease>(Fault::kRace); }
TEST(missing_proxy_fence) { sm90_reports<Defect::kNoProxyFence>(Fault::kProxy); }
TEST(missing_wgmma_fence) { sm90_reports<Defect::kNoWgmmaFence>(Fault::kWgmma); }
TEST(missing_wgmma_wait) { sm90_reports<Defect::kNoWgmmaWait>(Fault::kExit); }
TEST(missing_mbarrier_wait) { sm90_reports<Defect::kNoWait>(Fault::kPending); }
TEST(too_few_transaction_bytes) { sm90_reports<Defect::kTooFewBytes>(Fault::kMbarrier); }
TEST(too_many_transaction_bytes) { sm90_reports<Defect::kTooManyBytes>(Fault::kDeadlock); }
TEST(stage_released_too_early) { sm90_reports<Defect::kEarlyRelease>(Fault::kPending); }
TEST(missing_init_fence) { sm90_reports<Defect::kNoInitFence>(Fault::kProxy); }
TEST(arrivals_beyond_the_count) {  // they complete phases that nobody awaits; sooner or later the ring is out of step
  for_timings([] { CHECK(!run_sm90<Defect::kOverArrival>({128, 64, 1024}).report.ok()); });
}
TEST(missing_barrier_before_the_store) { sm90_reports<Defect::kNoBarrier>(Fault::kRace); }
TEST(store_not_waited_for) { sm90_reports<Defect::kNoStoreWait>(Fault::kExit); }
TEST(accumulators_touched_in_flight) {  // an executed group looks the same as one that was waited for, so not in every timing
  emu::set_options({emu::Landing::kLate, 1});
  expect(run_sm90<Defect::kTouchAccumulators>(kShape), Fault::kWgmma);
  emu::set_options({});
}

// The producer's wait passes one round too early, or never: which of them, the first round decides.
TEST(phase_off_by_one) { sm90_reports<Defect::kPhase>(Fault::kDeadlock); }

// The waits run before anybody initialised the barriers, or see them without order.
TEST(barriers_used_before_their_initialisation) {
  for_timings([] {
    const Product r = run_sm90<Defect::kNoInitBarrier>(kShape);
    CHECK(r.report.has(Fault::kMbarrier) || r.report.has(Fault::kRace));
  });
}

TEST(swizzle_on_one_side) {  // every access is in order: only the values tell
  const Product a = run_sm80<Defect::kSwizzleOneSide>(kShape), b = run_sm90<Defect::kSwizzleOneSide>(kShape);
  CHECK(!a.exact);
  CHECK(!b.exact);
}

TEST(swizzle_on_neither_side) {  // values are right: only the bank counts tell
  const Product r = run_sm80<Defect::kSwizzleBothSides>(kShape);
  CHECK(r.exact);
  CHECK_EQ(r.report.text(), "");
  CHECK(r.report.counters.shared_wavefronts >= 3 * r.report.counters.shared_ideal);
  // stmatrix without the swizzle that the map undoes: both gates
  const Product s = run_sm90<Defect::kSwizzleBothSides>(kShape);
  CHECK(!s.exact);
  CHECK_EQ(s.report.counters.shared_wavefronts, 8 * s.report.counters.shared_ideal);
}

TEST(rows_beyond_the_end) {
  const Product r = run_sm80<Defect::kRowTail>({65, 64, 32});
  expect(r, Fault::kBounds);
  CHECK(r.guarded);  // the emulator drops the store
}

TEST(wide_store_at_odd_columns) {  // right in value on the host, a fault on a GPU
  expect(run_sm80<Defect::kWideStore>({64, 63, 32}), Fault::kAlignment);
  CHECK_EQ(run_sm80<Defect::kWideStore>({64, 64, 32}).report.text(), "");
}

TEST(map_larger_than_its_buffer) { expect(run_sm90<Defect::kNone>({65, 64, 64}, 128), Fault::kBounds); }

// ---- small kernels, one fault each -----------------------------------------------------------------------------------------

struct WordParams { uint32_t* out; };

ECAD_KERNEL arrives_twice(ECAD_PARAMS(WordParams)) {  // the bytes of the phase are still missing
  if (ptx::lane_id() != 0) return;
  ptx::mbarrier_init(ptx::smem_base(), 1);
  ptx::mbarrier_arrive_expect(ptx::smem_base(), 16);
  ptx::mbarrier_arrive(ptx::smem_base());
}

template <class F>
emu::Report run_words(uint32_t threads, uint32_t blocks, F kernel) {
  Buffer out(4096);
  return kernel(LaunchShape{{blocks}, threads, 4096}, WordParams{out.as<uint32_t>()});
}
#define RUN(name, threads, blocks) run_words(threads, blocks, [](const LaunchShape& s, const WordParams& p) { return emu::run<name>(s, p); })

ECAD_KERNEL divergent_shuffle(ECAD_PARAMS(WordParams) p) {
  ptx::u32 v = ptx::lane_id();
  if (v < 16)
    v = ptx::shfl_xor(v, 1);
  else
    v = ptx::shfl_xor(v, 2);
  ptx::st_global(p.out + ptx::lane_id(), v);
}
ECAD_KERNEL skipped_barrier(ECAD_PARAMS(WordParams)) {
  if (ptx::warp_id() != 1) ptx::block_sync();
}
ECAD_KERNEL skipped_collective(ECAD_PARAMS(WordParams)) {
  if (ptx::lane_id() != 7) ptx::shfl_xor(1u, 1);
}
ECAD_KERNEL unwritten(ECAD_PARAMS(WordParams) p) { ptx::st_global(p.out + ptx::lane_id(), ptx::ld_shared<ptx::u32>(ptx::smem_base())); }
ECAD_KERNEL no_warp_sync(ECAD_PARAMS(WordParams) p) {
  const ptx::u32 at = ptx::smem_base() + 4 * ptx::lane_id();
  ptx::st_shared(at, ptx::lane_id());
  ptx::st_global(p.out + ptx::lane_id(), ptx::ld_shared<ptx::u32>(at ^ 4));
}
ECAD_KERNEL with_warp_sync(ECAD_PARAMS(WordParams) p) {
  const ptx::u32 at = ptx::smem_base() + 4 * ptx::lane_id();
  ptx::st_shared(at, ptx::lane_id());
  ptx::warp_sync();
  ptx::st_global(p.out + ptx::lane_id(), ptx::ld_shared<ptx::u32>(at ^ 4));
}
ECAD_KERNEL outside_shared(ECAD_PARAMS(WordParams)) { ptx::st_shared(ptx::smem_base() + 4096, 1u); }
ECAD_KERNEL misaligned_shared(ECAD_PARAMS(WordParams)) { ptx::st_shared(ptx::smem_base() + 8, ptx::u32x4{}); }
ECAD_KERNEL outside_global(ECAD_PARAMS(WordParams) p) { ptx::st_global(p.out + 1024, 1u); }
ECAD_KERNEL blocks_collide(ECAD_PARAMS(WordParams) p) { ptx::st_global(p.out + ptx::lane_id(), ptx::block_x()); }
ECAD_KERNEL blocks_read(ECAD_PARAMS(WordParams) p) {
  const ptx::u32 me = 32 * ptx::block_x() + ptx::lane_id();
  ptx::st_global(p.out + me, me);
  if (ptx::block_x() == 1) ptx::st_global(p.out + me, ptx::ld_global<ptx::u32>(p.out + me - 32));
}
ECAD_KERNEL halves_in_place(ECAD_PARAMS(WordParams) p) {  // correct: each thread has an element of 2 bytes
  ptx::bf16* x = reinterpret_cast<ptx::bf16*>(p.out) + ptx::thread_id();
  ptx::st_global(x, ptx::to_bf16(1.0f));
  ptx::st_global(x, ptx::to_bf16(2 * ptx::to_f32(ptx::ld_global<ptx::bf16>(x))));
}
ECAD_KERNEL read_by_all_then_written(ECAD_PARAMS(WordParams) p) {  // correct: a barrier lies between
  const ptx::u32 other = ptx::ld_global<ptx::u32>(p.out + (ptx::thread_id() ^ 33));
  ptx::block_sync();
  ptx::st_global(p.out + ptx::thread_id(), ptx::ld_global<ptx::u32>(p.out + ptx::thread_id()) + other);
}
ECAD_KERNEL written_while_read(ECAD_PARAMS(WordParams) p) {
  const ptx::u32 other = ptx::ld_global<ptx::u32>(p.out + (ptx::thread_id() ^ 33));
  ptx::st_global(p.out + ptx::thread_id(), other);
}
ECAD_KERNEL blocks_add(ECAD_PARAMS(WordParams) p) { ptx::atomic_add(p.out, 1u); }
ECAD_KERNEL read_only_path(ECAD_PARAMS(WordParams) p) {
  ptx::st_global(p.out + ptx::lane_id(), 1u);
  ptx::st_global(p.out + 32 + ptx::lane_id(), ptx::ld_global_nc<ptx::u32>(p.out + ptx::lane_id()));
}
ECAD_KERNEL open_copy(ECAD_PARAMS(WordParams) p) {
  ptx::cp_async<4>(ptx::smem_base() + 4 * ptx::lane_id(), p.out + ptx::lane_id());
  ptx::cp_async_commit();
}
ECAD_KERNEL gives_up(ECAD_PARAMS(WordParams)) { ptx::trap(); }
ECAD_KERNEL barrier_counts_differ(ECAD_PARAMS(WordParams)) { ptx::barrier_sync(1, ptx::warp_id() == 0 ? 64 : 32); }
ECAD_KERNEL named_barrier(ECAD_PARAMS(WordParams) p) {  // correct: warp 0 fills, warps 1 and 2 read, warp 3 has nothing to do with it
  if (ptx::warp_id() == 0) {
    ptx::st_shared(ptx::smem_base() + 4 * ptx::lane_id(), ptx::lane_id());
    ptx::barrier_arrive(2, 96);
  } else if (ptx::warp_id() < 3) {
    ptx::barrier_sync(2, 96);
    ptx::st_global(p.out + ptx::thread_id(), ptx::ld_shared<ptx::u32>(ptx::smem_base() + 4 * (31 - ptx::lane_id())));
  }
}
ECAD_KERNEL arrives_then_writes(ECAD_PARAMS(WordParams) p) {  // the write after the arrival is not released by it
  if (ptx::warp_id() == 0) {
    ptx::barrier_arrive(2, 64);
    ptx::st_shared(ptx::smem_base() + 4 * ptx::lane_id(), ptx::lane_id());
  } else {
    ptx::barrier_sync(2, 64);
    ptx::st_global(p.out + ptx::lane_id(), ptx::ld_shared<ptx::u32>(ptx::smem_base() + 4 * ptx::lane_id()));
  }
}

TEST(small_kernels) {
  CHECK(RUN(divergent_shuffle, 32, 1).has(Fault::kDivergence));
  CHECK(RUN(skipped_barrier, 96, 1).has(Fault::kDeadlock));
  CHECK(RUN(skipped_collective, 32, 1).has(Fault::kDeadlock));
  CHECK(RUN(unwritten, 32, 1).has(Fault::kUnwritten));
  CHECK(RUN(no_warp_sync, 32, 1).has(Fault::kRace) || RUN(no_warp_sync, 32, 1).has(Fault::kUnwritten));
  CHECK_EQ(RUN(with_warp_sync, 32, 1).text(), "");
  CHECK(RUN(outside_shared, 32, 1).has(Fault::kBounds));
  CHECK(RUN(misaligned_shared, 32, 1).has(Fault::kAlignment));
  CHECK(RUN(outside_global, 32, 1).has(Fault::kBounds));
  CHECK(RUN(blocks_collide, 32, 2).has(Fault::kBlocks));
  CHECK_EQ(RUN(blocks_collide, 32, 1).text(), "");
  CHECK(RUN(blocks_read, 32, 2).has(Fault::kBlocks));
  CHECK_EQ(RUN(blocks_add, 64, 3).text(), "");
  CHECK_EQ(RUN(halves_in_place, 64, 1).text(), "");
  CHECK_EQ(RUN(read_by_all_then_written, 64, 1).text(), "");
  CHECK(RUN(written_while_read, 64, 1).has(Fault::kRace));
  CHECK(RUN(read_only_path, 32, 1).has(Fault::kRace));
  CHECK(RUN(open_copy, 32, 1).has(Fault::kExit));
  CHECK(RUN(arrives_twice, 32, 1).has(Fault::kMbarrier));
  CHECK(RUN(gives_up, 32, 1).has(Fault::kTrap));
  CHECK(RUN(barrier_counts_differ, 64, 1).has(Fault::kBarrier));
  CHECK_EQ(RUN(named_barrier, 128, 1).text(), "");
  CHECK(RUN(arrives_then_writes, 64, 1).has(Fault::kRace) || RUN(arrives_then_writes, 64, 1).has(Fault::kUnwritten));
  CHECK(RUN(unwritten, 33, 1).has(Fault::kLaunch));
}

// ---- small kernels of sm_90a -------------------------------------------------------------------------------------------------

struct BulkParams {
  uint32_t* out;
  TensorMap map;                   // of out: rows of 32 words, boxes of 8 x 32
  const TensorMap* map_in_memory;  // the same
};

template <class F>
emu::Report run_bulk(uint32_t threads, F kernel) {
  Buffer out(4096), map(sizeof(TensorMap));
  BulkParams p = {out.as<uint32_t>(), {}, map.as<TensorMap>()};
  TensorMapDesc d;
  d.type = MapType::kF32;
  d.base = out.as<void>();
  d.dims[0] = d.dims[1] = 32;
  d.strides[0] = 128;
  d.box[0] = 8, d.box[1] = 32;
  if (!emu::encode_tensor_map(d, &p.map).is_ok()) return {};
  *map.as<TensorMap>() = p.map;
  return kernel(LaunchShape{{1}, threads, 32768}, p);
}
#define RUN_BULK(name, threads) run_bulk(threads, [](const LaunchShape& s, const BulkParams& p) { return emu::run<name>(s, p); })

ECAD_DEVICE ptx::u32 new_barrier(ptx::u32 at) {
  if (ptx::thread_id() == 0) {
    ptx::mbarrier_init(at, 1);
    ptx::fence_mbarrier_init();
  }
  ptx::block_sync();
  return at;
}

enum class Skip { kNothing, kProxyFence, kReadWait, kAcquire, kReuseFence };

// Fills 1 KB, stores it by a bulk copy, fills it again.
template <Skip skip>
ECAD_KERNEL store_twice(ECAD_PARAMS(BulkParams) p) {
  const ptx::u32 smem = ptx::smem_base();
  for (ptx::u32 round = 0; round < 2; ++round) {
    ptx::st_shared(smem + 4 * ptx::thread_id(), round);
    if (skip != Skip::kProxyFence) ptx::fence_proxy_async();
    ptx::block_sync();
    if (ptx::thread_id() == 0) {
      ptx::tma_store(&p.map, smem, 8 * ptx::i32(round), 0);
      ptx::bulk_commit();
      if (skip != Skip::kReadWait) ptx::bulk_wait_read<0>();
    }
    ptx::block_sync();
  }
  if (ptx::thread_id() == 0) ptx::bulk_wait<0>();
}

template <Skip skip>
ECAD_KERNEL load_by_map_in_memory(ECAD_PARAMS(BulkParams) p) {
  const ptx::u32 smem = ptx::smem_base(), bar = new_barrier(smem + 8192);
  if (ptx::thread_id() != 0) return;
  if (skip != Skip::kAcquire) ptx::tensormap_acquire(p.map_in_memory);
  ptx::mbarrier_arrive_expect(bar, 1024);
  ptx::tma_load(smem, p.map_in_memory, bar, 0, 0);
  ptx::mbarrier_wait(bar, 0);
  ptx::st_global(p.out + 512, ptx::ld_shared<ptx::u32>(smem));
}

// Generic stores, then a bulk load to the same place.
template <Skip skip>
ECAD_KERNEL overwrite(ECAD_PARAMS(BulkParams) p) {
  const ptx::u32 smem = ptx::smem_base(), bar = new_barrier(smem + 8192);
  ptx::st_shared(smem + 4 * ptx::thread_id(), 0u);
  if (skip != Skip::kReuseFence) ptx::fence_proxy_async();
  ptx::block_sync();
  if (ptx::thread_id() == 0) {
    ptx::mbarrier_arrive_expect(bar, 128);
    ptx::bulk_load(smem, p.out, 128, bar);
  }
  ptx::mbarrier_wait(bar, 0);
}

// The reader awaits the phase before the one that it needs.
template <ptx::u32 parity>
ECAD_KERNEL read_phase(ECAD_PARAMS(BulkParams) p) {
  const ptx::u32 smem = ptx::smem_base(), bar = new_barrier(smem + 8192);
  if (ptx::thread_id() == 0) {
    ptx::mbarrier_arrive_expect(bar, 128);
    ptx::bulk_load(smem, p.out, 128, bar);
  }
  ptx::mbarrier_wait(bar, parity);
  ptx::st_global(p.out + 512 + ptx::thread_id(), ptx::ld_shared<ptx::u32>(smem + 4 * ptx::lane_id()));
}

// Operands put down by ordinary stores.
template <Skip skip, ptx::u32 misplaced, bool one_branch>
ECAD_KERNEL multiply(ECAD_PARAMS(BulkParams)) {
  const ptx::u32 smem = ptx::smem_base();
  for (ptx::u32 i = 0; i < 16; ++i) ptx::st_shared(smem + 16 * (ptx::thread_id() + 128 * i), ptx::u32x4{});
  if (skip != Skip::kProxyFence) ptx::fence_proxy_async();
  ptx::block_sync();
  ptx::f32 acc[4] = {};
  ptx::wgmma_fence(acc);
  const ptx::u64 a = ptx::smem_descriptor(smem + misplaced, Swizzle::k128, 0, 1024), b = ptx::smem_descriptor(smem + 16384, Swizzle::k128, 0, 1024);
  if (one_branch || ptx::warp_id() < 2)
    ptx::wgmma_ss<8>(acc, a, b, true);
  else
    ptx::wgmma_ss<8>(acc, a, b, true);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>(acc);
}

ECAD_KERNEL too_many_registers(ECAD_PARAMS(BulkParams)) {
  if (ptx::warp_id() < 4)
    ptx::setmaxnreg_inc<256>();
  else
    ptx::setmaxnreg_inc<248>();
  if (ptx::warp_id() >= 8) return;
}

TEST(small_kernels_of_sm90) {
  for_timings([] {
    CHECK_EQ(RUN_BULK(store_twice<Skip::kNothing>, 256).text(), "");
    CHECK(RUN_BULK(store_twice<Skip::kProxyFence>, 256).has(Fault::kProxy));
    CHECK(RUN_BULK(store_twice<Skip::kReadWait>, 256).has(Fault::kPending));
    CHECK_EQ(RUN_BULK(load_by_map_in_memory<Skip::kNothing>, 32).text(), "");
    CHECK(RUN_BULK(load_by_map_in_memory<Skip::kAcquire>, 32).has(Fault::kTensorMap));
    CHECK(RUN_BULK(overwrite<Skip::kReuseFence>, 64).has(Fault::kProxy));
    CHECK_EQ(RUN_BULK(overwrite<Skip::kNothing>, 64).text(), "");
    CHECK_EQ(RUN_BULK(read_phase<0>, 64).text(), "");
    const emu::Report early = RUN_BULK(read_phase<1>, 64);  // data that landed at once make the wait one for the phase after
    CHECK(early.has(Fault::kPending) || early.has(Fault::kDeadlock));
    CHECK_EQ((RUN_BULK((multiply<Skip::kNothing, 0, true>), 128).text()), "");
    CHECK((RUN_BULK((multiply<Skip::kProxyFence, 0, true>), 128).has(Fault::kProxy)));
    CHECK((RUN_BULK((multiply<Skip::kNothing, 256, true>), 128).has(Fault::kWgmma)));
    CHECK((RUN_BULK((multiply<Skip::kNothing, 0, false>), 128).has(Fault::kDivergence)));
    CHECK(RUN_BULK(too_many_registers, 256).has(Fault::kWgmma) == false);
    CHECK(RUN_BULK(too_many_registers, 384).has(Fault::kWgmma));
  });
}

TEST(a_deadlock_says_who_waits_where) {
  const std::string text = RUN(skipped_barrier, 96, 1).text();
  CHECK(text.find("threads 0-31, 64-95 wait in faults.cpp:") != std::string::npos);
  CHECK(text.find("barrier 0 with 64 of 96 threads") != std::string::npos);
  CHECK(text.find("ended: 32-63") != std::string::npos);
}

TEST(maps_that_a_driver_refuses) {
  TensorMapDesc good;
  alignas(16) static uint16_t data[64 * 64];
  good.base = data;
  good.dims[0] = good.dims[1] = 64;
  good.strides[0] = 128;
  good.box[0] = good.box[1] = 64;
  good.swizzle = Swizzle::k128;
  TensorMap map;
  CHECK(emu::encode_tensor_map(good, &map).is_ok());
  const auto refused = [&](void (*change)(TensorMapDesc*)) {
    TensorMapDesc d = good;
    change(&d);
    return !emu::encode_tensor_map(d, &map).is_ok();
  };
  CHECK(refused([](TensorMapDesc* d) { d->base = data + 1; }));
  CHECK(refused([](TensorMapDesc* d) { d->strides[0] = 130; }));
  CHECK(refused([](TensorMapDesc* d) { d->box[1] = 257; }));
  CHECK(refused([](TensorMapDesc* d) { d->box[0] = 72; }));
  CHECK(refused([](TensorMapDesc* d) { d->rank = 6; }));
  CHECK(refused([](TensorMapDesc* d) { d->dims[1] = 0; }));
}

}  // namespace

CHECK_MAIN()
