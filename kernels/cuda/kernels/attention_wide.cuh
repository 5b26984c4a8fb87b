// Attention in bfloat16 on mma.sync for head dims up to 512 (the image decoder's middle block has one head of 512).
//
// Computes     as attention_mma.cuh, without bias. D a multiple of 8 up to 512.
// Accumulates  in float32; probabilities are rounded to bfloat16 for the second product. Keys in order, 64 at a time: the same on every run.
// Grid/block   grid (ceil(Nq / 64), H, B), 8 warps = 4 groups of 16 queries x 2. The two warps of a group halve the keys of a tile for the scores, and
//              the columns of every 64 for y; they agree on maxima through shared memory and pass the probabilities there. Queries stay in
//              shared memory; keys, then values, come in slices of 64 rows x 64 columns through two buffers filled by cp.async. Rows are an odd
//              number of 16-byte units. Shared memory: 64 (2 Dp + 16) + 3 x 9216 + 1024 bytes, Dp = D rounded up to 64: 93 KB for D = 512.
// Expected     bytes = 2 B H D (2 Nq + 2 ceil(Nq / 64) count), keys and values from L2 but for the first block; FLOPs = 4 B H Nq count D. Limited by
//              shared memory: every warp loads 16 rows of one operand for 32 of the other, about half of what the tensor cores take.
// Edge cases   as attention_mma.cuh.
// Bank conflicts none in the main loop; two-way where the last slice of y is read back for D not a multiple of 64.
// Twin         kernels/ref/attention.cpp: ref_attention.
// Not here     a bias, other dtypes, unaligned rows, scale <= 0 (attention_tiled.cuh).
#pragma once
#include "attention.h"
#include "attention_count.cuh"
#include "elements.cuh"

namespace ecad::cuda {

struct AttentionWideConfig {
  static constexpr int kThreads = 256, kQueries = 64, kKeys = 64, kSlice = 64, kSlices = kMaxHeadDim / kSlice;
  static constexpr int kPitch = 144;  // of slices and probabilities: 9 units
  static constexpr uint32_t kSliceBytes = kKeys * kPitch;
  static uint32_t smem_bytes(int slices) { return static_cast<uint32_t>(kQueries * query_pitch(slices)) + 3 * kSliceBytes + 2 * 2 * kQueries * 4; }
  ECAD_HOST_DEVICE static int query_pitch(int slices) { return 128 * slices + 16; }
};

namespace attention_wide {

using C = AttentionWideConfig;

// Where a thread and its warp stand.
struct Place {
  int thread, lane, group, side;  // group: of 16 queries; side: which half
};

// rows [first, first + 64) x columns [column, column + 64 slices) of one head to shared memory; outside rows `end` and columns `depth`: 0.
ECAD_DEVICE void copy_rows(uint32_t to, int pitch, const char* base, int64_t row_bytes, int first, int end, int column, int slices, int depth, int thread) {
  for (int i = thread; i < 64 * 8 * slices; i += C::kThreads) {
    const int row = i / (8 * slices), unit = i % (8 * slices);
    const bool live = first + row < end && column + 8 * unit < depth;
    ptx::cp_async<16>(to + static_cast<uint32_t>(row * pitch + 16 * unit), base + (live ? (first + row) * row_bytes + 2 * column + 16 * unit : 0), live ? 16 : 0);
  }
}

// scores += q k^T over one slice: 16 queries by 32 keys.
ECAD_DEVICE void multiply_keys(float (&scores)[4][4], uint32_t queries, uint32_t keys, const Place& at) {
  const uint32_t row = keys + static_cast<uint32_t>((at.side * 32 + at.lane % 8 + at.lane / 16 * 8) * C::kPitch + at.lane / 8 % 2 * 16);
  ECAD_UNROLL
  for (uint32_t k = 0; k < 4; ++k) {
    uint32_t a[4];
    ptx::ldmatrix<4>(a, queries + 32 * k);
    ECAD_UNROLL
    for (uint32_t pair = 0; pair < 2; ++pair) {
      uint32_t b[4];
      ptx::ldmatrix<4>(b, row + pair * 16 * C::kPitch + 32 * k);
      ptx::mma_m16n8k16(scores[2 * pair], a, b[0], b[1]);
      ptx::mma_m16n8k16(scores[2 * pair + 1], a, b[2], b[3]);
    }
  }
}

// y += p v over one slice: 16 queries by 32 columns.
ECAD_DEVICE void multiply_values(float (&y)[4][4], const uint32_t (&p)[4][4], uint32_t values, const Place& at) {
  const uint32_t row = values + static_cast<uint32_t>(at.lane % 16 * C::kPitch + 16 * (at.side * 4 + at.lane / 16));
  ECAD_UNROLL
  for (uint32_t k = 0; k < 4; ++k) {
    ECAD_UNROLL
    for (uint32_t pair = 0; pair < 2; ++pair) {
      uint32_t b[4];
      ptx::ldmatrix<4, true>(b, row + 16 * k * C::kPitch + 32 * pair);
      ptx::mma_m16n8k16(y[2 * pair], p[k], b[0], b[1]);
      ptx::mma_m16n8k16(y[2 * pair + 1], p[k], b[2], b[3]);
    }
  }
}

// Scores to probabilities in shared memory; keep: the factor of earlier sums. `rows` holds a value per side and query. One barrier inside.
ECAD_DEVICE void soften(float (&scores)[4][4], float (&most)[2], float (&total)[2], float (&keep)[2], float factor, uint32_t rows, uint32_t probabilities, const Place& at) {
  const int row = at.group * 16 + at.lane / 4;
  float top[2];
  ECAD_UNROLL
  for (int half = 0; half < 2; ++half) {
    top[half] = -kInfinity;
    ECAD_UNROLL
    for (int n = 0; n < 4; ++n) top[half] = fmaxf(top[half], fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
    top[half] = fmaxf(top[half], ptx::shfl_xor(top[half], 1));
    top[half] = fmaxf(top[half], ptx::shfl_xor(top[half], 2));
    if (at.lane % 4 == 0) ptx::st_shared(rows + static_cast<uint32_t>(at.side * C::kQueries + row + 8 * half) * 4, top[half]);
  }
  ptx::block_sync();
  ECAD_UNROLL
  for (int half = 0; half < 2; ++half) {
    const float other = ptx::ld_shared<float>(rows + static_cast<uint32_t>((1 - at.side) * C::kQueries + row + 8 * half) * 4);
    const float now = fmaxf(most[half], fmaxf(top[half], other) * factor);
    keep[half] = ptx::ex2_approx(most[half] - now);
    most[half] = now;
    float sum = 0.f;
    ECAD_UNROLL
    for (int n = 0; n < 4; ++n) {
      const float p0 = ptx::ex2_approx(scores[n][2 * half] * factor - now), p1 = ptx::ex2_approx(scores[n][2 * half + 1] * factor - now);
      sum += p0 + p1;
      ptx::st_shared(probabilities + static_cast<uint32_t>((row + 8 * half) * C::kPitch + 2 * (at.side * 32 + 8 * n + at.lane % 4 * 2)), ptx::pack_bf16(p0, p1));
    }
    total[half] = total[half] * keep[half] + sum;
  }
}

// y / total through shared memory to 16-byte stores. Barriers inside; queries are overwritten.
ECAD_DEVICE void store_result(float (&y)[C::kSlices][4][4], float (&total)[2], const AttentionParams& p, int slices, uint32_t smem, uint32_t rows, int first, int head, int sample, const Place& at) {
  const int row = at.group * 16 + at.lane / 4, pitch = C::query_pitch(slices);
  ECAD_UNROLL
  for (int half = 0; half < 2; ++half) {
    total[half] += ptx::shfl_xor(total[half], 1);
    total[half] += ptx::shfl_xor(total[half], 2);
    if (at.lane % 4 == 0) ptx::st_shared(rows + static_cast<uint32_t>(at.side * C::kQueries + row + 8 * half) * 4, total[half]);
  }
  ptx::block_sync();
  ECAD_UNROLL
  for (int half = 0; half < 2; ++half) {
    const float inverse = 1.f / (total[half] + ptx::ld_shared<float>(rows + static_cast<uint32_t>((1 - at.side) * C::kQueries + row + 8 * half) * 4));
    ECAD_UNROLL
    for (int c = 0; c < C::kSlices; ++c) {
      if (c >= slices) continue;
      ECAD_UNROLL
      for (int n = 0; n < 4; ++n)
        ptx::st_shared(smem + static_cast<uint32_t>((row + 8 * half) * pitch + 2 * (C::kSlice * c + 32 * at.side + 8 * n + at.lane % 4 * 2)), ptx::pack_bf16(y[c][n][2 * half] * inverse, y[c][n][2 * half + 1] * inverse));
    }
  }
  ptx::block_sync();
  char* out = resolve<char>(p.head.frame, p.y.ref) + sample * p.y.batch + static_cast<int64_t>(head) * p.depth * 2;
  for (int i = at.thread; i < C::kQueries * 8 * slices; i += C::kThreads) {
    const int r = i / (8 * slices), unit = i % (8 * slices);
    if (first + r < p.queries && 8 * unit < p.depth) ptx::st_global(out + (first + r) * p.y.token + 16 * unit, ptx::ld_shared<ptx::u32x4>(smem + static_cast<uint32_t>(r * pitch + 16 * unit)));
  }
}

}  // namespace attention_wide

ECAD_KERNEL ECAD_BOUNDS(AttentionWideConfig::kThreads) attention_wide_kernel(ECAD_PARAMS(AttentionParams) p) {
  using namespace attention_wide;
  enter(p.head);
  const int thread = static_cast<int>(ptx::thread_id());
  const Place at{thread, thread % 32, thread / 32 % 4, thread / 128};
  const int first = static_cast<int>(ptx::block_x()) * C::kQueries, head = static_cast<int>(ptx::block_y()), sample = static_cast<int>(ptx::block_z());
  const int count = key_count(p, sample, thread);
  if (count == 0) return;
  const int64_t column = static_cast<int64_t>(head) * p.depth * 2;
  const char* k = resolve<const char>(p.head.frame, p.k.ref) + sample * p.k.batch + column;
  const char* v = resolve<const char>(p.head.frame, p.v.ref) + sample * p.v.batch + column;
  const int slices = (p.depth + C::kSlice - 1) / C::kSlice, pitch = C::query_pitch(slices);
  const int end = p.causal && first + C::kQueries < count ? first + C::kQueries : count;
  const int items = (end + C::kKeys - 1) / C::kKeys * 2 * slices;  // slices of keys, then of values, tile after tile
  const uint32_t smem = ptx::smem_base(), buffers = smem + static_cast<uint32_t>(C::kQueries * pitch);
  const uint32_t probabilities = buffers + 2 * C::kSliceBytes, rows = probabilities + C::kSliceBytes;
  const auto copy_item = [&](int item) {
    const int slice = item % slices, tile = item / (2 * slices);
    const bool values = item / slices % 2 == 1;
    copy_rows(buffers + static_cast<uint32_t>(item % 2) * C::kSliceBytes, C::kPitch, values ? v : k, values ? p.v.token : p.k.token, tile * C::kKeys, count, slice * C::kSlice, 1, p.depth, thread);
  };
  copy_rows(smem, pitch, resolve<const char>(p.head.frame, p.q.ref) + sample * p.q.batch + column, p.q.token, first, p.queries, 0, slices, p.depth, thread);
  copy_item(0);
  ptx::cp_async_commit();
  // the item is there, and nobody reads the one before any more
  const auto next_item = [&](int item) {
    ptx::cp_async_wait<0>();
    ptx::block_sync();
    if (item + 1 < items) copy_item(item + 1);
    ptx::cp_async_commit();
    return buffers + static_cast<uint32_t>(item % 2) * C::kSliceBytes;
  };

  constexpr float kLog2e = 1.4426950408889634f;
  const uint32_t queries = smem + static_cast<uint32_t>((at.group * 16 + at.lane % 16) * pitch + at.lane / 16 * 16);
  float y[C::kSlices][4][4] = {}, most[2] = {-kInfinity, -kInfinity}, total[2] = {}, keep[2];
  for (int item = 0; item < items;) {
    float scores[4][4] = {};
    const int key = item / (2 * slices) * C::kKeys;
    for (int c = 0; c < slices; ++c, ++item) {
      const uint32_t keys = next_item(item);
      multiply_keys(scores, queries + static_cast<uint32_t>(128 * c), keys, at);
    }
    ECAD_UNROLL
    for (int n = 0; n < 4; ++n) {
      ECAD_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int j = key + at.side * 32 + 8 * n + at.lane % 4 * 2 + i % 2, row = first + at.group * 16 + at.lane / 4 + i / 2 * 8;
        if (j >= count || (p.causal && j > row)) scores[n][i] = -kInfinity;
      }
    }
    soften(scores, most, total, keep, p.scale * kLog2e, rows, probabilities, at);
    uint32_t a[4][4];
    ECAD_UNROLL
    for (int c = 0; c < C::kSlices; ++c) {
      if (c >= slices) continue;
      const uint32_t values = next_item(item++);
      if (c == 0) {  // the barrier has let the other side's probabilities through
        ECAD_UNROLL
        for (uint32_t s = 0; s < 4; ++s) ptx::ldmatrix<4>(a[s], probabilities + static_cast<uint32_t>((at.group * 16 + at.lane % 16) * C::kPitch + at.lane / 16 * 16) + 32 * s);
      }
      ECAD_UNROLL
      for (int n = 0; n < 4; ++n) {
        ECAD_UNROLL
        for (int i = 0; i < 4; ++i) y[c][n][i] *= keep[i / 2];
      }
      multiply_values(y[c], a, values, at);
    }
  }
  ptx::cp_async_wait<0>();
  ptx::block_sync();  // the last maxima and queries have been read
  store_result(y, total, p, slices, smem, rows, first, head, sample, at);
}

}  // namespace ecad::cuda
