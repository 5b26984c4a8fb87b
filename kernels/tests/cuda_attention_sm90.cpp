// Attention of the CUDA backend on wgmma against the reference: every variant, tails of queries and keys, key counts with NaN behind them.
#include "op_case.inc"
#include "cuda_watch.inc"
#include "attention_case.h"

namespace {

using namespace op_test;
using Shape = AttentionShape;

constexpr DType H = DType::kBF16;
using Backends = std::vector<Backend*>;

// Samples, heads and queries make one block of 64 queries or blocks of 128 on the emulator's four multiprocessors; keys make tiles of 128 or 160.
void test_shapes(const Backends& cuda, Backend& reference) {
  const auto check = [&](const Shape& s) { check_quiet(attention_case(s), cuda, reference); };
  for (const int64_t dim : {64, 72, 128}) {
    for (const int64_t keys : {1, 120, 129, 300}) check({1, 2, dim, 70, keys, H, true, false, false, false});
    for (const int64_t queries : {1, 64, 129}) check({2, 2, dim, queries, 160, H, true, false, false, false});
    check({2, 2, dim, 150, 290, H, false, true, false, false});
    check({3, 1, dim, 50, 300, H, true, true, false, false});
  }
  for (const int64_t keys : {7, 119, 127, 128, 159, 160, 161, 256}) check({2, 2, 72, 20, keys, H, false, true, false, false});
  check({1, 4, 72, 128, 640, H, true, false, false, false});
  check({4, 1, 72, 60, 320, H, false, true, false, false});
}

void test_operands(const Backends& cuda, Backend& reference) {
  check_quiet(with_outliers(attention_case({1, 2, 72, 70, 330, H, false, false, false, false})), cuda, reference);
  for (const int64_t dim : {64, 72, 128}) check_quiet(with_exact_sums(attention_case({2, 2, dim, 130, 256, H, true, false, false, false})), cuda, reference);
  for (const int64_t dim : {64, 72, 128}) {  // maps in memory
    Case c = attention_case({2, 2, dim, 130, 170, H, true, true, false, false});
    c.name += " in buffers of a state";
    c.persistent = true;
    check_quiet(c, cuda, reference);
  }
}

// Copies that land at once, at the wait, and in any order; warps in different orders.
void test_landings(const Backends& cuda, Backend& reference) {
  each_landing([&] {
    check_quiet(attention_case({1, 4, 72, 140, 500, H, true, false, false, false}), cuda, reference);
    check_quiet(attention_case({2, 1, 64, 70, 530, H, false, true, false, false}), cuda, reference);
    check_quiet(attention_case({2, 2, 128, 70, 400, H, false, true, false, false}), cuda, reference);
  });
}

// The formula of attention_sm90.cuh, and products: scores see 80 columns of a head dim of 72, values 80.
void test_bytes(Backend& cuda) {
  struct Size { int64_t b, queries, keys, per_block, tile; };
  for (const Size s : {Size{1, 100, 120, 64, 128}, Size{4, 256, 300, 128, 160}}) {
    const int64_t heads = 2, dim = 72, blocks = (s.queries + s.per_block - 1) / s.per_block, tiles = (s.keys + s.tile - 1) / s.tile;
    const Case c = attention_case({s.b, heads, dim, s.queries, s.keys, H, false, false, false, false});
    check_count(c, cuda, "bytes asked for", &Watch::asked, static_cast<uint64_t>(2 * s.b * heads * dim * (s.queries + 2 * blocks * s.keys) + 12));
    check_count(c, cuda, "bytes written", &Watch::written, static_cast<uint64_t>(2 * s.b * heads * dim * s.queries));
    check_count(c, cuda, "multiply-adds", &Watch::macs, static_cast<uint64_t>(s.b * heads * blocks * s.per_block * tiles * s.tile * 80 * 2));
  }
}

void body(const Backends& cuda, Backend& reference) {
  test_shapes(cuda, reference);
  test_operands(cuda, reference);
  test_landings(cuda, reference);
  check_bad_counts(*cuda[0], H);
  test_bytes(*cuda[0]);
}

}  // namespace

int main() { return op_test::cuda_main(body); }
