// Attention in bfloat16 on wgmma and bulk tensor copies: sm_90a, head dims 64, 72 and 128.
//
// Computes     y[b, i, h] = sum_j p_j v[b, j, h], p = softmax over the keys j < counts[b] of scale q[b, i, h] . k[b, j, h].
// Inputs       q [B,Nq,H D], k, v [B,Nk,H D] bfloat16, rows and heads at multiples of 16 bytes, by tensor maps [B, N, H, D] in the parameters or behind
//              the frame's table; counts int32 [B] in device memory, or none. Output y [B,Nq,H D] bfloat16, rows at multiples of 16 bytes, by ordinary
//              stores: it may be a slot behind the table.
// Accumulates  in float32: scores, the running maximum, sums of probabilities (before they are rounded) and y; probabilities are rounded to
//              bfloat16 for the second product. Keys in order, a tile at a time: the same on every run.
// Grid/block   grid (ceil(Nq / (64 Consumers)), H, B). One thread of a producer warpgroup loads the queries and fills rings of Stages tiles of keys and of values;
//              a consumer warpgroup owns 64 queries, its probabilities stay in registers as operands of the second product. The scores of the
//              next tile are multiplied while the last tile's values are; with two consumers named barriers let one issue products while the
//              other takes exponentials. A tile is panels of 64 columns in 128-byte lines with the 128-byte swizzle; of head dim 72 the last 8
//              columns come as 16 in 32-byte lines, zeros beyond 72: scores see 80 columns, values 64 + 16 (a panel of 32-byte lines has 16
//              columns; two m64n8 would save nothing). Shared memory 100-210 KB: queries, rings, and a warp's 16 rows of y on their way out.
// Expected     bytes = 2 B H D (2 Nq + 2 blocks Nk'), blocks = ceil(Nq / (64 Consumers)), Nk' = the tiles' keys up to Nk, of which HBM sees keys and values about
//              once (L2); FLOPs = 4 B H Nq count D. Limit: tensor cores, with exp2 at 80 % of their time for D = 72.
// Edge cases   queries outside are zeros and not stored. Keys from the count on are masked to -infinity, their values overwritten with zeros in
//              shared memory: NaN there is never seen. A count outside 1..Nk is reported and the block ends.
// Bank conflicts none where the emulator counts (ld, st, stmatrix); those of wgmma and bulk copies are not modelled.
// Measured     no GPU has run it yet: the emulator shows values, races, bank conflicts and bytes, not speed.
// Twin         kernels/ref/attention.cpp: ref_attention.
// Not here     bias, causal, scale <= 0, other head dims and dtypes (attention_mma.cuh and others).
#pragma once
#include "attention_sm90.h"
#include "attention_count.cuh"
#include "elements.cuh"

namespace ecad::cuda {

template <int Depth_, int Keys_, int Consumers_, int Stages_>
struct AttentionSm90Config {
  static constexpr int Depth = Depth_, Keys = Keys_, Consumers = Consumers_, Stages = Stages_;
  static constexpr int Panels = Depth / 64;         // of 64 columns
  static constexpr bool Tail = Depth % 64 != 0;     // and one of 16
  static constexpr int Queries = 64 * Consumers, Threads = 128 * (Consumers + 1);
  static constexpr int RowBytes = 128 * Panels + (Tail ? 32 : 0);
  static constexpr int TileBytes = Keys * RowBytes;
  static constexpr int KeysAt = Queries * RowBytes, ValuesAt = KeysAt + Stages * TileBytes, StagingAt = ValuesAt + Stages * TileBytes;
  static constexpr int StagingPitch = 16 * (Depth / 8 | 1);  // an odd number of 16-byte units: free of bank conflicts
  static constexpr int BarriersAt = StagingAt + 4 * Consumers * 16 * StagingPitch;
  static constexpr int SmemBytes = BarriersAt + 8 * (4 * Stages + 1);
  static_assert(Depth == 64 || Depth == 72 || Depth == 128, "other head dims need other panels");
  static_assert(Keys % 16 == 0 && Keys <= 256, "a wgmma multiplies 16 keys, and scores at most 256");
  static_assert(KeysAt % 1024 == 0 && TileBytes % 1024 == 0, "the 128-byte swizzle repeats every 1024 bytes");
  static_assert(Stages >= 2, "a consumer waits for the next tile of keys while it holds a tile of values");
  static_assert(SmemBytes <= 227 * 1024, "a block of an sm_90 has 227 KB");
};

#if defined(ECAD_SM90A)

namespace attention90 {

using ptx::u32;

struct Barriers {
  u32 q, k_full, k_empty, v_full, v_empty;  // of stage s: 8 s further
};

template <int Stages>
ECAD_DEVICE Barriers barriers_at(u32 at) {
  return {at, at + 8, at + 8 + 8 * Stages, at + 8 + 16 * Stages, at + 8 + 24 * Stages};
}

// The maps of an operand: in the parameters, or in global memory, where they must be acquired.
ECAD_DEVICE void find_maps(const ptx::TensorMap* (&maps)[2], const ptx::TensorMap (&fixed)[2], const Ref (&table)[2], bool in_table, int count, const Frame* frame) {
  ECAD_UNROLL
  for (int i = 0; i < 2; ++i) {
    maps[i] = &fixed[i];
    if (!in_table || i >= count) continue;
    maps[i] = resolve<const ptx::TensorMap>(frame, table[i]);
    ptx::tensormap_acquire(maps[i]);
  }
}

// Rows [row, row + rows) of one head, panel by panel.
template <class C>
ECAD_DEVICE void load_rows(u32 to, u32 barrier, const ptx::TensorMap* const (&maps)[2], int rows, int head, int row, int sample) {
  ptx::mbarrier_arrive_expect(barrier, static_cast<u32>(rows * C::RowBytes));  // what lies outside the operand counts
  ECAD_UNROLL
  for (int panel = 0; panel < C::Panels; ++panel) ptx::tma_load(to + static_cast<u32>(panel * rows * 128), maps[0], barrier, 64 * panel, head, row, sample);
  if constexpr (C::Tail) ptx::tma_load(to + static_cast<u32>(C::Panels * rows * 128), maps[1], barrier, 64 * C::Panels, head, row, sample);
}

template <class C>
ECAD_DEVICE void produce(const AttentionSm90Params& q, u32 smem, const Barriers& bars, int head, int sample, int tiles) {
  constexpr int kMaps = C::Tail ? 2 : 1;
  const ptx::TensorMap *queries[2], *keys[2], *values[2];
  find_maps(queries, q.q, q.q_table, q.in_table[0] != 0, kMaps, q.base.head.frame);
  find_maps(keys, q.k, q.k_table, q.in_table[1] != 0, kMaps, q.base.head.frame);
  find_maps(values, q.v, q.v_table, q.in_table[2] != 0, kMaps, q.base.head.frame);
  load_rows<C>(smem, bars.q, queries, C::Queries, head, static_cast<int>(ptx::block_x()) * C::Queries, sample);
  int stage = 0;
  u32 parity = 1;  // the stages start empty
  for (int t = 0; t < tiles; ++t) {
    const u32 at = static_cast<u32>(stage * C::TileBytes), bar = 8 * static_cast<u32>(stage);
    ptx::mbarrier_wait(bars.k_empty + bar, parity);
    load_rows<C>(smem + C::KeysAt + at, bars.k_full + bar, keys, C::Keys, head, t * C::Keys, sample);
    ptx::mbarrier_wait(bars.v_empty + bar, parity);
    load_rows<C>(smem + C::ValuesAt + at, bars.v_full + bar, values, C::Keys, head, t * C::Keys, sample);
    if (++stage == C::Stages) {
      stage = 0;
      parity ^= 1;
    }
  }
}

// Issues scores = q k^T. q: the consumer's first row.
template <class C>
ECAD_DEVICE void multiply_keys(float (&scores)[C::Keys / 2], u32 smem, int consumer, u32 keys) {
  ECAD_UNROLL
  for (int panel = 0; panel < C::Panels; ++panel) {
    const u32 q = smem + static_cast<u32>((panel * C::Queries + 64 * consumer) * 128), k = keys + static_cast<u32>(panel * C::Keys * 128);
    ECAD_UNROLL
    for (int kk = 0; kk < 4; ++kk)
      ptx::wgmma_ss<C::Keys>(scores, ptx::smem_descriptor(q + 32 * kk, ptx::Swizzle::k128, 0, 1024), ptx::smem_descriptor(k + 32 * kk, ptx::Swizzle::k128, 0, 1024), panel > 0 || kk > 0);
  }
  if constexpr (C::Tail) {
    const u32 q = smem + static_cast<u32>(C::Panels * C::Queries * 128 + 64 * consumer * 32), k = keys + static_cast<u32>(C::Panels * C::Keys * 128);
    ptx::wgmma_ss<C::Keys>(scores, ptx::smem_descriptor(q, ptx::Swizzle::k32, 0, 256), ptx::smem_descriptor(k, ptx::Swizzle::k32, 0, 256), true);
  }
}

// The result of a consumer: columns of whole panels, and of the tail.
template <class C>
struct Result {
  float wide[32 * C::Panels];
  float tail[8];
};

// Issues y = p v (+ y).
template <class C>
ECAD_DEVICE void multiply_values(Result<C>& y, const u32 (&p)[C::Keys / 16][4], u32 values, bool accumulate) {
  const u32 tail = values + static_cast<u32>(C::Panels * C::Keys * 128);
  ECAD_UNROLL
  for (int s = 0; s < C::Keys / 16; ++s) {
    ptx::wgmma_rs<64 * C::Panels, 1>(y.wide, p[s], ptx::smem_descriptor(values + 16 * 128 * s, ptx::Swizzle::k128, C::Keys * 128, 1024), accumulate || s > 0);
    if constexpr (C::Tail) ptx::wgmma_rs<16, 1>(y.tail, p[s], ptx::smem_descriptor(tail + 16 * 32 * s, ptx::Swizzle::k32, 0, 256), accumulate || s > 0);
  }
}

// Keys from `count` on become -infinity. first: the key of this thread's first column.
template <int N>
ECAD_DEVICE void mask(float (&scores)[N], int first, int count) {
  ECAD_UNROLL
  for (int i = 0; i < N; ++i)
    if (first + i / 4 * 8 + i % 2 >= count) scores[i] = -kInfinity;
}

// Scores to probabilities, by the new maximum; keep: what earlier sums and results are to be multiplied with. A thread holds two rows, four lanes
// share a row. Every tile has a key inside the count, so the maximum is finite.
template <int N>
ECAD_DEVICE void soften(float (&scores)[N], float (&most)[2], float (&total)[2], float (&keep)[2], float factor) {
  ECAD_UNROLL
  for (int half = 0; half < 2; ++half) {
    float top = -kInfinity;
    ECAD_UNROLL
    for (int i = 2 * half; i < N; i += 4) top = fmaxf(top, fmaxf(scores[i], scores[i + 1]));
    top = fmaxf(top, ptx::shfl_xor(top, 1));
    top = fmaxf(top, ptx::shfl_xor(top, 2));
    const float now = fmaxf(most[half], top * factor);
    keep[half] = ptx::ex2_approx(most[half] - now);
    most[half] = now;
    float sum = 0.f;
    ECAD_UNROLL
    for (int i = 2 * half; i < N; i += 4) {
      scores[i] = ptx::ex2_approx(ptx::fma_rn(scores[i], factor, -now));
      scores[i + 1] = ptx::ex2_approx(ptx::fma_rn(scores[i + 1], factor, -now));
      sum += scores[i] + scores[i + 1];
    }
    total[half] = total[half] * keep[half] + sum;
  }
}

// The accumulator of a product is laid out as the operand a of the next: columns 16 s on are its step s.
template <int N>
ECAD_DEVICE void pack(u32 (&p)[N / 8][4], const float (&scores)[N]) {
  ECAD_UNROLL
  for (int s = 0; s < N / 8; ++s) {
    ECAD_UNROLL
    for (int i = 0; i < 4; ++i) p[s][i] = ptx::pack_bf16(scores[8 * s + 2 * i], scores[8 * s + 2 * i + 1]);
  }
}

template <int N>
ECAD_DEVICE void scale_rows(float (&y)[N], const float (&by)[2]) {
  ECAD_UNROLL
  for (int i = 0; i < N; ++i) y[i] *= by[i / 2 % 2];
}

// Zeros over the values of keys that are not there: 0 times what they hold could be NaN.
template <class C>
ECAD_DEVICE void clear_values(u32 values, int first_row, int thread) {
  for (int panel = 0; panel < C::Panels + C::Tail; ++panel) {
    const int line = panel < C::Panels ? 128 : 32;  // lines follow each other: the swizzle stays inside a line
    const u32 from = values + static_cast<u32>(panel * C::Keys * 128 + first_row * line);
    for (int i = thread; i < (C::Keys - first_row) * line / 16; i += 128 * C::Consumers) ptx::st_shared(from + 16 * static_cast<u32>(i), ptx::u32x4{0, 0, 0, 0});
  }
  ptx::fence_proxy_async();
  ptx::barrier_sync(3, 128 * C::Consumers);
}

// y / total, rounded, through the warp's own lines to 16-byte stores. Four lanes hold shares of a row's total.
template <class C>
ECAD_DEVICE void store_result(Result<C>& y, float (&total)[2], const AttentionParams& p, u32 staging, int first_row, int head, int sample, int lane) {
  float inverse[2];
  ECAD_UNROLL
  for (int half = 0; half < 2; ++half) {
    float sum = total[half];
    sum += ptx::shfl_xor(sum, 1);
    sum += ptx::shfl_xor(sum, 2);
    inverse[half] = 1.f / sum;
  }
  scale_rows(y.wide, inverse);
  const u32 line = staging + static_cast<u32>(lane % 16 * C::StagingPitch);
  ECAD_UNROLL
  for (int pair = 0; pair < 4 * C::Panels; ++pair) {
    u32 r[4];
    ECAD_UNROLL
    for (int i = 0; i < 4; ++i) r[i] = ptx::pack_bf16(y.wide[8 * pair + 2 * i], y.wide[8 * pair + 2 * i + 1]);
    ptx::stmatrix(line + static_cast<u32>(32 * pair + lane / 16 * 16), r);
  }
  if constexpr (C::Tail) {
    scale_rows(y.tail, inverse);
    const u32 r[2] = {ptx::pack_bf16(y.tail[0], y.tail[1]), ptx::pack_bf16(y.tail[2], y.tail[3])};
    ptx::stmatrix(line + 128u * C::Panels, r);
  }
  ptx::warp_sync();
  constexpr int kUnits = C::Depth / 8;
  char* out = resolve<char>(p.head.frame, p.y.ref) + sample * p.y.batch + static_cast<int64_t>(head) * C::Depth * 2;
  for (int i = lane; i < 16 * kUnits; i += 32) {
    const int row = i / kUnits, unit = i % kUnits;
    if (first_row + row >= p.queries) continue;
    ptx::st_global(out + (first_row + row) * p.y.token + 16 * unit, ptx::ld_shared<ptx::u32x4>(staging + static_cast<u32>(row * C::StagingPitch + 16 * unit)));
  }
}

template <class C>
ECAD_DEVICE void consume(const AttentionParams& p, u32 smem, const Barriers& bars, int head, int sample, int count, int tiles) {
  const int thread = static_cast<int>(ptx::thread_id()) - 128, consumer = thread / 128, lane = thread % 32, warp = thread / 32;
  const bool leader = thread % 128 == 0;
  const float factor = p.scale * 1.4426950408889634f;
  const u32 keys = smem + C::KeysAt, values = smem + C::ValuesAt;
  float scores[C::Keys / 2], most[2] = {-kInfinity, -kInfinity}, total[2] = {0.f, 0.f}, keep[2];
  u32 probabilities[C::Keys / 16][4];
  Result<C> y;

  ptx::mbarrier_wait(bars.q, 0);
  ptx::mbarrier_wait(bars.k_full, 0);
  ptx::wgmma_fence(scores);
  multiply_keys<C>(scores, smem, consumer, keys);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>(scores);
  if (leader) ptx::mbarrier_arrive(bars.k_empty);
  if (C::Keys > count) mask(scores, lane % 4 * 2, count);
  soften(scores, most, total, keep, factor);
  pack(probabilities, scores);

  // Whose turn it is to issue products: barrier 1 + consumer.
  if (C::Consumers == 2 && consumer == 1 && tiles > 1) ptx::barrier_arrive(1, 256);
  int stage = 1, before = 0;  // of tile t, and of tile t - 1
  u32 parity = 0, parity_before = 0;
  if (tiles > 1) ptx::mbarrier_wait(bars.k_full + 8 * static_cast<u32>(stage), parity);
  for (int t = 1; t < tiles; ++t) {
    if constexpr (C::Consumers == 2) ptx::barrier_sync(1 + static_cast<u32>(consumer), 256);
    ptx::wgmma_fence(scores);
    multiply_keys<C>(scores, smem, consumer, keys + static_cast<u32>(stage * C::TileBytes));
    ptx::wgmma_commit();
    ptx::mbarrier_wait(bars.v_full + 8 * static_cast<u32>(before), parity_before);
    ptx::wgmma_fence(y.wide, y.tail, probabilities);
    multiply_values<C>(y, probabilities, values + static_cast<u32>(before * C::TileBytes), t > 1);
    ptx::wgmma_commit();
    if (C::Consumers == 2 && (consumer == 0 || t + 1 < tiles)) ptx::barrier_arrive(2 - static_cast<u32>(consumer), 256);
    ptx::wgmma_wait<1>(scores);
    if (leader) ptx::mbarrier_arrive(bars.k_empty + 8 * static_cast<u32>(stage));
    if ((t + 1) * C::Keys > count) mask(scores, t * C::Keys + lane % 4 * 2, count);
    soften(scores, most, total, keep, factor);
    const u32 done = bars.v_empty + 8 * static_cast<u32>(before);
    before = stage;
    parity_before = parity;
    if (++stage == C::Stages) {
      stage = 0;
      parity ^= 1;
    }
    // Here, not in front of the product: without a branch between them ptxas moves the exponentials behind the wait for the products that they are
    // to run beside.
    if (t + 1 < tiles) ptx::mbarrier_wait(bars.k_full + 8 * static_cast<u32>(stage), parity);
    ptx::wgmma_wait<0>(y.wide, y.tail, probabilities);
    if (leader) ptx::mbarrier_arrive(done);
    scale_rows(y.wide, keep);
    if constexpr (C::Tail) scale_rows(y.tail, keep);
    pack(probabilities, scores);
  }
  const u32 last = values + static_cast<u32>(before * C::TileBytes);
  ptx::mbarrier_wait(bars.v_full + 8 * static_cast<u32>(before), parity_before);
  if (count < p.keys && tiles * C::Keys > count) clear_values<C>(last, count - (tiles - 1) * C::Keys, thread);
  ptx::wgmma_fence(y.wide, y.tail, probabilities);
  multiply_values<C>(y, probabilities, last, tiles > 1);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>(y.wide, y.tail);
  store_result<C>(y, total, p, smem + static_cast<u32>(C::StagingAt + warp * 16 * C::StagingPitch), static_cast<int>(ptx::block_x()) * C::Queries + warp * 16, head, sample, lane);
}

}  // namespace attention90

#endif

template <class C>
ECAD_KERNEL ECAD_BOUNDS(C::Threads, 1) attention_sm90(ECAD_PARAMS(AttentionSm90Params) q) {
#if defined(ECAD_SM90A)
  using namespace attention90;
  const AttentionParams& p = q.base;
  enter(p.head);
  const int thread = static_cast<int>(ptx::thread_id()), head = static_cast<int>(ptx::block_y()), sample = static_cast<int>(ptx::block_z());
  const int count = key_count(p, sample, thread);
  if (count == 0) return;
  const int tiles = (count + C::Keys - 1) / C::Keys;
  const u32 smem = ptx::smem_base();
  const Barriers bars = barriers_at<C::Stages>(smem + C::BarriersAt);
  if (thread == 0) {
    ptx::mbarrier_init(bars.q, 1);
    for (u32 s = 0; s < C::Stages; ++s) {
      ptx::mbarrier_init(bars.k_full + 8 * s, 1);
      ptx::mbarrier_init(bars.v_full + 8 * s, 1);
      ptx::mbarrier_init(bars.k_empty + 8 * s, C::Consumers);
      ptx::mbarrier_init(bars.v_empty + 8 * s, C::Consumers);
    }
    ptx::fence_mbarrier_init();
  }
  ptx::block_sync();
  if (thread < 128) {
    if constexpr (C::Consumers == 2) ptx::setmaxnreg_dec<40>();
    if (thread == 0) produce<C>(q, smem, bars, head, sample, tiles);
  } else {
    if constexpr (C::Consumers == 2) ptx::setmaxnreg_inc<232>();
    consume<C>(p, smem, bars, head, sample, count, tiles);
  }
#else
  (void)q;
  ptx::trap();
#endif
}

template <class C>
Status launch_attention_sm90(StreamHandle stream, int32_t batch, const AttentionSm90Params& q) {
  const auto blocks = static_cast<uint32_t>((q.base.queries + C::Queries - 1) / C::Queries);
  return launch<attention_sm90<C>>(stream, {{blocks, static_cast<uint32_t>(q.base.heads), static_cast<uint32_t>(batch)}, C::Threads, C::SmemBytes}, q);
}

}  // namespace ecad::cuda
