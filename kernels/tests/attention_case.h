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

// Outliers: N(0,1) + N(0,100) with probability 0.001.
inline Case with_outliers(Case c) {
  c.name += " outliers";
  for (size_t i = 0; i < 3; ++i)
    for (size_t k = 0; k < c.in[i].values.size(); k += 997) c.in[i].values[k] = rounded(c.in[i].values[k] + 10 * c.random.normal(), c.in[i].dtype);
  return c;
}

// Equal scores and integer values: exact sums.
inline Case with_exact_sums(Case c) {
  c.name += " exact";
  c.exact = true;
  std::fill(c.in[0].values.begin(), c.in[0].values.end(), 0.0);
  for (double& v : c.in[2].values) v = static_cast<double>(c.random.below(9) - 4);
  return c;
}

// Key counts outside 1..20 are errors that name them.
inline void check_bad_counts(Backend& cuda, DType t) {
  for (const int32_t count : {0, 21, -5}) {
    ++checks;
    Case c = attention_case({1, 1, 64, 4, 20, t, false, true, false, false});
    c.name = "a key count outside 1..20";
    c.in[3].values[0] = count;
    const Outcome o = run_case(c, cuda, false);
    if (o.status.code() != ECAD_INVALID_ARGUMENT || o.status.message().find(std::to_string(count)) == std::string::npos) fail(c, "status " + std::to_string(o.status.code()) + " \"" + o.status.message() + "\"");
  }
}

}  // namespace op_test
