// What the attention kernels are given.
#pragma once
#include "../launch.h"
#include "views.h"

namespace ecad::cuda {

struct AttentionParams {
  Head head;
  TokenView q, k, v, y;
  TokenView bias;  // [H,Nq,Nk]: batch is the head's stride, token the query's; dense along the keys
  Ref counts;      // int32 [B]
  int32_t has_counts, causal, heads, depth, queries, keys;
  float scale;
};

constexpr int kMaxHeadDim = 512;      // of attention_wide (in multiples of 8) and attention_tiled
constexpr int kMaxMmaHeadDim = 128;   // of attention_mma, in multiples of 8

// large: blocks of 128 queries where the registers allow them, else of 64.
Status launch_attention_mma(StreamHandle, bool large, int32_t batch, const AttentionParams&);
Status launch_attention_wide(StreamHandle, int32_t batch, const AttentionParams&);
Status launch_attention_tiled(StreamHandle, int32_t batch, const AttentionParams&);

}  // namespace ecad::cuda
