// The opcodes as a list, for backends that bind one kernel per op: each declares Status bind_NAME(const Binder&, ...) for all of them and switches over them, so that
// an opcode that a backend forgets does not compile.
#pragma once
#include "program.h"

#define ECAD_EACH_OPCODE(DO)                  \
  DO(kCopy, copy)                             \
  DO(kLinear, linear)                         \
  DO(kGatedLinear, gated_linear)              \
  DO(kAttention, attention)                   \
  DO(kChain, chain)                           \
  DO(kPatchEmbed, patch_embed)                \
  DO(kUnpatchify, unpatchify)                 \
  DO(kTimestepEmbed, timestep_embed)          \
  DO(kEmbedding, embedding)                   \
  DO(kLincomb, lincomb)                       \
  DO(kAdd, add)                               \
  DO(kUnary, unary)                           \
  DO(kConv2d, conv2d)                         \
  DO(kGroupNorm, group_norm)                  \
  DO(kUpsample, upsample)                     \
  DO(kPermute, permute)                       \
  DO(kQkNormRope, qk_norm_rope)
