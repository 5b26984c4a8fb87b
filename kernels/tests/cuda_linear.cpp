// The kernels of linear and gated linear launched directly, every size of tile: against sums in float64; on the emulator with its reports, its counts of bank conflicts
// and of bytes; and which of them is chosen. Through the backend: cuda_products.cpp.
#include "linear_case.h"

namespace {

// One launch of each variant that takes the problem. Tiles of bfloat16 must be free of bank conflicts, epilogue included.
void run_variants(const Problem& p, const LinearVariants& all, const char* kernel, Operands& o, bool conflict_free, bool bytes) {
  for (const LinearVariant* v = all.first; v != all.first + all.count; ++v) {
    if (kernel[0] == 's' && !p.f32_x && v->tile_m < o.params.m) continue;  // streams of bfloat16 hold all rows
    run_variant(p, *v, kernel, o, conflict_free, bytes);
  }
}

void run_sm90(const Problem& p, Operands& o, bool bytes, bool in_table) {
  run_sm90_variants(p, p.gated ? linear_sm90_gated(p.f32_y) : linear_sm90_plain(p.f32_y), o, bytes, in_table);
}

// One problem in four under AddressSanitizer; the lists are of lengths that make those differ in every dimension.
void run(const Problem& p) {
  static int turn = 0;
  if (op_test::kSanitized && turn++ % 4 != 0) return;
  Operands o(p);
  const LinearKind kind = o.kind();
  run_variants(p, linear_tiles(kind), "tiles", o, !kind.f32 && kind.wide_x, kind.wide_x && !p.bias);
  if (o.params.m <= (p.f32_x ? 20 : kLinearStreamM)) run_variants(p, linear_streams(kind), "stream", o, false, kind.wide_x && !p.bias);
  if (!kind.f32 && kind.wide_x) run_sm90(p, o, !p.bias, false);
}

using Parts = std::vector<int64_t>;

// Tails of rows, columns and k in every tile; integers: every element exact.
void test_tails() {
  for (const int64_t m : {1, 40, 129})
    for (const int64_t n : {8, 100})
      for (const Parts& k : {Parts{8}, Parts{72}, Parts{200}}) run({1, m, k, n});
  run({1, 1, {1}, 1, Act::kNone, true, false, false, false, false, true, 7, 0, 0});
  run({1, 70, {63}, 97, Act::kRelu, true, false, false, false, false, true, 1, 0, 15});
  for (const bool f32_y : {false, true}) {
    Problem p{1, 272, {64}, 304, Act::kNone, false};
    p.f32_y = f32_y;
    run(p);
  }
}

// Float32 results, float32 and mixed inputs, inputs whose rows may start anywhere.
void test_types() {
  for (const bool gated : {false, true})
    for (const bool f32_y : {false, true}) {
      Problem p{1, 67, {104}, 44};
      p.gated = gated;
      p.f32_y = f32_y;
      p.bias = false;
      run(p);
      p.gap = 3;
      run(p);
      p.gap = 0;
      p.f32_x = true;
      run(p);
      p.inner = 9;
      run(p);
      p.gap = 1;
      run(p);
      p.parts = {40, 24};
      p.mixed_x = true;
      run(p);
    }
}

// Random values, every activation.
void test_activations() {
  for (const Act act : {Act::kNone, Act::kGeluTanh, Act::kGeluErf, Act::kSilu, Act::kQuickGelu, Act::kRelu})
    for (const bool gated : {false, true})
      for (const bool f32_x : {false, true})
        for (const bool f32_y : {false, true}) {
          Problem p{1, 33, {96}, 72};
          p.act = act;
          p.gated = gated;
          p.f32_x = f32_x;
          p.f32_y = f32_y;
          p.integers = false;
          p.bias = !gated;
          run(p);
        }
  Problem p{1, 80, {1152}, 64, Act::kGeluTanh};
  p.integers = false;
  run(p);
}

// Several inputs, two levels of rows, y behind the table at a step, maps in memory.
void test_views() {
  for (const bool f32_x : {false, true}) {
    Problem p{3, 30, {72, 8, 136}, 56};
    p.f32_x = f32_x;
    run(p);
    p.outer_gap = 16;  // two levels of rows
    run(p);
    p.inner = 5;
    run(p);
  }
  for (const int64_t inner : {60, 64, 130, 200}) {  // rows of one stream in a joint buffer: samples that tiles must not cross
    Problem p{2, inner, {136, 64}, 104, Act::kNone, false};
    p.outer_gap = 72 * 8;
    run(p);
  }
  Problem p{1, 90, {72, 64}, 80};
  Operands o(p);
  o.y_behind_table();
  run_variants(p, linear_tiles(o.kind()), "tiles, y behind the table", o, true, false);
  run_sm90(p, o, false, true);
}

// The order in which asynchronous data lands and warps run must not matter.
void test_orders() {
  op_test::each_landing([] {
    Problem p{1, 200, {328}, 152};
    run(p);
    p.gated = true;
    p.bias = false;
    run(p);
    p.inner = 20;
    run(p);
  });
}

// The tiles chosen for products of released models on 132 multiprocessors: those that leave the fewest of them idle.
void test_choice() {
  struct Choice { int64_t m, n; int32_t tile_m, tile_n; };
  const auto check = [](const char* what, const Choice& c, int32_t tile_m, int32_t tile_n) {
    ++checks;
    if (tile_m != c.tile_m || tile_n != c.tile_n)
      fail(std::string(what) + " of " + std::to_string(c.m) + " x " + std::to_string(c.n), "tile " + std::to_string(tile_m) + "x" + std::to_string(tile_n) + ", not " + std::to_string(c.tile_m) + "x" + std::to_string(c.tile_n));
  };
  for (const Choice& c : {Choice{512, 3456, 128, 128}, Choice{512, 1152, 64, 96}, Choice{512, 4608, 128, 144}, Choice{8192, 1152, 192, 192}, Choice{8192, 4608, 192, 192}, Choice{4608, 21504, 128, 256},
                          Choice{4608, 3072, 192, 192}, Choice{512, 3072, 128, 96}}) {
    const LinearSm90Variant& v = choose_linear_sm90(false, false, c.m, c.n, 132);
    check("wgmma", c, v.tile_m, v.tile_n);
  }
  for (const Choice& c : {Choice{512, 3456, 128, 128}, Choice{512, 1152, 64, 96}, Choice{8192, 4608, 128, 128}}) {
    const LinearVariant& v = choose_linear({false, false, true, false}, c.m, c.n, 132);
    check("mma.sync", c, v.tile_m, v.tile_n);
  }
  for (const Choice& c : {Choice{1, 6912, 16, 32}, Choice{20, 1152, 32, 16}, Choice{50, 6912, 64, 32}}) {
    const LinearVariant& v = choose_linear({false, false, true, false}, c.m, c.n, 132);
    check("stream", c, v.tile_m, v.tile_n);
  }
}

}  // namespace

int main() {
  if (!open()) return 1;
  if (op_test::kSanitized) op_test::most_work = op_test::kMostSanitizedWork;
  test_tails();
  test_types();
  test_activations();
  test_views();
  test_orders();
  test_choice();
  op_test::checks += checks;
  op_test::failures += failures;
  return op_test::finish();
}
