// linear and gated linear of the CUDA backend on the emulator. Every kernel launched directly: against sums in float64, with the emulator's reports, its counts of
// bank conflicts and of bytes. Then through the backend: packing, choice of kernels, what is refused.
#include "linear_case.h"

namespace {

std::string tile_name(const char* kernel, int32_t m, int32_t n) { return std::string(kernel) + " " + std::to_string(m) + "x" + std::to_string(n); }

// One launch of each variant that takes the problem. Tiles of bfloat16 must be free of bank conflicts, epilogue included.
void run_variants(const Problem& p, const LinearVariants& all, const char* kernel, Operands& o, bool conflict_free, bool bytes) {
  for (const LinearVariant* v = all.first; v != all.first + all.count; ++v) {
    if (kernel[0] == 's' && !p.f32_x && v->tile_m < o.params.m) continue;  // streams of bfloat16 hold all rows
    const std::string name = name_of(p, tile_name(kernel, v->tile_m, v->tile_n));
    o.poison();
    report = {};
    const Status s = launch_linear(nullptr, *v, o.params);
    if (!s.is_ok() && report.ok()) fail(name, s.message());
    if (!o.check(name)) continue;
    if (conflict_free && o.whole_stores() && report.conflicts() != 0) fail(name, std::to_string(report.conflicts()) + " bank conflicts");
    if (bytes) o.check_bytes(name, v->tile_m, v->tile_n);
  }
}

void run_sm90(const Problem& p, Operands& o, bool bytes, bool in_table) {
  const LinearSm90Variants all = p.gated ? linear_sm90_gated(p.f32_y) : linear_sm90_plain(p.f32_y);
  Memory maps(kLinearParts * sizeof(TensorMap), 0);
  for (const LinearSm90Variant* v = all.first; v != all.first + all.count; ++v) {
    const std::string name = name_of(p, tile_name(in_table ? "sm90, maps in memory" : "sm90", v->tile_m, v->tile_n));
    LinearSm90Params q = {};
    q.linear = o.params;
    q.parts = static_cast<int32_t>(p.parts.size());
    for (size_t i = 0; i < p.parts.size(); ++i) {
      TensorMap map;
      if (!encode_tensor_map(linear_x_map(o.x(i), o.params.parts[i], o.params.m, v->tile_m), &map).is_ok()) fail(name, "no map of x");
      if (in_table) {
        std::memcpy(maps.data() + i * sizeof map, &map, sizeof map);
        q.x_table[i] = fixed_ref(maps.data() + i * sizeof map);
        q.x_in_table[i] = 1;
      } else {
        q.x_maps[i] = map;
      }
    }
    if (!encode_tensor_map(linear_w_map(o.params.weights, o.params.n, o.params.k_tiles, v->tile_n), &q.w_map).is_ok()) fail(name, "no map of w");
    o.poison();
    report = {};
    const Status s = launch_linear_sm90(nullptr, *v, q, 3);
    if (!s.is_ok() && report.ok()) fail(name, s.message());
    if (!o.check(name)) continue;
    if (o.whole_stores() && report.conflicts() != 0) fail(name, std::to_string(report.conflicts()) + " bank conflicts");
    if (bytes) o.check_bytes(name, v->tile_m, v->tile_n);
  }
}

bool one_level(const Problem& p) { return p.outer == 1 || p.outer_gap == 0; }

// One problem in four under AddressSanitizer; the lists are of lengths that make those differ in every dimension.
void run(const Problem& p) {
  static int turn = 0;
  if (op_test::kSanitized && turn++ % 4 != 0) return;
  Operands o(p);
  const LinearKind kind = o.kind();
  run_variants(p, linear_tiles(kind), "tiles", o, !kind.f32 && kind.wide_x, kind.wide_x && !p.bias);
  if (o.params.m <= (p.f32_x ? 20 : kLinearStreamM)) run_variants(p, linear_streams(kind), "stream", o, false, false);
  if (!kind.f32 && kind.wide_x && one_level(p)) run_sm90(p, o, !p.bias, false);
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
  Problem p{1, 90, {72, 64}, 80};
  Operands o(p);
  o.y_behind_table();
  run_variants(p, linear_tiles(o.kind()), "tiles, y behind the table", o, true, false);
  run_sm90(p, o, false, true);
}

// The order in which asynchronous data lands and warps run must not matter.
void test_orders() {
  for (const emu::Landing landing : {emu::Landing::kEarly, emu::Landing::kLate, emu::Landing::kRandom})
    for (const uint64_t seed : {1, 2}) {
      emu::set_options({landing, seed});
      Problem p{1, 200, {328}, 152};
      run(p);
      p.gated = true;
      p.bias = false;
      run(p);
      p.inner = 20;
      run(p);
    }
}

constexpr DType F = DType::kF32, H = DType::kBF16;

// The op through the backend: stacked weights of every stored type, absent biases, concatenated and strided inputs.
void test_backend(const std::vector<Backend*>& cuda, Backend& reference) {
  using op_test::Case;
  struct Shape { int64_t rows; std::vector<int64_t> parts, widths; };
  for (const Shape& s : {Shape{5, {72}, {40}}, Shape{50, {1}, {1}}, Shape{70, {72, 24}, {24, 40}}, Shape{90, {136}, {33, 8, 15}}, Shape{3, {640}, {7, 70}}, Shape{160, {64, 64, 8, 40}, {96}}})
    for (const DType x : {F, H})
      for (const DType y : {F, H})
        for (const DType w : {F, H, DType::kF16})
          for (const int64_t gap : {0, 3, 8}) {
            if ((gap == 3) != (w == DType::kF16)) continue;  // pairs enough
            Case c("linear of " + std::to_string(s.rows) + " rows", Opcode::kLinear);
            c.attr = {static_cast<int32_t>(s.parts.size()), static_cast<int32_t>(s.widths.size()), static_cast<int32_t>(s.rows % 6)};
            int64_t k = 0, n = 0;
            for (const int64_t part : s.parts) {
              c.input({2, s.rows, part}, x, 1, gap, gap);
              k += part;
            }
            c.depth = static_cast<double>(k);
            for (const int64_t width : s.widths) {
              c.weight({width, k}, w, 1 / std::sqrt(static_cast<double>(k)));
              n += width;
            }
            for (size_t j = 0; j < s.widths.size(); ++j) {
              if (j % 2 == 0) c.weight({s.widths[j]}, w);
              else c.absent();
            }
            c.output({2, s.rows, n}, y, gap, gap);
            c.persistent = gap == 8;
            op_test::check_case(c, cuda, reference);
          }
  for (const int64_t rows : {4, 100})
    for (const DType x : {F, H})
      for (const DType w : {F, H}) {
        Case c("gated linear of " + std::to_string(rows) + " rows", Opcode::kGatedLinear);
        c.attr = {static_cast<int32_t>(Act::kGeluTanh)};
        c.depth = 72;
        c.input({rows, 72}, x, 1, 8);
        c.weight({44, 72}, w, 0.2);
        c.weight({44, 72}, w, 0.2);
        c.output({rows, 44}, x);
        op_test::check_case(c, cuda, reference);
      }
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
  emu::set_observer([](const emu::Report& r) { report = r; });
  if (op_test::kSanitized) op_test::most_work = op_test::kMostSanitizedWork;
  emu::set_options({emu::Landing::kRandom, 1});
  test_tails();
  test_types();
  test_activations();
  test_views();
  test_orders();
  test_choice();
  std::unique_ptr<Backend> cuda, reference;
  const Status opened = make_cuda_backend({0, 1, 0}, &cuda);
  if (!opened.is_ok() || !make_reference_backend({0, 1, 0}, &reference).is_ok()) {
    std::printf("FAIL no device: %s\n", opened.message().c_str());
    return 1;
  }
  test_backend({cuda.get()}, *reference);
  op_test::checks += checks;
  op_test::failures += failures;
  return op_test::finish();
}
