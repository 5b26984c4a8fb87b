// Every opcode of the cpu backend against the reference: shapes with every kind of tail, strided views, types mixed, 1 to 3 threads, every
// instruction set of this machine.
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "../cpu/cpuid.h"
#include "op_case.inc"
#include "head_case.h"

namespace {

using namespace op_test;

constexpr DType F = DType::kF32, H = DType::kBF16, S = DType::kF16;

struct Suite {
  const std::vector<Backend*>& cpu;
  Backend& reference;
  void operator()(const Case& c) const { check_case(c, cpu, reference); }
};

std::string label(const char* what, std::initializer_list<int64_t> numbers) {
  std::string s = what;
  for (const int64_t n : numbers) s += " " + std::to_string(n);
  return s;
}

// ---- products ----------------------------------------------------------------------------------------------------

Case linear_case(int64_t rows, int64_t k, std::vector<int64_t> widths, DType xt, DType wt, DType yt, Act act, bool bias, int64_t gap) {
  int64_t n = 0;
  for (const int64_t w : widths) n += w;
  Case c(label("linear", {rows, k, n, static_cast<int64_t>(xt), static_cast<int64_t>(wt), static_cast<int64_t>(yt), static_cast<int64_t>(act), gap}), Opcode::kLinear);
  c.depth = static_cast<double>(k);
  c.attr = {1, static_cast<int32_t>(widths.size()), static_cast<int32_t>(act), 0, 0, 0, 0, 0};
  c.input({rows, k}, xt, 1, gap);
  for (const int64_t w : widths) c.weight({w, k}, wt, 1 / std::sqrt(static_cast<double>(k)));
  for (size_t j = 0; j < widths.size(); ++j) {
    if (bias && j != 1) c.weight({widths[j]}, wt); else c.absent();
  }
  c.output({rows, n}, yt, gap);
  return c;
}

void test_linear(const Suite& check) {
  const Act acts[] = {Act::kNone, Act::kGeluTanh, Act::kGeluErf, Act::kSilu, Act::kQuickGelu, Act::kRelu};
  for (const Act a : acts) {
    check(linear_case(37, 50, {100}, F, F, F, a, true, 0));
    check(linear_case(64, 144, {576}, H, H, H, a, true, 0));
  }
  for (const int64_t rows : {1, 2, 4, 7, 64, 129, 300})
    for (const DType t : {F, H}) check(linear_case(rows, 72, {56}, t, t, t, Act::kNone, true, 0));
  for (const int64_t k : {1, 3, 16, 31, 33, 257})
    for (const DType t : {F, H}) check(linear_case(19, k, {17}, t, t, t, Act::kNone, false, 0));
  for (const DType x : {F, H, S})
    for (const DType w : {F, H, S})
      for (const DType y : {F, H, S}) check(linear_case(21, 40, {24}, x, w, y, Act::kGeluTanh, true, 8));
  for (const DType t : {F, H}) {
    check(linear_case(130, 96, {96, 96, 96}, t, t, t, Act::kNone, true, 0));   // q, k, v in one product; one of the three without bias
    check(linear_case(130, 64, {700, 333}, t, t, t, Act::kSilu, true, 0));     // more than one chunk of columns, one over the seam
    check(linear_case(40, 64, {1600}, t, t, t, Act::kNone, true, 24));
  }
  for (const DType t : {F, H}) {  // concatenated inputs of different types, samples with gaps between them
    Case c(label("linear concat", {static_cast<int64_t>(t)}), Opcode::kLinear);
    c.depth = 120;
    c.attr = {3, 1, 0, 0, 0, 0, 0, 0};
    c.input({3, 30, 40}, t, 1, 8, 48);
    c.input({3, 30, 16}, t);
    c.input({3, 30, 64}, F, 1, 1, 3);
    c.weight({48, 120}, t, 0.1);
    c.weight({48}, F);
    c.output({3, 30, 48}, t, 4, 52);
    check(c);
  }
  for (const DType t : {F, H}) {  // concatenated inputs and several chunks of columns
    Case c(label("linear concat, chunks", {static_cast<int64_t>(t)}), Opcode::kLinear);
    c.depth = 96;
    c.attr = {2, 1, static_cast<int32_t>(Act::kGeluTanh), 0, 0, 0, 0, 0};
    c.input({2, 75, 24}, t, 1, 8, 48);
    c.input({2, 75, 72}, t);
    c.weight({800, 96}, t, 0.1);
    c.weight({800}, F);
    c.output({2, 75, 800}, t, 4, 52);
    check(c);
  }
  Case c("linear with a matrix that is no weight", Opcode::kLinear);
  c.attr = {1, 2, 0, 0, 0, 0, 0, 0};
  c.input({9, 20}, F);
  c.input({8, 20}, F, 0.2, 4);
  c.weight({5, 20}, F, 0.2);
  c.input({8}, F);
  c.absent();
  c.output({9, 13}, F);
  check(c);
}

// More concatenated rows than are gathered at a time: row r holds a 1 at place 17 r, so that it picks a column of the weights.
void test_linear_of_many_rows(const Suite& check) {
  const int64_t rows = 700, k = 12000, n = 800;
  Case c("linear concat, more rows than one panel", Opcode::kLinear);
  c.attr = {2, 1, 0, 0, 0, 0, 0, 0};
  c.input({rows, 5000}, F);
  c.input({rows, k - 5000}, F);
  for (Arg& a : c.in) std::fill(a.values.begin(), a.values.end(), 0.0);
  for (int64_t r = 0; r < rows; ++r) {
    Arg& a = c.in[17 * r < 5000 ? 0 : 1];
    a.values[static_cast<size_t>(r * a.dims[1] + (17 * r < 5000 ? 17 * r : 17 * r - 5000))] = 1;
  }
  c.weight({n, k}, F);
  c.absent();
  c.output({rows, n}, F);
  ++checks;
  const Outcome got = run_case(c, *check.cpu[0], false);
  bool right = got.status.is_ok() && got.intact;
  for (int64_t i = 0; right && i < rows * n; ++i) right = got.values[0][static_cast<size_t>(i)] == c.in[2].values[static_cast<size_t>(i % n * k + 17 * (i / n))];
  if (!right) fail(c, "a row is not the column it picks");
}

void test_gated_linear(const Suite& check) {
  for (const DType t : {F, H})
    for (const int64_t n : {24, 160, 900}) {
      Case c(label("gated_linear", {n, static_cast<int64_t>(t)}), Opcode::kGatedLinear);
      c.depth = 64;
      c.attr[0] = static_cast<int32_t>(n == 24 ? Act::kSilu : Act::kGeluTanh);
      c.input({2, 41, 64}, t, 1, n == 24 ? 3 : 0, n == 24 ? 70 : 0);
      c.weight({n, 64}, H, 0.2);
      c.weight({n, 64}, H, 0.2);
      c.output({2, 41, n}, t, n == 24 ? 5 : 0);
      check(c);
    }
}

void test_patch_embed(const Suite& check) {
  for (const DType t : {F, H})
    for (const int64_t p : {1, 2, 3}) {
      Case c(label("patch_embed", {p, static_cast<int64_t>(t)}), Opcode::kPatchEmbed);
      c.depth = static_cast<double>(4 * p * p);
      c.attr = {static_cast<int32_t>(p), p == 2 ? 2 : 1, 0, 0, 0, 0, 0, 0};
      c.input({2, 4, 5 * p, 7 * p}, t, 1, p == 2 ? 3 : 0, p == 2 ? 6 : 0);
      c.weight({72, 4, p, p}, F, 0.3);
      if (p == 3) c.absent(); else c.weight({72}, F);
      if (p == 1) c.absent(); else c.input({35, 72}, F);
      c.output({p == 2 ? 4 : 2, 35, 72}, t, p == 3 ? 8 : 0);
      check(c);
    }
}

void test_conv2d(const Suite& check) {
  struct Shape { int64_t b, h, w, ci, co, k, stride, pad; };
  const Shape shapes[] = {{1, 8, 8, 16, 32, 3, 1, 1}, {2, 9, 7, 4, 3, 3, 1, 1}, {2, 10, 11, 16, 24, 3, 2, 1}, {1, 6, 5, 20, 20, 1, 1, 0},
                          {1, 12, 9, 8, 16, 2, 2, 0}, {1, 25, 24, 40, 40, 3, 1, 1}, {1, 9, 9, 8, 8, 3, 3, 0}, {1, 4, 4, 8, 8, 4, 3, 3}};
  for (const Shape& s : shapes)
    for (const DType t : {F, H}) {
      Case c(label("conv2d", {s.b, s.h, s.w, s.ci, s.co, s.k, s.stride, s.pad, static_cast<int64_t>(t)}), Opcode::kConv2d);
      c.depth = static_cast<double>(s.ci * s.k * s.k);
      c.attr = {static_cast<int32_t>(s.stride), static_cast<int32_t>(s.pad), 0, 0, 0, 0, 0, 0};
      const int64_t gap = s.h == 9 ? 5 : 0;
      c.input({s.b, s.h, s.w, s.ci}, t, 1, gap, gap);
      c.weight({s.co, s.ci, s.k, s.k}, t, 1 / std::sqrt(c.depth));
      if (s.stride == 2) c.absent(); else c.weight({s.co}, F);
      c.output({s.b, (s.h + 2 * s.pad - s.k) / s.stride + 1, (s.w + 2 * s.pad - s.k) / s.stride + 1, s.co}, t, gap, 0);
      check(c);
    }
}

// ---- attention ---------------------------------------------------------------------------------------------------

struct AttentionShape {
  int64_t b, heads, dim, queries, keys;
  DType q, k, v, y;
  bool fused, counts, bias, causal;
};

Case attention_case(const AttentionShape& s) {
  Case c(label("attention", {s.b, s.heads, s.dim, s.queries, s.keys, static_cast<int64_t>(s.q), static_cast<int64_t>(s.k), s.counts, s.bias, s.causal}), Opcode::kAttention);
  c.depth = static_cast<double>(s.dim + s.keys);
  const int64_t width = s.heads * s.dim;
  c.attr = {static_cast<int32_t>(s.heads), static_cast<int32_t>(s.dim), s.causal, 0, 0, 0, 0, 0};
  c.fattr[0] = 1 / std::sqrt(static_cast<double>(s.dim));
  c.input({s.b, s.queries, width}, s.q, 2, s.fused ? 2 * width : 0, s.fused ? 3 : 0);
  for (const DType t : {s.k, s.v}) c.input({s.b, s.keys, width}, t, 1.5, s.fused ? width : 0);
  if (s.counts) {
    std::vector<int32_t> counts;
    for (int64_t b = 0; b < s.b; ++b) counts.push_back(static_cast<int32_t>(b == 0 ? s.keys : 1 + (s.keys - 1) * b / (s.b + 1)));
    for (Arg* a : {&c.in[1], &c.in[2]}) {
      a->unread.assign(a->values.size(), 0);
      for (int64_t b = 0; b < s.b; ++b)
        for (int64_t j = counts[static_cast<size_t>(b)]; j < s.keys; ++j)
          std::fill_n(a->unread.begin() + (b * s.keys + j) * width, width, 1);
    }
    c.integers({s.b}, counts);
  } else {
    c.absent();
  }
  if (s.bias) c.input({s.heads, s.queries, s.keys}, F, 1, 5); else c.absent();
  c.output({s.b, s.queries, width}, s.y, s.fused ? width : 0);
  return c;
}

void test_attention(const Suite& check) {
  for (const DType t : {F, H}) {
    for (const int64_t dim : {24, 64, 72, 128, 5, 80, 200})
      check(attention_case({2, 2, dim, 33, 47, t, t, t, t, true, false, false, false}));
    for (const int64_t keys : {1, 7, 64, 119, 120, 129, 300})
      check(attention_case({2, 2, 72, 70, keys, t, t, t, t, false, true, false, false}));
    for (const int64_t queries : {1, 3, 4, 31, 32, 33})
      check(attention_case({1, 3, 72, queries, 20, t, t, t, t, true, false, false, false}));
    check(attention_case({3, 2, 64, 40, 40, t, t, t, t, false, true, true, false}));
    check(attention_case({1, 2, 64, 150, 150, t, t, t, t, true, false, false, true}));
    check(attention_case({2, 1, 72, 261, 261, t, t, t, t, true, true, true, true}));
    check(attention_case({1, 1, 72, 20, 20, t, F, H, F, false, false, false, false}));
    check(attention_case({1, 1, 30, 20, 20, S, S, t, S, true, true, true, false}));
  }
  // bias of -infinity removes keys, a whole tile of them included
  Case c = attention_case({1, 1, 16, 5, 200, F, F, F, F, false, false, true, false});
  for (size_t i = 0; i < c.in[4].values.size(); ++i)
    if (i % 200 < 140) c.in[4].values[i] = -std::numeric_limits<double>::infinity();
  check(c);
}

// ---- rows --------------------------------------------------------------------------------------------------------

struct ChainShape {
  int64_t b, n, c, terms, gate_batch;
  DType x, s, g, y;
  Norm norm;
  bool modulate, affine, sum, result;
};

Case chain_case(const ChainShape& s) {
  Case c(label("chain", {s.b, s.n, s.c, s.terms, s.gate_batch, static_cast<int64_t>(s.x), static_cast<int64_t>(s.s), static_cast<int64_t>(s.g),
                         static_cast<int64_t>(s.norm), s.modulate, s.affine}), Opcode::kChain);
  c.depth = static_cast<double>(s.terms + s.c);
  c.attr = {static_cast<int32_t>(s.terms), static_cast<int32_t>(s.norm), 0, 0, 0, 0, 0, 0};
  c.fattr[0] = 1e-6;
  c.input({s.b, s.n, s.c}, s.x, 3, 2, 5);
  for (Arg& a : c.in) for (double& v : a.values) v = rounded(v + 1, a.dtype);
  for (int64_t k = 0; k < s.terms; ++k) {
    c.input({s.b, s.n, s.c}, k % 5 == 3 ? F : s.s, 0.5, k % 2);
    if (k % 7 == 6) c.absent(); else c.input({s.gate_batch, s.c}, s.g, 1, 3);
  }
  for (int i = 0; i < 2; ++i) {
    if (s.modulate) c.input({i == 0 ? s.gate_batch : 1, s.c}, i == 0 ? s.g : F, 0.3); else c.absent();
  }
  for (int i = 0; i < 2; ++i) {
    if (s.affine) c.weight({s.c}, i == 0 ? F : H); else c.absent();
  }
  if (s.sum) c.output({s.b, s.n, s.c}, s.x, 2, 5); else c.absent_output();
  if (s.result) c.output({s.b, s.n, s.c}, s.y, 7); else c.absent_output();
  return c;
}

void test_chain(const Suite& check) {
  for (const int64_t width : {1, 7, 16, 24, 33, 144, 1152})
    for (const DType t : {F, H}) {
      check(chain_case({2, 5, width, 1, 2, t, t, t, t, Norm::kLayer, true, false, true, true}));
      check(chain_case({1, 3, width, 0, 1, t, t, t, t, Norm::kRms, false, true, false, true}));
    }
  for (const int64_t terms : {0, 1, 2, 3, 4, 5, 8, 21, 84})
    for (const DType t : {F, H}) check(chain_case({3, 4, 40, terms, 1, t, t, F, t, Norm::kLayer, true, true, true, true}));
  check(chain_case({2, 4, 40, 8, 2, F, H, H, H, Norm::kNone, false, false, true, false}));
  check(chain_case({2, 4, 40, 3, 2, H, H, F, F, Norm::kNone, true, true, true, true}));
  check(chain_case({2, 4, 40, 6, 1, S, H, S, S, Norm::kRms, true, false, true, true}));
  check(chain_case({2, 64, 320, 2, 2, F, F, F, F, Norm::kLayer, false, false, false, true}));
  Case c = chain_case({2, 9, 48, 3, 2, F, H, F, H, Norm::kLayer, true, false, true, true});
  c.name += " in place";
  c.alias = 0;
  check(c);
}

void test_qk_norm_rope(const Suite& check) {
  for (const DType t : {F, H}) {
    for (const int64_t dim : {2, 4, 6, 14, 16, 18, 30, 32, 34, 72, 126, 128, 130, 256})
      check(qk_norm_rope_case({2, 3, 3, dim, t, t, H, F, t, dim % 4 == 2, false}));
    for (const int64_t n : {1, 2, 5, 33, 200}) check(qk_norm_rope_case({2, n, 2, 128, t, t, t, F, t, true, true}));
    check(qk_norm_rope_case({1, 70, 24, 128, t, t, F, F, t, true, true}));
  }
  for (const DType x : {F, H, S})
    for (const DType y : {F, H, S}) check(qk_norm_rope_case({2, 4, 2, 40, x, y, x, y, y, false, false}));
  Case c = qk_norm_rope_case({1, 2, 2, 16, F, F, F, F, F, false, false});  // a head of zeros stays one
  std::fill_n(c.in[0].values.begin(), 16, 0.0);
  check(c);
}

void test_group_norm(const Suite& check) {
  for (const DType t : {F, H})
    for (const int64_t groups : {1, 4, 32}) {
      Case c(label("group_norm", {groups, static_cast<int64_t>(t)}), Opcode::kGroupNorm);
      c.depth = 1000;
      c.attr = {static_cast<int32_t>(groups), static_cast<int32_t>(groups == 4 ? Act::kNone : Act::kSilu), 0, 0, 0, 0, 0, 0};
      c.fattr[0] = 1e-6;
      const int64_t gap = groups == 4 ? 3 : 0;
      c.input({2, 13, 17, 64}, t, 2, gap, groups == 4 ? 5 : 0);
      for (double& v : c.in[0].values) v = rounded(v + 30, t);  // a mean far from zero
      c.weight({64}, F);
      c.weight({64}, H);
      c.output({2, 13, 17, 64}, t, gap);
      check(c);
    }
}

void test_elementwise(const Suite& check) {
  for (const Act a : {Act::kNone, Act::kGeluTanh, Act::kGeluErf, Act::kSilu, Act::kQuickGelu, Act::kRelu})
    for (const DType t : {F, H, S}) {
      Case c(label("unary", {static_cast<int64_t>(a), static_cast<int64_t>(t)}), Opcode::kUnary);
      c.attr[0] = static_cast<int32_t>(a);
      c.input({3, 101}, t, 4, t == F ? 3 : 0);
      c.in[0].values[5] = rounded(-60000, t);
      c.in[0].values[6] = rounded(60000, t);
      c.in[0].values[7] = -0.0;
      c.in[0].values[5] = c.in[0].values[6] = a == Act::kNone ? c.in[0].values[6] : 12.5;
      c.output({3, 101}, t);
      check(c);
      c.alias = 0;
      if (t != F) check(c);
    }
  for (const DType x : {F, H, S})
    for (const DType y : {F, H, S}) {
      Case c(label("copy", {static_cast<int64_t>(x), static_cast<int64_t>(y)}), Opcode::kCopy);
      c.exact = true;
      c.input({5, 3, 67}, x, 100, x == H ? 4 : 0, x == H ? 9 : 0);
      const double special[] = {0.0, -0.0, 1e30, -1e30, 1e-30, 65504, 65519, 65520, 1.00390625, 1.01171875, 1e-7, 3e-8, INFINITY};
      for (size_t i = 0; i < sizeof special / sizeof special[0]; ++i) c.in[0].values[i] = rounded(special[i], x);
      c.output({5, 3, 67}, y, y == H ? 1 : 0);
      check(c);
    }
  for (const DType t : {DType::kI32, DType::kU8}) {
    Case c(label("copy integers", {static_cast<int64_t>(t)}), Opcode::kCopy);
    c.exact = true;
    c.integers({4, 9}, std::vector<int32_t>(36, 77)).dtype = t;
    c.output({4, 9}, t);
    check(c);
  }
  Case big("copy of many elements", Opcode::kCopy);
  big.exact = true;
  big.input({3, 100003}, F);
  big.output({3, 100003}, H);
  check(big);
  const std::vector<std::vector<int64_t>> spread = {{2, 3, 4, 35}, {1, 3, 4, 35}, {2, 1, 1, 35}, {2, 3, 4, 1}, {1, 1, 1, 1}, {2, 3, 1, 35}};
  for (const auto& dims : spread)
    for (const DType t : {F, H}) {
      Case c(label("add", {dims[0], dims[1], dims[2], dims[3], static_cast<int64_t>(t)}), Opcode::kAdd);
      c.input({2, 3, 4, 35}, t, 1, t == H ? 2 : 0);
      c.input(dims, F);
      c.output({2, 3, 4, 35}, t);
      check(c);
      std::swap(c.in[0], c.in[1]);
      check(c);
    }
  for (const DType t : {F, H})
    for (const bool clamp : {false, true}) {
      Case c(label("lincomb", {static_cast<int64_t>(t), clamp}), Opcode::kLincomb);
      c.attr = {4, clamp, 0, 0, 0, 0, 0, 0};
      if (clamp) c.fattr = {-1.5, 0.75, 0};
      for (int i = 0; i < 4; ++i) c.input({2, 4, 37}, i == 1 ? F : t, 1, i == 3 ? 6 : 0);
      c.in[2].unread.assign(c.in[2].values.size(), 1);
      c.input({4}, DType::kF64);
      c.in[4].values = {0.3, -1.7, 0, 1e-3};
      c.output({2, 4, 37}, t);
      check(c);
      c.alias = 0;
      check(c);
    }
}

void test_moves(const Suite& check) {
  for (const DType t : {F, H})
    for (const int order : {0, 1}) {
      Case c(label("unpatchify", {order, static_cast<int64_t>(t)}), Opcode::kUnpatchify);
      c.exact = true;
      c.attr = {2, order, 8, 0, 0, 0, 0, 0};
      c.input({2, 15, 32}, t, 1, 4, order ? 7 : 0);
      c.output({2, 4, 6, 10}, order ? F : t, order ? 2 : 0);
      check(c);
    }
  for (const int f : {1, 2, 3}) {
    Case c(label("upsample", {f}), Opcode::kUpsample);
    c.exact = true;
    c.attr[0] = f;
    c.input({2, 3, 5, 19}, H, 1, f == 2 ? 3 : 0);
    c.output({2, 3 * f, 5 * f, 19}, f == 3 ? F : H);
    check(c);
  }
  int perm[] = {0, 1, 2, 3};
  do {
    const int64_t dims[] = {2, 3, 5, 7};
    Case c(label("permute", {perm[0], perm[1], perm[2], perm[3]}), Opcode::kPermute);
    c.exact = true;
    for (size_t i = 0; i < 4; ++i) c.attr[i] = perm[i];
    c.input({2, 3, 5, 7}, perm[0] % 2 ? F : H, 1, 2, 3);
    c.output({dims[perm[0]], dims[perm[1]], dims[perm[2]], dims[perm[3]]}, perm[3] == 1 ? S : H, 1);
    check(c);
  } while (std::next_permutation(perm, perm + 4));
  for (const bool cos_first : {false, true}) {
    Case c(label("timestep_embed", {cos_first}), Opcode::kTimestepEmbed);
    c.exact = true;
    c.attr[0] = cos_first;
    c.fattr = {10000, cos_first ? 1.0 : 1000.0, cos_first ? 0.0 : 1.0};
    c.input({5}, F, 300);
    c.output({5, 256}, F);
    check(c);
  }
  for (const DType t : {F, H, S}) {
    Case c(label("embedding", {static_cast<int64_t>(t)}), Opcode::kEmbedding);
    c.exact = true;
    c.integers({2, 3}, {0, 10, 4, 4, 7, 1});
    c.weight({11, 41}, t);
    c.output({2, 3, 41}, t == S ? F : t, 3, 2);
    check(c);
  }
}

// ---- refusals ----------------------------------------------------------------------------------------------------

void expect_error(const Suite& suite, const Case& c, ecad_status code, const char* part) {
  ++checks;
  const Outcome o = run_case(c, *suite.cpu[0], false);
  if (o.status.code() == code && o.status.message().find(part) != std::string::npos) return;
  std::printf("FAIL %s: status %d \"%s\", expected %d with \"%s\"\n", c.name.c_str(), o.status.code(), o.status.message().c_str(), code, part);
  ++failures;
}

void test_refusals(const Suite& suite) {
  Case ids("an id outside the table", Opcode::kEmbedding);
  ids.integers({2}, {3, -1});
  ids.weight({5, 8}, F);
  ids.output({2, 8}, F);
  expect_error(suite, ids, ECAD_INVALID_ARGUMENT, "id -1");
  for (const int32_t count : {0, 21, -5}) {
    Case c = attention_case({1, 1, 8, 4, 20, F, F, F, F, false, true, false, false});
    c.name = "a key count outside 1..20";
    c.in[3].values[0] = count;
    expect_error(suite, c, ECAD_INVALID_ARGUMENT, "counts[0]");
  }
  Case wide("float64", Opcode::kUnary);
  wide.input({4}, DType::kF64);
  wide.output({4}, F);
  expect_error(suite, wide, ECAD_UNSUPPORTED, "x is float64");
  Case pad("padding as large as the filter", Opcode::kConv2d);
  pad.attr = {1, 3, 0, 0, 0, 0, 0, 0};
  pad.input({1, 4, 4, 2}, F);
  pad.weight({2, 2, 3, 3}, F);
  pad.absent();
  pad.output({1, 8, 8, 2}, F);
  expect_error(suite, pad, ECAD_UNSUPPORTED, "pad 3");
}

// Runs body once per instruction set this machine has, each in a process of its own (oneDNN takes its bound once), and returns main's status.
int for_each_isa(int argc, char** argv, const std::function<void(const std::vector<Backend*>& cpu, Backend& reference)>& body) {
  const int only = argc > 1 ? std::atoi(argv[1]) : -1;
  const int32_t levels[] = {ECAD_ISA_AUTO, ECAD_ISA_AVX512, ECAD_ISA_AVX2, ECAD_ISA_GENERIC};
  int status = 0;
  for (const int32_t isa : levels) {
    if (only >= 0 && isa != only) continue;
    std::fflush(stdout);
    const pid_t child = only >= 0 ? 0 : fork();
    if (child == 0) {
      std::vector<std::unique_ptr<Backend>> owned(4);
      const int32_t threads[] = {1, 2, 3};
      std::vector<Backend*> cpu;
      for (size_t i = 0; i < 3; ++i) {
        const Status s = make_cpu_backend({0, threads[i], isa}, &owned[i]);
        if (!s.is_ok()) {
          std::printf("FAIL cannot open the cpu device: %s\n", s.message().c_str());
          std::exit(1);
        }
        cpu.push_back(owned[i].get());
      }
      if (!make_reference_backend({0, 1, 0}, &owned[3]).is_ok()) std::exit(1);
      body(cpu, *owned[3]);
      BackendInfo info;
      cpu[0]->describe(&info);
      std::printf("isa %d (%s): %d checks, %d failures\n", isa, isa_name(best_isa(isa)), checks, failures);
      owned.clear();
      std::exit(failures == 0 ? 0 : 1);
    }
    int s = 0;
    if (child < 0 || waitpid(child, &s, 0) != child || !WIFEXITED(s) || WEXITSTATUS(s) != 0) status = 1;
  }
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  return for_each_isa(argc, argv, [](const std::vector<Backend*>& cpu, Backend& reference) {
    const Suite suite{cpu, reference};
    for (const auto test : {test_linear, test_linear_of_many_rows, test_gated_linear, test_patch_embed, test_conv2d, test_attention, test_chain, test_qk_norm_rope,
                            test_group_norm, test_elementwise, test_moves, test_refusals}) {
      test(suite);
    }
  });
}
