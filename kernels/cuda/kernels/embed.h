// What the embedding kernels are given.
#pragma once
#include "../launch.h"
#include "views.h"

namespace ecad::cuda {

constexpr int kEmbedThreads = 128;

struct EmbeddingParams {
  Head head;
  Ref ids, table, y;
  int64_t id_strides[3], y_strides[3];  // bytes, of up to three leading dims
  uint32_t dims[3];
  int64_t table_stride;                 // bytes
  int32_t vocabulary, cols, wide;
  Elem table_elem, y_elem;
};

struct TimestepParams {
  Head head;
  Ref t, y;
  const float* frequencies;  // [half]
  int64_t y_stride;          // bytes
  float scale;
  int32_t rows, half, cos_first;
  Elem t_elem, y_elem;
};

struct PatchParams {
  Head head;
  Ref x, y;
  const float* weight;      // [Ci p p, C]
  const float* bias;        // [C] or null
  Ref pos;                  // [N, C]
  int64_t x_strides[4], y_batch, y_token, pos_token;  // bytes
  Elem x_elem, y_elem, pos_elem;
  int32_t has_pos, batch, repeat, tokens, across, patch, depth, cols;  // across: patches of a row; depth: Ci p p
};

Status launch_embedding(StreamHandle, const EmbeddingParams&);
Status launch_timestep(StreamHandle, const TimestepParams&);
Status launch_patch_embed(StreamHandle, const PatchParams&);

}  // namespace ecad::cuda
