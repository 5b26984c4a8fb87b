// Attention of many queries over few keys in bfloat16 on wgmma and bulk tensor copies: cross-attention to a prompt. sm_90a, head dims 64, 72, 128.
//
// Computes     what attention_sm90.cuh does, with every key and value of a head in shared memory for as long as its block lives.
// Inputs       as there; at most kKeys kTiles keys.
// Accumulates  as there, keys in the same order a tile at a time: the same on every run.
// Grid/block   grid (ceil(Q / span), H, B), Q = ceil(Nq / 128) tiles of queries; a block owns `span` of them, one after the other. One thread of a producer
//              warpgroup loads keys and values once, then tiles of queries through a ring of kStages; two consumer warpgroups own 64 rows of each tile. Tiles of
//              shared memory are those of attention_sm90.cuh; of head dim 72 121 KB for 128 keys, 182 KB for 320; of 64 98 and 146 KB; of 128 194 KB for 128
//              keys, 226 KB for 256.
// Expected     bytes = 2 B H D (2 Nq + 2 blocks Nk'), blocks = ceil(Q / span), Nk' = the keys of the tiles that the count needs, up to Nk: span tiles share one
//              read of keys and values, which attention_sm90.cuh does for each. FLOPs = 4 B H Nq count D. 120 keys make 120 FLOP a byte, below what a device of
//              184 needs: limited by memory; 300 keys by the tensor cores and exp2.
// Edge cases   as there. Tiles of queries behind the last are not loaded; rows of the last tile outside are zeros and not stored.
// Bank conflicts none where the emulator counts; those of wgmma and bulk copies are not modelled.
// Measured     no GPU has run it yet.
// Twin         kernels/ref/attention.cpp: ref_attention.
// Not here     more keys (attention_sm90.cuh); other architectures, whose shared memory has no room for 300 keys beside the queries.
#pragma once
#include "attention_sm90.cuh"

namespace ecad::cuda {

template <int Depth_, int Keys_, int Tiles_, int Stages_>
struct AttentionResidentConfig {
  static constexpr int Depth = Depth_, Keys = Keys_, Tiles = Tiles_;
  static constexpr int Consumers = 2, Stages = Stages_;  // of queries
  static constexpr int Panels = Depth / 64;
  static constexpr bool Tail = Depth % 64 != 0;
  static constexpr int Queries = 64 * Consumers, Threads = 128 * (Consumers + 1);
  static constexpr int RowBytes = 128 * Panels + (Tail ? 32 : 0);
  static constexpr int QueryBytes = Queries * RowBytes, TileBytes = Keys * RowBytes;
  static constexpr int KeysAt = Stages * QueryBytes, ValuesAt = KeysAt + Tiles * TileBytes, StagingAt = ValuesAt + Tiles * TileBytes;
  static constexpr int StagingPitch = 16 * (Depth / 8 | 1);
  static constexpr int BarriersAt = StagingAt + 4 * Consumers * 16 * StagingPitch;
  static constexpr int SmemBytes = BarriersAt + 8 * (2 * Stages + 1);
  static_assert(Keys % 16 == 0 && Keys <= 256, "a wgmma multiplies 16 keys, and scores at most 256");
  static_assert(QueryBytes % 1024 == 0 && TileBytes % 1024 == 0, "the 128-byte swizzle repeats every 1024 bytes");
  static_assert(SmemBytes <= 227 * 1024, "a block of an sm_90 has 227 KB");
};

#if defined(ECAD_SM90A)

namespace attention90 {

struct ResidentBarriers {
  u32 kv, q_full, q_empty;  // of stage s: 8 s further
};

// Tiles of queries of this block.
struct Span { int first, end; };

template <class C>
ECAD_DEVICE void produce_resident(const AttentionSm90Params& q, u32 smem, const ResidentBarriers& bars, int head, int sample, int tiles, Span span) {
  constexpr int kMaps = C::Tail ? 2 : 1;
  const ptx::TensorMap *queries[2], *keys[2], *values[2];
  find_maps(queries, q.q, q.q_table, q.in_table[0] != 0, kMaps, q.base.head.frame);
  find_maps(keys, q.k, q.k_table, q.in_table[1] != 0, kMaps, q.base.head.frame);
  find_maps(values, q.v, q.v_table, q.in_table[2] != 0, kMaps, q.base.head.frame);
  for (int t = 0; t < tiles; ++t) {
    load_rows<C>(smem + static_cast<u32>(C::KeysAt + t * C::TileBytes), bars.kv, keys, C::Keys, head, t * C::Keys, sample);
    load_rows<C>(smem + static_cast<u32>(C::ValuesAt + t * C::TileBytes), bars.kv, values, C::Keys, head, t * C::Keys, sample);
  }
  int stage = 0;
  u32 parity = 1;  // the stages start empty
  for (int tile = span.first; tile < span.end; ++tile) {
    ptx::mbarrier_wait(bars.q_empty + 8 * static_cast<u32>(stage), parity);
    load_rows<C>(smem + static_cast<u32>(stage * C::QueryBytes), bars.q_full + 8 * static_cast<u32>(stage), queries, C::Queries, head, tile * C::Queries, sample);
    if (++stage == C::Stages) {
      stage = 0;
      parity ^= 1;
    }
  }
}

// One tile of queries over all keys.
template <class C>
ECAD_DEVICE void attend(Result<C>& y, float (&total)[2], float factor, u32 queries, u32 keys, u32 values, u32 queries_read, int consumer, int lane, bool leader, int count, int tiles) {
  float scores[C::Keys / 2], most[2] = {-kInfinity, -kInfinity}, keep[2];
  u32 probabilities[C::Keys / 16][4];
  total[0] = total[1] = 0.f;
  for (int t = 0; t < tiles; ++t) {
    ptx::wgmma_fence(scores);
    multiply_keys<C>(scores, queries, consumer, keys + static_cast<u32>(t * C::TileBytes));
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>(scores);
    if (leader && t + 1 == tiles) ptx::mbarrier_arrive(queries_read);
    if ((t + 1) * C::Keys > count) mask(scores, t * C::Keys + lane % 4 * 2, count);
    soften(scores, most, total, keep, factor);
    if (t > 0) {
      scale_rows(y.wide, keep);
      if constexpr (C::Tail) scale_rows(y.tail, keep);
    }
    pack(probabilities, scores);
    ptx::wgmma_fence(y.wide, y.tail, probabilities);
    multiply_values<C>(y, probabilities, values + static_cast<u32>(t * C::TileBytes), t > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>(y.wide, y.tail, probabilities);
  }
}

template <class C>
ECAD_DEVICE void consume_resident(const AttentionParams& p, u32 smem, const ResidentBarriers& bars, int head, int sample, int count, int tiles, Span span) {
  const int thread = static_cast<int>(ptx::thread_id()) - 128, consumer = thread / 128, lane = thread % 32, warp = thread / 32;
  const bool leader = thread % 128 == 0;
  const u32 keys = smem + C::KeysAt, values = smem + C::ValuesAt;
  ptx::mbarrier_wait(bars.kv, 0);
  if (count < p.keys && tiles * C::Keys > count) clear_values<C>(values + static_cast<u32>((tiles - 1) * C::TileBytes), count - (tiles - 1) * C::Keys, thread);
  int stage = 0;
  u32 parity = 0;
  for (int tile = span.first; tile < span.end; ++tile) {
    Result<C> y;
    float total[2];
    ptx::mbarrier_wait(bars.q_full + 8 * static_cast<u32>(stage), parity);
    attend<C>(y, total, p.scale * 1.4426950408889634f, smem + static_cast<u32>(stage * C::QueryBytes), keys, values, bars.q_empty + 8 * static_cast<u32>(stage), consumer, lane, leader, count, tiles);
    store_result<C>(y, total, p, smem + static_cast<u32>(C::StagingAt + warp * 16 * C::StagingPitch), tile * C::Queries + warp * 16, head, sample, lane);
    ptx::warp_sync();  // the next tile's rows take the place of these
    if (++stage == C::Stages) {
      stage = 0;
      parity ^= 1;
    }
  }
}

}  // namespace attention90

#endif

template <class C>
ECAD_KERNEL ECAD_BOUNDS(C::Threads, 1) attention_resident_sm90(ECAD_PARAMS(AttentionSm90Params) q) {
#if defined(ECAD_SM90A)
  using namespace attention90;
  const AttentionParams& p = q.base;
  enter(p.head);
  const int thread = static_cast<int>(ptx::thread_id()), head = static_cast<int>(ptx::block_y()), sample = static_cast<int>(ptx::block_z());
  const int count = key_count(p, sample, thread);
  if (count == 0) return;
  const int tiles = (count + C::Keys - 1) / C::Keys, all = (p.queries + C::Queries - 1) / C::Queries, first = static_cast<int>(ptx::block_x()) * q.span;
  const Span span = {first, first + q.span < all ? first + q.span : all};
  const u32 smem = ptx::smem_base();
  const ResidentBarriers bars = {smem + C::BarriersAt, smem + C::BarriersAt + 8, smem + C::BarriersAt + 8 + 8 * C::Stages};
  if (thread == 0) {
    ptx::mbarrier_init(bars.kv, 2 * static_cast<u32>(tiles));
    for (u32 s = 0; s < C::Stages; ++s) {
      ptx::mbarrier_init(bars.q_full + 8 * s, 1);
      ptx::mbarrier_init(bars.q_empty + 8 * s, C::Consumers);
    }
    ptx::fence_mbarrier_init();
  }
  ptx::block_sync();
  if (thread < 128) {
    ptx::setmaxnreg_dec<40>();
    if (thread == 0) produce_resident<C>(q, smem, bars, head, sample, tiles, span);
  } else {
    ptx::setmaxnreg_inc<232>();
    consume_resident<C>(p, smem, bars, head, sample, count, tiles, span);
  }
#else
  (void)q;
  ptx::trap();
#endif
}

template <class C>
Status launch_attention_resident_sm90(StreamHandle stream, int32_t batch, const AttentionSm90Params& q) {
  const int32_t all = (q.base.queries + C::Queries - 1) / C::Queries;
  const auto blocks = static_cast<uint32_t>((all + q.span - 1) / q.span);
  return launch<attention_resident_sm90<C>>(stream, {{blocks, static_cast<uint32_t>(q.base.heads), static_cast<uint32_t>(batch)}, C::Threads, C::SmemBytes}, q);
}

}  // namespace ecad::cuda
