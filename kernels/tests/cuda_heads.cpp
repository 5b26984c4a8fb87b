// Linear with queries and keys among its columns, normalised and turned in the epilogue: the kernels launched directly, against float64 and against what two
// ops with a rounding between them give. Programs in which they run: cuda_fused.cpp.
#include "linear_case.h"

namespace {

// Columns: heads in three orders, others behind them with and without a tail.
Problem problem(int64_t samples, int64_t tokens, const std::vector<int64_t>& k, int64_t depth, int64_t heads, int64_t others, bool integers) {
  Problem p{samples, tokens, k, 2 * heads * depth + others};
  p.depth = depth;
  p.heads = heads;
  p.keys_at = heads;
  p.integers = integers;
  p.bias = !integers;
  return p;
}

void run_all(const Problem& p) {
  double k = 0;
  for (const int64_t part : p.parts) k += static_cast<double>(part);
  if (op_test::kSanitized && k * static_cast<double>(p.outer * p.inner * p.n) > op_test::kMostSanitizedWork) return;
  Operands o(p);
  const LinearVariants tiles = linear_mma_heads(p.depth);
  for (const LinearVariant* v = tiles.first; v != tiles.first + tiles.count; ++v) run_variant(p, *v, "mma", o, true, !p.bias);
  run_sm90_variants(p, linear_sm90_heads(p.depth), o, !p.bias, false);
}

// Whole values: every element exact. Rows, columns and k with tails in every tile; several tiles of rows.
void test_exact() {
  for (const int64_t depth : {64, 128}) {
    for (const int64_t rows : {1, 40, 129}) run_all(problem(1, rows, {72}, depth, 1, rows == 40 ? 2 * depth : 40, true));
    run_all(problem(1, 144, {64, 8}, depth, 2, 0, true));
    run_all(problem(1, 96, {200}, depth, 3, depth, true));  // tiles that are queries and keys, or keys and others
    Problem p = problem(1, 80, {72}, depth, 1, 2 * depth + 8, true);  // keys, others, queries, others
    p.keys_at = 0;
    p.queries_at = 2;
    run_all(p);
    p = problem(2, 70, {72}, depth, 1, depth, true);  // two samples share a rope, in one run of rows and apart
    run_all(p);
    p.outer_gap = 24 * 8;
    run_all(p);
  }
}

// Random values with bias: never worse than two ops.
void test_random() {
  for (const int64_t depth : {64, 128}) {
    run_all(problem(1, 130, {136}, depth, 2, 2 * depth, false));
    Problem p = problem(2, 72, {64, 80}, depth, 1, 24, false);
    p.outer_gap = 16 * 8;
    run_all(p);
  }
}

// The order in which asynchronous data lands and warps run must not matter.
void test_orders() {
  int turn = 0;
  op_test::each_landing([&] { run_all(problem(1, 140, {200}, turn++ % 2 == 0 ? 64 : 128, 1, 64, true)); });
}

}  // namespace

int main() {
  if (!open()) return 1;
  test_exact();
  test_random();
  test_orders();
  op_test::checks += checks;
  op_test::failures += failures;
  return op_test::finish();
}
