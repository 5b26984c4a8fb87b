// An attention op on random operands, for the tests of each family of kernels. Include after op_case.inc.
#pragma once

namespace op_test {

struct AttentionShape {
  int64_t b, heads, dim, queries, keys;
  DType type;
  bool fused, counts, bias, causal;
};

inline Case attention_case(const AttentionShape& s) {
  Case c("attention", Opcode::kAttention);
  for (const int64_t n : {s.b, s.heads, s.dim, s.queries, s.keys, static_cast<int64_t>(s.type), static_cast<int64_t>(s.fused), static_cast<int64_t>(s.counts), static_cast<int64_t>(s.bias), static_cast<int64_t>(s.causal)})
    c.name += " " + std::to_string(n);
  c.depth = static_cast<double>(s.dim + s.keys);
  const int64_t width = s.heads * s.dim;
  c.attr = {static_cast<int32_t>(s.heads), static_cast<int32_t>(s.dim), s.causal, 0, 0, 0, 0, 0};
  c.fattr[0] = 1 / std::sqrt(static_cast<double>(s.dim));
  c.input({s.b, s.queries, width}, s.type, 2, s.fused ? 2 * width : 0);
  for (int i = 0; i < 2; ++i) c.input({s.b, s.keys, width}, s.type, 1.5, s.fused ? width : 0);
  if (s.counts) {
    std::vector<int32_t> counts;
    for (int64_t b = 0; b < s.b; ++b) counts.push_back(static_cast<int32_t>(b == 0 ? s.keys : 1 + (s.keys - 1) * b / (s.b + 1)));
    for (Arg* a : {&c.in[1], &c.in[2]}) {
      a->unread.assign(a->values.size(), 0);
      for (int64_t b = 0; b < s.b; ++b)
        for (int64_t j = counts[static_cast<size_t>(b)]; j < s.keys; ++j) std::fill_n(a->unread.begin() + (b * s.keys + j) * width, width, 1);
    }
    c.integers({s.b}, counts);
  } else {
    c.absent();
  }
  if (s.bias) c.input({s.heads, s.queries, s.keys}, s.type, 1, 5); else c.absent();
  c.output({s.b, s.queries, width}, s.type, s.fused ? width : 0);
  return c;
}

}  // namespace op_test
