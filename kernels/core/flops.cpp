// The work of each op, for reports: not what a backend happens to do.
//
// Flops. A multiply-add counts 2, any other arithmetic, comparison or elementary function (exp, tanh, an activation) counts 1:
//   linear        2 M N K, + M N with an activation       gated_linear  4 M N K + M N, + M N with an activation
//   attention     4 B Nq Nk H D (both products, every key)  patch_embed   2 RB N C Ci p p            conv2d  2 B Ho Wo Co Ci kh kw
//   chain         per element: 2 per gated term, 1 per other; norm layer 7, rms 5; weight 1, bias 1, modulation 2
//   group_norm    9 per element, + 1 with an activation   lincomb       2 n per element              add, unary  1 per element
//   qk_norm_rope  9 per element of q and k: norm 5, weight 1, rotation 3
//   timestep      4 per element                           copy, unpatchify, embedding, upsample, permute  0
// A bias is free: it is where the sum starts.
//
// Bytes. Each operand's elements once, at their stored size; of an embedding table only the rows that are read.
#include <initializer_list>
#include <limits>

#include "decode.h"

namespace ecad {
namespace {

constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();

uint64_t product(std::initializer_list<int64_t> factors) {
  uint64_t result = 1;
  for (const int64_t f : factors) {
    const auto v = static_cast<uint64_t>(f);
    if (v != 0 && result > kMost / v) return kMost;
    result *= v;
  }
  return result;
}

uint64_t sum(uint64_t a, uint64_t b) { return a > kMost - b ? kMost : a + b; }

uint64_t chain_flops(const Program& p, const Op& op) {
  const size_t n = static_cast<size_t>(op.attr[0]), scale = 1 + 2 * n;
  int64_t each = 0;
  for (size_t i = 0; i < n; ++i) each += op.in[2 + 2 * i] == kNoTensor ? 1 : 2;
  if (op.out[1] != kNoTensor) {
    each += op.attr[1] == static_cast<int32_t>(Norm::kLayer) ? 7 : op.attr[1] == static_cast<int32_t>(Norm::kRms) ? 5 : 0;
    each += op.in[scale] != kNoTensor ? 2 : 0;
    each += (op.in[scale + 2] != kNoTensor ? 1 : 0) + (op.in[scale + 3] != kNoTensor ? 1 : 0);
  }
  return product({p.tensors[op.in[0]].count(), each});
}

uint64_t flops(const Program& p, const Op& op) {
  const auto in = [&](size_t i) -> const Tensor& { return p.tensors[op.in[i]]; };
  const Tensor& y = p.tensors[op.out[0] != kNoTensor ? op.out[0] : op.out[1]];
  const int64_t count = y.count();
  switch (op.code) {
    case Opcode::kLinear: return sum(product({2, count, in(static_cast<size_t>(op.attr[0])).cols()}), op.attr[2] ? product({count}) : 0);
    case Opcode::kGatedLinear: return sum(product({4, count, in(0).cols()}), product({op.attr[0] ? 2 : 1, count}));
    case Opcode::kAttention: return product({4, count, in(1).dims[1]});
    case Opcode::kChain: return chain_flops(p, op);
    case Opcode::kPatchEmbed: return product({2, count, in(1).dims[1], op.attr[0], op.attr[0]});
    case Opcode::kTimestepEmbed: return product({4, count});
    case Opcode::kLincomb: return product({2, op.attr[0], count});
    case Opcode::kAdd: case Opcode::kUnary: return product({count});
    case Opcode::kConv2d: return product({2, count, in(1).dims[1], in(1).dims[2], in(1).dims[3]});
    case Opcode::kGroupNorm: return product({op.attr[1] ? 10 : 9, count});
    case Opcode::kQkNormRope: return product({18, count});
    case Opcode::kCopy: case Opcode::kUnpatchify: case Opcode::kEmbedding: case Opcode::kUpsample: case Opcode::kPermute: break;
  }
  return 0;
}

}  // namespace

uint64_t op_bytes(const Program& p, const Op& op, const uint32_t* weight_element_bytes) {
  uint64_t total = 0;
  const auto count = [&](uint32_t tensor, int64_t elements) {
    const Tensor& t = p.tensors[tensor];
    const size_t size = t.dtype != DType::kAny ? dtype_size(t.dtype) : weight_element_bytes ? weight_element_bytes[t.buffer] : 4;
    total = sum(total, product({elements, static_cast<int64_t>(size)}));
  };
  for (size_t i = 0; i < op.in.size(); ++i) {
    if (op.in[i] == kNoTensor) continue;
    const bool table = op.code == Opcode::kEmbedding && i == 1;
    count(op.in[i], table ? p.tensors[op.out[0]].count() : p.tensors[op.in[i]].count());
  }
  for (const uint32_t t : op.out) {
    if (t != kNoTensor) count(t, p.tensors[t].count());
  }
  return total;
}

void count_work(Program* program) {
  for (Op& op : program->ops) {
    op.flops = flops(*program, op);
    op.bytes = op_bytes(*program, op, nullptr);
  }
}

}  // namespace ecad
