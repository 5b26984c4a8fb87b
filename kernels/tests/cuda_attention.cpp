// Attention of the CUDA backend on the kernels of every device against the reference: all head dims, tails of queries and keys, key counts with NaN behind them.
#include "op_case.inc"
#include "cuda_watch.inc"
#include "attention_case.h"

namespace {

using namespace op_test;

constexpr DType F = DType::kF32, H = DType::kBF16;
using Backends = std::vector<Backend*>;

using Shape = AttentionShape;

void test_shapes(const Backends& cuda, Backend& reference) {
  const auto check = [&](const Shape& s) { check_quiet(attention_case(s), cuda, reference); };
  // head dims of the models, of the miniature, between them, and those that only the tiled kernel takes
  for (const int64_t dim : {40, 64, 72, 80, 128, 5}) check({2, 2, dim, 33, 47, H, true, false, false, false});
  for (const int64_t dim : {8, 24, 32}) check_ways(attention_case({2, 2, dim, 33, 47, H, true, false, false, false}), cuda, reference, 2);  // in the staging of y
  for (const DType t : {F, H}) check({2, 2, 36, 20, 30, t, true, false, false, false});  // rows are aligned, the second head's are not
  for (const int64_t dim : {5, 64, 72, 512}) check({1, 2, dim, 33, 47, F, true, false, false, false});
  check({1, 1, 512, 70, 80, H, true, false, false, false});  // the image decoder's
  for (const int64_t dim : {192, 200, 256, 384}) check({2, 1, dim, 65, 129, H, true, true, false, dim == 192});
  for (const int64_t dim : {136, 160}) check_ways(attention_case({2, 1, dim, 65, 129, H, true, true, false, false}), cuda, reference, 2);  // part of the lanes read the last slice of y back
  for (const int64_t keys : {1, 63, 64, 65, 128}) check({1, 1, 256, 20, keys, H, false, true, false, false});
  check({1, 2, 144, 20, 70, H, false, true, true, false});
  // keys and queries around the tiles; blocks of 64 and of 128 queries
  for (const int64_t keys : {1, 7, 63, 64, 65, 119, 120, 128, 129, 300}) check({2, 2, 72, 70, keys, H, false, true, false, false});
  for (const int64_t keys : {1, 64, 65, 130}) check({2, 1, 72, 20, keys, F, false, true, false, false});
  for (const int64_t queries : {1, 15, 16, 17, 63, 64, 65, 127, 128, 129}) check({1, 1, 72, queries, 20, H, true, false, false, false});
  for (const int64_t queries : {128, 129, 130, 257}) check({4, 2, 64, queries, 70, H, true, true, false, false});
  check({4, 3, 72, 140, 140, H, true, false, false, false});
  for (const DType t : {F, H}) {
    check({3, 2, 64, 40, 40, t, false, true, true, false});
    check({1, 2, 64, 150, 150, t, true, false, false, true});
    check({2, 1, 72, 200, 200, t, true, true, true, true});
  }
  check({4, 2, 72, 260, 260, H, true, true, false, true});
}

void test_operands(const Backends& cuda, Backend& reference) {
  Case mixed = attention_case({1, 1, 72, 20, 20, H, false, false, false, false});
  mixed.name += " mixed";
  mixed.in[1] = attention_case({1, 1, 72, 20, 20, F, false, false, false, false}).in[1];
  check_quiet(mixed, cuda, reference);
  Case odd = attention_case({2, 2, 64, 40, 40, H, false, false, false, false});
  odd.name += " rows that are not aligned";
  odd.in[0].strides = gap_strides(odd.in[0].dims, 3, 0);
  check_quiet(odd, cuda, reference);
  Case negative = attention_case({1, 1, 64, 20, 70, H, false, false, false, false});
  negative.name += " negative scale";
  negative.fattr[0] = -0.1;
  check_quiet(negative, cuda, reference);
  for (const DType t : {F, H}) {  // a bias of -infinity removes keys, a whole tile of them included
    Case c = attention_case({1, 1, 16, 5, 200, t, false, false, true, false});
    c.name += " biased away";
    for (size_t i = 0; i < c.in[4].values.size(); ++i)
      if (i % 200 < 140) c.in[4].values[i] = -std::numeric_limits<double>::infinity();
    check_ways(c, cuda, reference, 2);
  }
  for (const DType t : {F, H}) check_quiet(with_outliers(attention_case({1, 2, 72, 70, 130, t, false, false, false, false})), cuda, reference);
  check_quiet(with_exact_sums(attention_case({2, 2, 72, 70, 64, H, true, false, false, false})), cuda, reference);
}

// Copies that land at once, at the wait, and in any order.
void test_landings(const Backends& cuda, Backend& reference) {
  each_landing([&] {
    check_quiet(attention_case({1, 2, 72, 140, 200, H, true, false, false, false}), cuda, reference);
    check_quiet(attention_case({2, 1, 64, 70, 130, H, false, true, false, false}), cuda, reference);
    check_quiet(attention_case({1, 1, 200, 70, 200, H, true, false, false, false}), cuda, reference);
  });
}

// The formula of attention_mma.cuh and the products that it must do, nothing padded along a head dim of 72.
void test_bytes(Backend& cuda) {
  struct Size { int64_t b, queries, keys, per_block; };
  for (const Size s : {Size{1, 100, 120, 64}, Size{4, 256, 120, 128}}) {
    const int64_t heads = 2, dim = 72, blocks = (s.queries + s.per_block - 1) / s.per_block;
    const Case c = attention_case({s.b, heads, dim, s.queries, s.keys, H, false, false, false, false});
    check_count(c, cuda, "bytes asked for", &Watch::asked, static_cast<uint64_t>(2 * s.b * heads * dim * (s.queries + 2 * blocks * s.keys) + 12));
    check_count(c, cuda, "bytes written", &Watch::written, static_cast<uint64_t>(2 * s.b * heads * dim * s.queries));
    check_count(c, cuda, "multiply-adds", &Watch::macs, static_cast<uint64_t>(s.b * heads * blocks * s.per_block * 128 * dim * 2));
  }
}

// The formulas of attention_tiled.cuh (queries once per 64 keys) and attention_wide.cuh.
void test_other_bytes(Backend& cuda) {
  const int64_t heads = 2, queries = 100, keys = 150, blocks = 2, tiles = 3;
  const Case tiled = attention_case({1, heads, 72, queries, keys, F, false, false, false, false});
  check_count(tiled, cuda, "bytes asked for", &Watch::asked, static_cast<uint64_t>(4 * heads * 72 * (queries * tiles + 2 * blocks * keys) + 12));
  check_count(tiled, cuda, "bytes written", &Watch::written, static_cast<uint64_t>(4 * heads * 72 * queries));
  const Case wide = attention_case({1, heads, 192, queries, keys, H, false, false, false, false});
  check_count(wide, cuda, "bytes asked for", &Watch::asked, static_cast<uint64_t>(2 * heads * 192 * (queries + 2 * blocks * keys) + 12));
  check_count(wide, cuda, "bytes written", &Watch::written, static_cast<uint64_t>(2 * heads * 192 * queries));
}

void body(const Backends& cuda, Backend& reference) {
  test_shapes(cuda, reference);
  test_operands(cuda, reference);
  test_landings(cuda, reference);
  for (const DType t : {F, H}) check_bad_counts(*cuda[0], t);
  test_bytes(*cuda[0]);
  test_other_bytes(*cuda[0]);
}

}  // namespace

int main() { return op_test::cuda_main(body, {ECAD_ISA_GENERIC}); }
