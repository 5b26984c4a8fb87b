// Row opcodes of the CUDA backend against the reference: chain, qk_norm_rope, copy, unary, add, lincomb, permute, upsample, unpatchify, embeddings.
#include <algorithm>

#include "op_case.inc"
#include "cuda_watch.inc"
#include "head_case.h"

namespace {

using namespace op_test;

constexpr DType F = DType::kF32, H = DType::kBF16;
using Backends = std::vector<Backend*>;

std::string label(const char* what, std::initializer_list<int64_t> numbers) {
  std::string s = what;
  for (const int64_t n : numbers) s += " " + std::to_string(n);
  return s;
}

// ---- chain ----------------------------------------------------------------------------------------------------------

struct ChainShape {
  int64_t b, n, c, terms, gate_batch;
  DType x, s, g, y;
  Norm norm;
  bool modulate, affine, sum, result;
  int64_t gap = 0;
};

Case chain_case(const ChainShape& s) {
  Case c(label("chain", {s.b, s.n, s.c, s.terms, s.gate_batch, static_cast<int64_t>(s.x), static_cast<int64_t>(s.s), static_cast<int64_t>(s.g), static_cast<int64_t>(s.norm), s.modulate, s.affine, s.gap}), Opcode::kChain);
  c.depth = static_cast<double>(s.terms + s.c);
  c.attr = {static_cast<int32_t>(s.terms), static_cast<int32_t>(s.norm), 0, 0, 0, 0, 0, 0};
  c.fattr[0] = 1e-6;
  c.input({s.b, s.n, s.c}, s.x, 3, s.gap, 2 * s.gap);
  for (Arg& a : c.in) for (double& v : a.values) v = rounded(v + 1, a.dtype);
  for (int64_t k = 0; k < s.terms; ++k) {
    c.input({s.b, s.n, s.c}, s.s, 0.5, k % 2 * s.gap);
    if (k % 3 == 1) c.absent(); else c.input({s.gate_batch, s.c}, s.g, 1, s.gap);
  }
  for (int i = 0; i < 2; ++i) {
    if (s.modulate) c.input({i == 0 ? s.gate_batch : 1, s.c}, s.g, 0.3); else c.absent();
  }
  for (int i = 0; i < 2; ++i) {
    if (s.affine) c.weight({s.c}, i == 0 ? F : H); else c.absent();
  }
  if (s.sum) c.output({s.b, s.n, s.c}, s.x, s.gap, 2 * s.gap); else c.absent_output();
  if (s.result) c.output({s.b, s.n, s.c}, s.y, s.gap); else c.absent_output();
  return c;
}

void test_chain(const Backends& cuda, Backend& reference) {
  const auto check = [&](const ChainShape& s) { check_quiet(chain_case(s), cuda, reference); };
  // rows shorter than a vector, of half warps and their neighbours, of the models; gaps that keep rows aligned and that do not
  for (const int64_t width : {1, 7, 8, 120, 128, 136, 144, 257, 1152})
    for (const int64_t gap : {0, 3, 8}) {
      check({2, 5, width, 2, 1, F, H, F, H, Norm::kLayer, true, false, true, true, gap});
      check({1, 3, width, 1, 1, H, H, H, H, Norm::kRms, false, true, false, true, gap});
    }
  for (const int64_t width : {3072, 8192}) check({1, 3, width, 2, 1, F, H, F, H, Norm::kLayer, true, true, true, true});
  // no terms, single and unrolled ones, past the parameters of a short chain, past a batch in shared memory; gates per sample
  for (const int64_t terms : {0, 1, 2, 3, 4, 5, 8, 16, 17, 63, 64, 65, 84, 97}) check({3, 4, 40, terms, 3, F, H, F, H, Norm::kLayer, true, true, true, true});
  check({1, 2, 24, 300, 1, F, H, F, H, Norm::kLayer, true, false, true, true});  // more than one launch
  check({2, 2, 9, 257, 2, H, F, H, F, Norm::kNone, false, false, true, false});
  for (const DType x : {F, H})
    for (const DType s : {F, H})
      for (const DType g : {F, H})
        for (const DType y : {F, H}) check({2, 7, 48, 3, 2, x, s, g, y, Norm::kLayer, true, true, true, true});
  check({2, 4, 40, 8, 2, F, H, H, H, Norm::kNone, false, false, true, false});
  check({2, 4, 40, 3, 2, H, H, F, F, Norm::kNone, true, true, true, true});
  check({2, 4, 40, 3, 2, F, H, F, H, Norm::kNone, false, false, true, true});
  // four tokens a thread: enough rows, and tails of 1, 2 and 3 tokens
  for (const int64_t tokens : {512, 513, 514, 515}) check({1, tokens, 144, 3, 1, F, H, F, H, Norm::kLayer, true, false, true, true});
  Case c = chain_case({2, 9, 48, 3, 2, F, H, F, H, Norm::kLayer, true, false, true, true});
  c.name += " in place";
  c.alias = 0;
  check_quiet(c, cuda, reference);
}

// The formula of chain.cuh, every operand there, one token a thread and four.
void test_chain_bytes(Backend& cuda) {
  struct Size { int64_t tokens, per_thread; };
  for (const Size s : {Size{20, 1}, Size{1024, 4}}) {
    const int64_t b = 2, n = s.tokens, c = 144, terms = 5, gates = 4;
    const Case chain = chain_case({b, n, c, terms, 1, F, H, F, H, Norm::kLayer, true, false, true, true});
    const int64_t rows = (n + s.per_thread - 1) / s.per_thread;
    // vectors per sample are asked for by each row of threads that has tokens
    const int64_t vectors = b * rows * c * 4 * (gates - 1 + 2);
    check_count(chain, cuda, "bytes asked for", &Watch::asked, static_cast<uint64_t>(b * n * c * (4 + 2 * terms) + vectors + 12));
    check_count(chain, cuda, "bytes written", &Watch::written, static_cast<uint64_t>(b * n * c * (4 + 2)));
  }
}

// ---- queries and keys --------------------------------------------------------------------------------------------------

void test_qk_norm_rope(const Backends& cuda, Backend& reference) {
  const auto check = [&](const HeadShape& s) { check_quiet(qk_norm_rope_case(s), cuda, reference); };
  for (const DType t : {F, H}) {
    // heads shorter than a vector, of parts of half warps, of one and of several vectors a thread, up to the longest
    for (const int64_t dim : {2, 6, 8, 14, 16, 72, 120, 126, 128, 130, 136, 256, 384, 510, 512}) check({2, 3, 3, dim, t, t, H, F, t, dim % 4 == 2, false});
    // fewer heads than half warps, as many, one more, FLUX's
    for (const int64_t heads : {1, 2, 15, 16, 17, 24}) check({1, 2, heads, 128, t, t, F, F, t, true, heads % 2 == 0});
    for (const int64_t n : {1, 33}) check({3, n, 2, 32, t, t, t, F, t, true, true});
  }
  for (const DType x : {F, H})
    for (const DType k : {F, H})
      for (const DType rope : {F, H}) check({2, 4, 2, 40, x, k, x, rope, k, false, false});
  Case c = qk_norm_rope_case({1, 2, 2, 16, F, F, F, F, F, false, false});  // a head of zeros stays one
  std::fill_n(c.in[0].values.begin(), 16, 0.0);
  check_quiet(c, cuda, reference);
}

// The formula of qk_norm_rope.cuh.
void test_qk_norm_rope_bytes(Backend& cuda) {
  const int64_t b = 2, n = 3, heads = 24, dim = 128;
  const Case c = qk_norm_rope_case({b, n, heads, dim, H, H, F, F, H, false, false});
  check_count(c, cuda, "bytes asked for", &Watch::asked, static_cast<uint64_t>(b * n * heads * dim * 4 + b * n * 16 * 3 * dim * 4 + 12));
  check_count(c, cuda, "bytes written", &Watch::written, static_cast<uint64_t>(b * n * heads * dim * 4));
}

// ---- element by element ------------------------------------------------------------------------------------------------

void test_map(const Backends& cuda, Backend& reference) {
  const std::vector<std::vector<int64_t>> shapes = {{1}, {7}, {5, 16}, {3, 40, 24}, {2, 3, 5, 8}, {2, 300, 3}};
  for (const auto& dims : shapes)
    for (const DType x : {F, H})
      for (const DType y : {F, H})
        for (const int64_t gap : {0, 5, 8}) {
          Case c(label("copy", {static_cast<int64_t>(dims.size()), dims.back(), gap, static_cast<int64_t>(x), static_cast<int64_t>(y)}), Opcode::kCopy);
          c.exact = true;
          c.input(dims, x, 1, gap, gap);
          c.output(dims, y, gap == 5 ? 0 : gap, gap);
          check_quiet(c, cuda, reference);
        }
  for (const DType t : {DType::kI32, DType::kU8}) {
    Case c(label("copy integers", {static_cast<int64_t>(t)}), Opcode::kCopy);
    c.exact = true;
    c.integers({4, 16}, std::vector<int32_t>(64, 77)).dtype = t;
    c.output({4, 16}, t);
    check_quiet(c, cuda, reference);
  }
  for (const Act a : {Act::kNone, Act::kGeluTanh, Act::kGeluErf, Act::kSilu, Act::kQuickGelu, Act::kRelu})
    for (const DType t : {F, H})
      for (const int64_t width : {101, 104}) {
        Case c(label("unary", {static_cast<int64_t>(a), static_cast<int64_t>(t), width}), Opcode::kUnary);
        c.attr[0] = static_cast<int32_t>(a);
        c.input({3, width}, t, 4, t == F ? 8 : 0);
        c.in[0].values[5] = -12.5;
        c.in[0].values[6] = 90;
        c.in[0].values[7] = -0.0;
        c.output({3, width}, t);
        check_quiet(c, cuda, reference);
        c.alias = 0;
        if (t == H) check_quiet(c, cuda, reference);
      }
  const std::vector<std::vector<int64_t>> spread = {{2, 3, 4, 40}, {1, 3, 4, 40}, {2, 1, 1, 40}, {2, 3, 4, 1}, {1, 1, 1, 1}, {2, 3, 1, 40}};
  for (const auto& dims : spread)
    for (const DType t : {F, H}) {
      Case c(label("add", {dims[0], dims[1], dims[2], dims[3], static_cast<int64_t>(t)}), Opcode::kAdd);
      c.input({2, 3, 4, 40}, t, 1, t == H ? 2 : 0);
      c.input(dims, F);
      c.output({2, 3, 4, 40}, t);
      check_quiet(c, cuda, reference);
      std::swap(c.in[0], c.in[1]);
      check_quiet(c, cuda, reference);
    }
  Case table("add of weights", Opcode::kAdd);
  table.input({5, 1, 48}, F);
  table.weight({1, 6, 48}, H);
  table.output({5, 6, 48}, F);
  check_quiet(table, cuda, reference);
}

void test_moves(const Backends& cuda, Backend& reference) {
  for (const DType t : {F, H})
    for (const int order : {0, 1}) {
      Case c(label("unpatchify", {order, static_cast<int64_t>(t)}), Opcode::kUnpatchify);
      c.exact = true;
      c.attr = {2, order, 8, 0, 0, 0, 0, 0};
      c.input({2, 15, 32}, t, 1, 4, order ? 7 : 0);
      c.output({2, 4, 6, 10}, order ? F : t, order ? 2 : 0);
      check_quiet(c, cuda, reference);
    }
  for (const int f : {1, 2, 3})
    for (const int64_t channels : {19, 24}) {
      Case c(label("upsample", {f, channels}), Opcode::kUpsample);
      c.exact = true;
      c.attr[0] = f;
      c.input({2, 3, 5, channels}, H, 1, f == 2 ? 3 : 0);
      c.output({2, 3 * f, 5 * f, channels}, f == 3 ? F : H);
      check_quiet(c, cuda, reference);
    }
  int perm[] = {0, 1, 2, 3};
  do {
    const int64_t dims[] = {2, 3, 5, 8};
    Case c(label("permute", {perm[0], perm[1], perm[2], perm[3]}), Opcode::kPermute);
    c.exact = true;
    for (size_t i = 0; i < 4; ++i) c.attr[i] = perm[i];
    c.input({2, 3, 5, 8}, perm[0] % 2 ? F : H, 1, perm[1] % 2 ? 2 : 0, 0);
    c.output({dims[perm[0]], dims[perm[1]], dims[perm[2]], dims[perm[3]]}, perm[3] == 1 ? F : H);
    check_quiet(c, cuda, reference);
  } while (std::next_permutation(perm, perm + 4));
}

void test_lincomb(const Backends& cuda, Backend& reference) {
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
      check_quiet(c, cuda, reference);
      c.alias = 0;
      check_quiet(c, cuda, reference);
    }
}

// ---- embeddings --------------------------------------------------------------------------------------------------------

// Float32 angles of large arguments differ from float64 ones, so the reference is run on the operands themselves: sines of the same angles, to one rounding.
void check_sines(const Case& c, Backend& cuda, Backend& reference) {
  ++checks;
  const Outcome got = run_case(c, cuda, false), want = run_case(c, reference, false);
  if (!got.status.is_ok()) {
    fail(c, got.status.message());
    return;
  }
  const double limit = c.out[0].dtype == F ? 0x1p-23 : 0x1p-8;
  for (size_t i = 0; i < want.values[0].size(); ++i) {
    if (std::fabs(got.values[0][i] - want.values[0][i]) <= limit) continue;
    fail(c, "element " + std::to_string(i) + " is " + std::to_string(got.values[0][i]) + ", want " + std::to_string(want.values[0][i]));
    return;
  }
}

void test_embeddings(const Backends& cuda, Backend& reference) {
  for (const bool cos_first : {false, true})
    for (const DType t : {F, H})
      for (const double spread : {1.0, 300.0}) {
        Case c(label("timestep_embed", {cos_first, static_cast<int64_t>(t), static_cast<int64_t>(spread)}), Opcode::kTimestepEmbed);
        c.attr[0] = cos_first;
        c.fattr = {10000, cos_first ? 1.0 : spread > 1 ? 1000.0 : 0.5, cos_first ? 0.0 : 1.0};
        c.input({5}, F, spread);
        c.output({5, 258}, t, 6);
        if (spread == 1) check_quiet(c, cuda, reference);
        else check_sines(c, *cuda[0], reference);
      }
  for (const DType t : {F, H, DType::kF16})
    for (const int64_t width : {41, 96, 2048}) {
      Case c(label("embedding", {static_cast<int64_t>(t), width}), Opcode::kEmbedding);
      c.exact = true;
      c.integers({2, 3}, {0, 10, 4, 4, 7, 1});
      c.weight({11, width}, t);
      c.output({2, 3, width}, t == H ? H : F, width == 96 ? 8 : 0, 2);
      check_quiet(c, cuda, reference);
    }
  for (const DType t : {F, H})
    for (const int64_t p : {1, 2, 3, 5})
      for (const int64_t width : {72, 1152}) {
        if (width == 1152 && p != 2) continue;
        Case c(label("patch_embed", {p, width, static_cast<int64_t>(t)}), Opcode::kPatchEmbed);
        c.depth = static_cast<double>(4 * p * p);
        c.attr = {static_cast<int32_t>(p), p == 2 ? 2 : 1, 0, 0, 0, 0, 0, 0};
        c.input({2, 4, 5 * p, 7 * p}, t, 1, p == 2 ? 3 : 0, p == 2 ? 6 : 0);
        c.weight({width, 4, p, p}, F, 0.3);
        if (p == 3) c.absent(); else c.weight({width}, F);
        if (p == 1) c.absent(); else c.input({35, width}, F);
        c.output({p == 2 ? 4 : 2, 35, width}, t, p == 3 ? 8 : 0);
        check_ways(c, cuda, reference, 8);
      }
}

// The formulas of map.cuh, lincomb.cuh and embed.cuh; 12 bytes are the frame's.
void test_bytes(Backend& cuda) {
  const auto expect = [&](const Case& c, int64_t asked, int64_t written) {
    check_count(c, cuda, "bytes asked for", &Watch::asked, static_cast<uint64_t>(asked + 12));
    check_count(c, cuda, "bytes written", &Watch::written, static_cast<uint64_t>(written));
  };
  Case copy("copy bytes", Opcode::kCopy);
  copy.input({3, 40, 24}, F);
  copy.output({3, 40, 24}, H);
  expect(copy, 3 * 40 * 24 * 4, 3 * 40 * 24 * 2);
  Case up("upsample bytes", Opcode::kUpsample);
  up.attr[0] = 2;
  up.input({1, 5, 6, 16}, H);
  up.output({1, 10, 12, 16}, H);
  expect(up, 10 * 12 * 16 * 2, 10 * 12 * 16 * 2);
  Case sum("lincomb bytes", Opcode::kLincomb);
  sum.attr[0] = 3;
  for (const DType t : {F, H, F}) sum.input({2, 100}, t);
  sum.input({3}, DType::kF64);
  sum.in[3].values = {0.5, 2, 0};
  sum.output({2, 100}, F);
  expect(sum, 200 * (4 + 2 + 3 * 8), 200 * 4);
  Case rows("embedding bytes", Opcode::kEmbedding);
  rows.integers({5}, {0, 3, 3, 1, 2});
  rows.weight({4, 96}, H);
  rows.output({5, 96}, F);
  expect(rows, 5 * (96 * 2 + 128 * 4), 5 * 96 * 4);
  Case patches("patch_embed bytes", Opcode::kPatchEmbed);
  patches.attr = {2, 2, 0, 0, 0, 0, 0, 0};
  patches.input({2, 4, 10, 14}, F);
  patches.weight({600, 4, 2, 2}, F);
  patches.weight({600}, F);
  patches.input({35, 600}, F);
  patches.output({4, 35, 600}, H);
  expect(patches, 2 * 35 * 16 * 4 * 2 + 2 * 35 * 600 * 4 + 2 * 5 * 600 * 17 * 4, 4 * 35 * 600 * 2);
  check_count(patches, cuda, "bank conflicts", &Watch::conflicts, uint64_t{2} * 5 * 2 * 4 * 3);  // four warps of a block write 16 values of 8 tokens, four-way
  Case times("timestep_embed bytes", Opcode::kTimestepEmbed);
  times.fattr = {10000, 1, 0};
  times.input({5}, F);
  times.output({5, 256}, H);
  expect(times, 5 * 128 * (4 + 4), 5 * 256 * 2);
}

// ---- refusals ------------------------------------------------------------------------------------------------------------

void expect_error(Backend& cuda, const Case& c, ecad_status code, const char* part) {
  ++checks;
  const Outcome o = run_case(c, cuda, false);
  if (o.status.code() != code || o.status.message().find(part) == std::string::npos) fail(c, "status " + std::to_string(o.status.code()) + " \"" + o.status.message() + "\", expected \"" + part + "\"");
}

void test_refusals(Backend& cuda) {
  Case ids("an id outside the table", Opcode::kEmbedding);
  ids.integers({2}, {3, -1});
  ids.weight({5, 8}, F);
  ids.output({2, 8}, F);
  expect_error(cuda, ids, ECAD_INVALID_ARGUMENT, "-1");
  for (const DType t : {DType::kF64, DType::kF16}) {
    Case c("another float", Opcode::kUnary);
    c.input({4}, t);
    c.output({4}, F);
    expect_error(cuda, c, ECAD_UNSUPPORTED, "x is float");
  }
  Case rows = chain_case({1, 1, 8200, 1, 1, F, F, F, F, Norm::kLayer, false, false, true, true});
  expect_error(cuda, rows, ECAD_UNSUPPORTED, "8200");
  expect_error(cuda, qk_norm_rope_case({1, 1, 1, 514, F, F, F, F, F, false, false}), ECAD_UNSUPPORTED, "514");
}

void body(const Backends& cuda, Backend& reference) {
  test_chain(cuda, reference);
  test_chain_bytes(*cuda[0]);
  test_qk_norm_rope(cuda, reference);
  test_qk_norm_rope_bytes(*cuda[0]);
  test_map(cuda, reference);
  test_moves(cuda, reference);
  test_lincomb(cuda, reference);
  test_embeddings(cuda, reference);
  test_bytes(*cuda[0]);
  test_refusals(*cuda[0]);
}

}  // namespace

int main() { return op_test::cuda_main(body); }
