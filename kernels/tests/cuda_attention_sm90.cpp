// Attention of the CUDA backend on wgmma against the reference: every variant, tails of queries and keys, key counts with NaN behind them.
#include "../cuda/kernels/attention_sm90.h"
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

// Few keys and many queries: keys and values stay in shared memory while a block goes through several tiles of 128 queries.
void test_resident(const Backends& cuda, Backend& reference) {
  const auto check = [&](const Shape& s) { check_quiet(attention_case(s), cuda, reference); };
  for (const int64_t keys : {1, 119, 120, 128, 129, 160, 161, 300, 320}) check({1, 2, 72, 300, keys, H, false, true, false, false});
  for (const int64_t queries : {256, 257, 385, 640}) check({1, 2, 72, queries, 120, H, false, true, false, false});  // spans of 2 and 3 tiles, the last one short
  check({1, 4, 72, 129, 20, H, false, true, false, false});
  check({3, 2, 72, 260, 300, H, true, true, false, false});  // counts of one tile and of two, NaN behind them
  check({4, 1, 72, 900, 120, H, false, true, false, false});  // more tiles than stages
  check_quiet(with_outliers(attention_case({1, 2, 72, 300, 300, H, false, false, false, false})), cuda, reference);
  check_quiet(with_exact_sums(attention_case({2, 2, 72, 260, 128, H, false, false, false, false})), cuda, reference);
  Case c = attention_case({2, 2, 72, 260, 170, H, false, true, false, false});
  c.name += " in buffers of a state";
  c.persistent = true;
  check_quiet(c, cuda, reference);
  each_landing([&] { check_quiet(attention_case({2, 2, 72, 600, 300, H, false, true, false, false}), cuda, reference); });
  for (const int64_t dim : {64, 128}) {
    for (const int64_t keys : {1, 119, 128, 129, 256}) check({1, 2, dim, 300, keys, H, false, true, false, false});
    check({3, 2, dim, 260, 250, H, true, true, false, false});
    check({2, 1, dim, 900, 120, H, false, true, false, false});
    check_quiet(with_exact_sums(attention_case({1, 2, dim, 300, 256, H, false, false, false, false})), cuda, reference);
    each_landing([&] { check_quiet(attention_case({2, 2, dim, 400, 200, H, false, true, false, false}), cuda, reference); });
  }
  check({1, 2, 64, 300, 320, H, false, true, false, false});
}

// Which kernel takes which shape on 132 multiprocessors.
void test_choice() {
  struct Choice { int32_t batch, heads, depth, queries, keys, resident, span; };
  for (const Choice& c : {Choice{2, 16, 72, 4096, 120, 128, 8}, Choice{2, 16, 72, 4096, 300, 320, 8}, Choice{200, 16, 72, 256, 120, 128, 2}, Choice{2, 16, 72, 256, 120, 0, 1}, Choice{2, 16, 72, 4096, 4096, 0, 8},
                          Choice{2, 16, 64, 4096, 120, 128, 8}, Choice{2, 16, 64, 4096, 300, 320, 8}, Choice{2, 16, 128, 4096, 120, 128, 8}, Choice{2, 16, 128, 4096, 256, 256, 8},
                          Choice{2, 16, 128, 4096, 300, 0, 8}}) {
    ++checks;
    cuda::AttentionParams p = {};
    p.heads = c.heads, p.depth = c.depth, p.queries = c.queries, p.keys = c.keys;
    const cuda::AttentionSm90Variant* v = cuda::choose_attention_sm90(c.batch, p, 132);
    const int32_t span = cuda::attention_span(c.batch, p, 132);
    if (v != nullptr && v->resident == c.resident && span == c.span) continue;
    std::printf("FAIL choice for %d keys: resident %d, span %d\n", c.keys, v == nullptr ? -1 : v->resident, span);
    ++failures;
  }
}

// The formula of attention_sm90.cuh, and products: scores see 80 columns of a head dim of 72, values 80.
void test_bytes(Backend& cuda) {
  struct Size { int64_t b, queries, keys, per_block, tile; };
  for (const Size s : {Size{1, 100, 120, 64, 128}, Size{4, 128, 300, 128, 160}, Size{4, 256, 640, 128, 160}}) {
    const int64_t heads = 2, dim = 72, blocks = (s.queries + s.per_block - 1) / s.per_block, tiles = (s.keys + s.tile - 1) / s.tile;
    const Case c = attention_case({s.b, heads, dim, s.queries, s.keys, H, false, false, false, false});
    check_count(c, cuda, "bytes asked for", &Watch::asked, static_cast<uint64_t>(2 * s.b * heads * dim * (s.queries + 2 * blocks * s.keys) + 12));
    check_count(c, cuda, "bytes written", &Watch::written, static_cast<uint64_t>(2 * s.b * heads * dim * s.queries));
    check_count(c, cuda, "multiply-adds", &Watch::macs, static_cast<uint64_t>(s.b * heads * blocks * s.per_block * tiles * s.tile * 80 * 2));
  }
}

// The formula of attention_resident_sm90.cuh: keys and values once for each span of tiles of queries.
void test_resident_bytes(Backend& cuda) {
  struct Size { int64_t b, queries, keys, blocks, tile, dim, columns; };  // columns that wgmma multiplies
  for (const Size s : {Size{1, 500, 120, 2, 128, 72, 80}, Size{2, 640, 300, 1, 160, 72, 80}, Size{1, 500, 300, 2, 160, 64, 64}, Size{2, 640, 256, 1, 128, 128, 128}}) {
    const int64_t heads = 2, dim = s.dim, rows = (s.queries + 127) / 128 * 128, tiles = (s.keys + s.tile - 1) / s.tile;
    const Case c = attention_case({s.b, heads, dim, s.queries, s.keys, H, false, false, false, false});
    check_count(c, cuda, "bytes asked for", &Watch::asked, static_cast<uint64_t>(2 * s.b * heads * dim * (s.queries + 2 * s.blocks * s.keys) + 12));
    check_count(c, cuda, "bytes written", &Watch::written, static_cast<uint64_t>(2 * s.b * heads * dim * s.queries));
    check_count(c, cuda, "multiply-adds", &Watch::macs, static_cast<uint64_t>(s.b * heads * rows * tiles * s.tile * s.columns * 2));
  }
}

void body(const Backends& cuda, Backend& reference) {
  test_shapes(cuda, reference);
  test_operands(cuda, reference);
  test_landings(cuda, reference);
  check_bad_counts(*cuda[0], H);
  test_bytes(*cuda[0]);
  test_resident(cuda, reference);
  test_resident_bytes(*cuda[0]);
  test_choice();
}

}  // namespace

int main() { return op_test::cuda_main(body); }
