// Host side of attention_sm90.cuh and attention_resident_sm90.cuh.
#pragma once
#include "../tensor_map.h"
#include "attention.h"

namespace ecad::cuda {

struct AttentionSm90Params {
  TensorMap q[2], k[2], v[2];  // of operands with fixed addresses: 64 columns at a time, and columns from 64 on of head dim 72
  AttentionParams base;
  Ref q_table[2], k_table[2], v_table[2];  // where the maps of other operands are
  int32_t in_table[3];                     // q, k, v
  int32_t span;                            // resident kernels: tiles of queries of a block
};

// Blocks of 64 consumers queries; keys in tiles of `keys`. resident: how many keys stay in shared memory for all queries of a block; 0: they stream by.
struct AttentionSm90Variant {
  int32_t depth, keys, consumers, resident;
  Status (*launch)(StreamHandle, int32_t batch, const AttentionSm90Params&);
};
struct AttentionSm90Variants {
  const AttentionSm90Variant* first;
  int32_t count;
};
AttentionSm90Variants attention_sm90_variants();
AttentionSm90Variants attention_resident_sm90_variants();
// Null: no kernel for this head dim.
const AttentionSm90Variant* choose_attention_sm90(int32_t batch, const AttentionParams&, int32_t multiprocessors);

// Tiles of 128 queries that a block of a resident kernel takes: as many as leave each multiprocessor a block.
int32_t attention_span(int32_t batch, const AttentionParams&, int32_t multiprocessors);

// Maps of an operand [B,N,H D] with those strides in bytes, for boxes of that many rows; fills out[1] for head dim 72 alone.
void attention_maps(const void* base, const TokenView&, int32_t batch, int32_t rows, const AttentionParams&, int32_t box_rows, TensorMapDesc (&out)[2]);

}  // namespace ecad::cuda
