// linear and gated linear in bfloat16 on wgmma and bulk tensor copies: sm_90a.
//
// Computes     as linear_mma.cuh.
// Inputs       x: up to kLinearParts bfloat16 views of the same rows, concatenated along k; rows start at multiples of 16 bytes, at one distance or, as the rows
//              of one stream in a joint buffer, in samples at another (all views cut alike): a map is [samples, rows, k], and no tile crosses samples. w: packed
//              bfloat16 (linear.h). b: float32 [n] or null. Tensor maps of x lie in the parameters when the operand has a fixed address, otherwise in
//              global memory behind the frame's table (never changed while they may be read; acquired once per block).
// Output       y: bfloat16 or float32, dense last dim, any row strides, by ordinary stores: it may be a slot behind the table. Does not overlap x.
// Accumulates  in float32, in the order of k, 16 at a time in the tensor core; the same on every run. One rounding, when y is stored.
// Grid/block   persistent: at most one block per multiprocessor walks the tiles (bands of 8 rows of tiles, column by column). A producer
//              warpgroup, of which one thread works, fills a ring of Stages stages of x [TileM, 64] and w [TileN, 64], both in 128-byte lines
//              with the 128-byte swizzle; Consumers warpgroups multiply, each TileM / Consumers rows of the tile (one or two m64nNk16 per step),
//              with one group of wgmma under way while the stage before it is handed back. While consumers store a tile the producer loads the
//              next. Registers: 40 for the producer; 232 for each of 2 consumers, 152 for each of 3 (with one, what the compiler gives). Results leave by stmatrix (bfloat16) or st.shared
//              through 16 lines of 128 bytes a warp, and 16-byte stores of whole lines. Shared memory: ring + 2304 or 2560 bytes a consumer warp +
//              barriers, at most 227 KB.
// Heads        with HeadDim, queries and keys among the columns are normalised and turned in the accumulators: linear_heads.cuh.
// Expected     reads 2 m k tiles_n + 128 k_tiles n tiles_m bytes through L2 (and the bias), writes
//              m n sizeof(y); HBM sees x, w and y once when a band fits L2. 2 m n k FLOPs (twice for gated). TileM TileN / (TileM + TileN)
//              FLOPs per byte of L2 traffic: 85 for 128 x 256. Limit: tensor cores from about 200 rows on.
//              tiles_m = samples ceil(sample_rows / TileM).
// Edge cases   rows, columns and k outside arrive as zeros and are never stored; any m, n, k from 1.
// Bank conflicts none where the emulator counts and whole warps store y; those of wgmma and bulk copies are not modelled.
// Measured     no GPU has run it yet: the emulator shows values, races, bank conflicts and bytes, not speed.
// Twin         kernels/ref/linear.cpp: ref_linear, ref_gated_linear.
// Not here     x with rows on three levels, cut otherwise in each view, or of other alignment; float32 (other kernels of linear.h).
#pragma once
#include "linear_heads.cuh"
#include "linear_sm90.h"

namespace ecad::cuda {

template <int TileM_, int TileN_, int Consumers_, int Stages_, bool Gated_, class Y_, int HeadDim_ = 0>
struct LinearSm90Config {
  static constexpr int TileM = TileM_, TileN = TileN_, Consumers = Consumers_, Stages = Stages_;
  static constexpr bool Gated = Gated_;
  static constexpr int HeadDim = HeadDim_;  // 0: columns are not heads
  using Y = Y_;
  static constexpr int Blocks = TileM / 64 / Consumers;  // m64 blocks of a consumer
  static constexpr int Threads = 128 * (Consumers + 1);
  static constexpr int XBytes = TileM * kLineBytes, StageBytes = (TileM + TileN) * kLineBytes;
  static constexpr int StagingPitch = sizeof(Y) == 2 ? 144 : 160, StagingBytes = 16 * StagingPitch;  // of a warp: 16 lines of 128 bytes, free of bank conflicts
  static constexpr int StagingAt = Stages * StageBytes, BarriersAt = StagingAt + 4 * Consumers * StagingBytes;
  static constexpr int SmemBytes = BarriersAt + 16 * Stages;
  static constexpr int ConsumerRegisters = Consumers == 2 ? 232 : 152, ProducerRegisters = 40;  // of one consumer: what the compiler gives
  static_assert(TileM == 64 * Blocks * Consumers, "a consumer owns whole m64 blocks");
  static_assert(TileM <= 256 && TileN <= 256, "boxes of tensor maps have at most 256 rows");
  static_assert(TileN % (Gated ? 32 : 16) == 0, "stmatrix stores pairs of 8 columns");
  static_assert(SmemBytes <= 227 * 1024, "a block of an sm_90 has 227 KB");
  static_assert(HeadDim == 0 || (!Gated && sizeof(Y) == 2 && TileN % HeadDim == 0), "a tile holds whole heads");
  static_assert(Consumers == 1 || 128 * (ProducerRegisters + Consumers * ConsumerRegisters) <= 65536, "registers of a multiprocessor");
};

#if defined(ECAD_SM90A)

// A place in the ring, and the parity that its barriers complete next.
template <int Stages>
struct RingAt {
  int stage = 0;
  u32 parity = 0;
  ECAD_DEVICE void next() {
    if (++stage < Stages) return;
    stage = 0;
    parity ^= 1;
  }
};

// Where the rows of a tile begin, and the end of their sample.
struct SampleRows {
  int sample, first, end;
};
template <class C>
ECAD_DEVICE SampleRows rows_of(int tile_m, int sample_rows) {
  const int tiles = (sample_rows + C::TileM - 1) / C::TileM, sample = tile_m / tiles;
  return {sample, sample * sample_rows + tile_m % tiles * C::TileM, (sample + 1) * sample_rows};
}

// Loads every tile of this block; one thread.
template <class C>
ECAD_DEVICE void linear_produce(const LinearSm90Params& q, u32 smem, u32 full, u32 empty) {
  const LinearParams& p = q.linear;
  const ptx::TensorMap* x[kLinearParts];
  ECAD_UNROLL
  for (int i = 0; i < kLinearParts; ++i) {
    x[i] = &q.x_maps[i];
    if (i >= q.parts || !q.x_in_table[i]) continue;
    x[i] = resolve<const ptx::TensorMap>(p.head.frame, q.x_table[i]);
    ptx::tensormap_acquire(x[i]);
  }
  RingAt<C::Stages> at;
  for (int t = static_cast<int>(ptx::block_x()); t < p.tiles_m * p.tiles_n; t += static_cast<int>(ptx::grid_x())) {
    const TileAt tile = tile_at(t, p.tiles_m, p.tiles_n);
    const SampleRows rows = rows_of<C>(tile.m, q.sample_rows);
    int k_tile = 0;
    ECAD_UNROLL
    for (int i = 0; i < kLinearParts; ++i) {
      const int first = k_tile, end = i < q.parts ? p.parts[i].end_tile : first;
      for (; k_tile < end; ++k_tile, at.next()) {
        const u32 stage = smem + static_cast<u32>(at.stage * C::StageBytes);
        ptx::mbarrier_wait(empty + 8 * at.stage, at.parity ^ 1);
        ptx::mbarrier_arrive_expect(full + 8 * at.stage, C::StageBytes);  // elements outside the tensors count
        ptx::tma_load(stage, x[i], full + 8 * at.stage, 64 * (k_tile - first), rows.first - rows.sample * q.sample_rows, rows.sample);
        ptx::tma_load(stage + C::XBytes, &q.w_map, full + 8 * at.stage, 64 * k_tile, tile.n * C::TileN);
      }
    }
  }
}

// Bias, activation (of heads: none of both) and stores of one m64 block of a tile; warp by warp, 16 rows at a time. end_row: of the sample.
template <class C>
ECAD_DEVICE void linear_store(const LinearParams& p, float (&acc)[C::TileN / 2], u32 staging, int first_row, int end_row, int first_n, int lane) {
  using Y = typename C::Y;
  constexpr int kSize = sizeof(Y), kColumns = C::Gated ? C::TileN / 2 : C::TileN, kLine = kLineBytes / kSize, kPerChunk = 16 / kSize;
  const int first_column = C::Gated ? first_n / 2 : first_n;
  Y* rows[4];  // the lines that this lane stores a chunk of
  ECAD_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int row = first_row + 4 * i + lane / 8;
    rows[i] = row < end_row ? resolve<Y>(p.head.frame, p.y) + row_offset(p.y_rows, row) + first_column : nullptr;
  }
  ECAD_UNROLL
  for (int from = 0; from < kColumns; from += kLine) {  // one line of every row
    ECAD_UNROLL
    for (int c = from; c < from + kLine && c < kColumns; c += 16) {  // two groups of 8 columns
      float v[2][4];
      ECAD_UNROLL
      for (int h = 0; h < 2; ++h) {
        const int group = c / 8 + h, j = C::Gated ? 2 * group : group;
        ECAD_UNROLL
        for (int i = 0; i < 4; ++i) v[h][i] = acc[4 * j + i];
        if constexpr (C::HeadDim == 0) {
          if (!C::Gated) add_bias(p, first_n + 8 * group + lane % 4 * 2, v[h]);
          activate(p.act, v[h]);
        }
        if constexpr (C::Gated) {
          ECAD_UNROLL
          for (int i = 0; i < 4; ++i) v[h][i] *= acc[4 * j + 4 + i];
        }
      }
      if constexpr (kSize == 2) {
        const u32 r[4] = {ptx::pack_bf16(v[0][0], v[0][1]), ptx::pack_bf16(v[0][2], v[0][3]), ptx::pack_bf16(v[1][0], v[1][1]), ptx::pack_bf16(v[1][2], v[1][3])};
        ptx::stmatrix(staging + static_cast<u32>(lane % 16 * C::StagingPitch + (c - from) * 2 + lane / 16 * 16), r);
      } else {
        ECAD_UNROLL
        for (int h = 0; h < 2; ++h) {
          const u32 to = staging + static_cast<u32>(lane / 4 * C::StagingPitch + (c - from + 8 * h + lane % 4 * 2) * 4);
          ptx::st_shared(to, ptx::f32x2{v[h][0], v[h][1]});
          ptx::st_shared(to + 8 * C::StagingPitch, ptx::f32x2{v[h][2], v[h][3]});
        }
      }
    }
    ptx::warp_sync();
    ECAD_UNROLL
    for (int i = 0; i < 4; ++i) {  // four lines at a time
      const int column = from + lane % 8 * kPerChunk, left = p.columns - first_column - column;
      if (rows[i] != nullptr && column < kColumns && left > 0)
        store_chunk(rows[i] + column, staging + static_cast<u32>((4 * i + lane / 8) * C::StagingPitch + lane % 8 * 16), left, p.wide_y);
    }
    ptx::warp_sync();
  }
}

// Multiplies every tile of this block; one consumer warpgroup.
template <class C>
ECAD_DEVICE void linear_consume(const LinearSm90Params& q, u32 smem, u32 full, u32 empty, int consumer) {
  const LinearParams& p = q.linear;
  const int thread = static_cast<int>(ptx::thread_id()) % 128, lane = thread % 32, warp = thread / 32;
  const u32 staging = smem + static_cast<u32>(C::StagingAt + (4 * consumer + warp) * C::StagingBytes);
  const u32 own_x = smem + static_cast<u32>(consumer * C::Blocks * 64 * kLineBytes);
  RingAt<C::Stages> at;
  for (int t = static_cast<int>(ptx::block_x()); t < p.tiles_m * p.tiles_n; t += static_cast<int>(ptx::grid_x())) {
    float acc[C::Blocks][C::TileN / 2];
    u32 last = 0;  // barrier of the stage whose products are under way
    for (int k_tile = 0; k_tile < p.k_tiles; ++k_tile, at.next()) {
      ptx::mbarrier_wait(full + 8 * at.stage, at.parity);
      const u32 x = own_x + static_cast<u32>(at.stage * C::StageBytes), w = smem + static_cast<u32>(at.stage * C::StageBytes + C::XBytes);
      ptx::wgmma_fence(acc);
      ECAD_UNROLL
      for (int kk = 0; kk < 4; ++kk) {
        const ptx::u64 b = ptx::smem_descriptor(w + 32 * kk, ptx::Swizzle::k128, 0, 8 * kLineBytes);
        ECAD_UNROLL
        for (int i = 0; i < C::Blocks; ++i)
          ptx::wgmma_ss<C::TileN>(acc[i], ptx::smem_descriptor(x + 32 * kk + i * 64 * kLineBytes, ptx::Swizzle::k128, 0, 8 * kLineBytes), b, k_tile > 0 || kk > 0);
      }
      ptx::wgmma_commit();
      if (k_tile > 0) {
        ptx::wgmma_wait<1>();
        if (thread == 0) ptx::mbarrier_arrive(last);
      }
      last = empty + 8 * at.stage;
    }
    ptx::wgmma_wait<0>(acc);
    if (thread == 0) ptx::mbarrier_arrive(last);
    const TileAt tile = tile_at(t, p.tiles_m, p.tiles_n);
    const SampleRows rows = rows_of<C>(tile.m, q.sample_rows);
    ECAD_UNROLL
    for (int i = 0; i < C::Blocks; ++i) {
      const int first_row = rows.first + (consumer * C::Blocks + i) * 64 + warp * 16;
      if constexpr (C::HeadDim > 0)
        finish_heads<C::HeadDim, C::TileN / 8, 2>(p, [&](int group, int r, int k) -> float& { return acc[i][4 * group + 2 * r + k]; }, first_row, rows.end, tile.n * C::TileN, lane, 0, 0);
      linear_store<C>(p, acc[i], staging, first_row, rows.end, tile.n * C::TileN, lane);
    }
  }
}

#endif

template <class C>
ECAD_KERNEL ECAD_BOUNDS(C::Threads, 1) linear_sm90(ECAD_PARAMS(LinearSm90Params) q) {
#if defined(ECAD_SM90A)
  enter(q.linear.head);
  const u32 smem = ptx::smem_base(), full = smem + C::BarriersAt, empty = full + 8 * C::Stages;
  const int thread = static_cast<int>(ptx::thread_id()), group = thread / 128;
  if (thread == 0) {
    for (int s = 0; s < C::Stages; ++s) {
      ptx::mbarrier_init(full + 8 * s, 1);
      ptx::mbarrier_init(empty + 8 * s, C::Consumers);
    }
    ptx::fence_mbarrier_init();
  }
  ptx::block_sync();
  if (group == 0) {
    if constexpr (C::Consumers > 1) ptx::setmaxnreg_dec<C::ProducerRegisters>();
    if (thread == 0) linear_produce<C>(q, smem, full, empty);
  } else {
    if constexpr (C::Consumers > 1) ptx::setmaxnreg_inc<C::ConsumerRegisters>();
    linear_consume<C>(q, smem, full, empty, group - 1);
  }
#else
  (void)q;
  ptx::trap();
#endif
}

template <class C>
Status launch_linear_sm90(StreamHandle stream, const LinearSm90Params& q, int32_t blocks) {
  return launch<linear_sm90<C>>(stream, {{static_cast<uint32_t>(blocks)}, C::Threads, C::SmemBytes}, q);
}

}  // namespace ecad::cuda
