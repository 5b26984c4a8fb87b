// Norm and rotation of queries and keys on random operands, for the tests of each backend. Include after op_case.inc.
#pragma once

namespace op_test {

struct HeadShape {
  int64_t b, n, heads, dim;
  DType q, k, w, rope, y;
  bool fused, in_place;  // fused: q and k are columns of a product three times as wide, rows of a larger buffer; in place: q' is q
};

inline Case qk_norm_rope_case(const HeadShape& s) {
  Case c("qk_norm_rope", Opcode::kQkNormRope);
  for (const int64_t n : {s.b, s.n, s.heads, s.dim, static_cast<int64_t>(s.q), static_cast<int64_t>(s.k), static_cast<int64_t>(s.w), static_cast<int64_t>(s.rope), static_cast<int64_t>(s.y), static_cast<int64_t>(s.fused), static_cast<int64_t>(s.in_place)})
    c.name += " " + std::to_string(n);
  const int64_t width = s.heads * s.dim, gap = s.fused ? 2 * width : 0, outer_gap = s.fused ? 5 * width : 0;
  c.depth = static_cast<double>(s.dim);
  c.attr = {static_cast<int32_t>(s.heads), static_cast<int32_t>(s.dim), 0, 0, 0, 0, 0, 0};
  c.fattr[0] = 1e-6;
  for (const DType t : {s.q, s.k}) c.input({s.b, s.n, width}, t, 3, gap, outer_gap);
  for (int i = 0; i < 2; ++i) c.weight({s.dim}, s.w);
  c.input({s.n, s.dim}, s.rope, 1, s.fused ? 2 : 0);
  for (int i = 0; i < 2; ++i) c.output({s.b, s.n, width}, s.y, gap, outer_gap);
  if (s.in_place) c.alias = 0;
  return c;
}

}  // namespace op_test
