// Opcodes of the image decoder on the CUDA backend against the reference: conv2d, group_norm.
#include "op_case.inc"
#include "cuda_watch.inc"

namespace {

using namespace op_test;

constexpr DType F = DType::kF32, H = DType::kBF16;
using Backends = std::vector<Backend*>;

struct ConvShape { int64_t b, h, w, ci, co, k, stride, pad; };

Case conv_case(const ConvShape& s, DType t, DType y, int64_t gap) {
  Case c("conv2d", Opcode::kConv2d);
  for (const int64_t n : {s.b, s.h, s.w, s.ci, s.co, s.k, s.stride, s.pad, gap, static_cast<int64_t>(t)}) c.name += " " + std::to_string(n);
  c.depth = static_cast<double>(s.ci * s.k * s.k);
  c.attr = {static_cast<int32_t>(s.stride), static_cast<int32_t>(s.pad), 0, 0, 0, 0, 0, 0};
  c.input({s.b, s.h, s.w, s.ci}, t, 1, gap, gap);
  c.weight({s.co, s.ci, s.k, s.k}, t, 1 / std::sqrt(c.depth));
  if (s.stride == 2) c.absent(); else c.weight({s.co}, F);
  c.output({s.b, (s.h + 2 * s.pad - s.k) / s.stride + 1, (s.w + 2 * s.pad - s.k) / s.stride + 1, s.co}, y, gap, 0);
  return c;
}

void test_conv2d(const Backends& cuda, Backend& reference) {
  const ConvShape shapes[] = {{1, 8, 8, 16, 32, 3, 1, 1},  {2, 9, 7, 4, 3, 3, 1, 1},  {2, 10, 11, 16, 24, 3, 2, 1}, {1, 6, 5, 20, 20, 1, 1, 0}, {1, 12, 9, 8, 16, 2, 2, 0},
                              {1, 17, 16, 40, 40, 3, 1, 1}, {1, 9, 9, 8, 8, 3, 3, 0},  {1, 4, 4, 8, 8, 4, 3, 3},     {1, 3, 3, 8, 8, 3, 1, 5},   {1, 12, 12, 64, 72, 3, 1, 1},
                              {1, 5, 5, 72, 130, 1, 1, 0},  {3, 6, 6, 24, 64, 3, 1, 1}};
  for (const ConvShape& s : shapes)
    for (const DType t : {F, H})
      for (const int64_t gap : {0, 5, 8}) {
        if (gap != 0 && s.h * s.w * s.ci > 2000) continue;
        if (t == H && s.ci % 8 == 0 && gap != 5) check_quiet(conv_case(s, t, t, gap), cuda, reference);
        else check_ways(conv_case(s, t, t, gap), cuda, reference, 2);
      }
  check_case(conv_case({1, 8, 8, 16, 3, 3, 1, 1}, H, F, 0), cuda, reference);  // the decoder's last
  // integers: sums are exact, so every element must be right to the last bit
  for (const DType t : {F, H}) {
    Case c = conv_case({2, 7, 9, 24, 40, 3, 1, 1}, t, F, 0);
    c.name += " exact";
    c.exact = true;
    for (Arg& a : c.in) for (double& v : a.values) v = static_cast<double>(c.random.below(9) - 4);
    check_case(c, cuda, reference);
  }
  // the formula of conv_mma.cuh: rows of x once per tap that lies inside, w once per block
  const ConvShape s{1, 8, 16, 16, 64, 3, 1, 1};
  const int64_t inside = (3 * s.h - 2) * (3 * s.w - 2);
  check_count(conv_case(s, H, H, 0), *cuda[0], "bytes asked for", &Watch::asked, static_cast<uint64_t>(inside * s.ci * 2 + s.co * 9 * s.ci * 2 + s.h * s.w * s.co * 4 + 12));
  check_count(conv_case(s, H, H, 0), *cuda[0], "bytes written", &Watch::written, static_cast<uint64_t>(s.h * s.w * s.co * 2));
  // and of conv_direct.cuh: two blocks of 64 pixels; 32 writes of x by warps in each of 9 slices are two-way
  check_count(conv_case(s, F, F, 0), *cuda[0], "bytes asked for", &Watch::asked, static_cast<uint64_t>(inside * s.ci * 4 + 2 * 64 * 9 * s.ci * 4 + 2 * 4096 + 12));
  check_count(conv_case(s, F, F, 0), *cuda[0], "bytes written", &Watch::written, static_cast<uint64_t>(s.h * s.w * s.co * 4));
  check_count(conv_case(s, F, F, 0), *cuda[0], "bank conflicts", &Watch::conflicts, uint64_t{2} * 9 * 32);
}

void test_landings(const Backends& cuda, Backend& reference) {
  each_landing([&] { check_case(conv_case({1, 12, 12, 64, 72, 3, 1, 1}, H, H, 0), cuda, reference); });
}

void test_group_norm(const Backends& cuda, Backend& reference) {
  struct Shape { int64_t b, h, w, c, groups, gap; };
  for (const Shape& s : {Shape{2, 13, 17, 64, 32, 0}, Shape{2, 13, 17, 64, 4, 3}, Shape{1, 4, 4, 16, 1, 0}, Shape{1, 1, 1, 8, 2, 0}, Shape{1, 5, 7, 6, 3, 0}, Shape{3, 9, 40, 24, 1, 8}, Shape{1, 3, 3, 2056, 8, 0}, Shape{1, 70, 64, 8, 1, 0}})
    for (const DType t : {F, H}) {
      Case c("group_norm", Opcode::kGroupNorm);
      for (const int64_t n : {s.b, s.h, s.w, s.c, s.groups, s.gap, static_cast<int64_t>(t)}) c.name += " " + std::to_string(n);
      c.depth = static_cast<double>(s.h * s.w * s.c / s.groups);
      c.attr = {static_cast<int32_t>(s.groups), static_cast<int32_t>(s.groups == 4 ? Act::kNone : Act::kSilu), 0, 0, 0, 0, 0, 0};
      c.fattr[0] = 1e-6;
      c.input({s.b, s.h, s.w, s.c}, t, 2, s.gap, s.gap == 3 ? 5 : 0);
      for (double& v : c.in[0].values) v = rounded(v + 30, t);  // a mean far from zero
      c.weight({s.c}, F);
      c.weight({s.c}, H);
      c.output({s.b, s.h, s.w, s.c}, t, s.gap);
      check_quiet(c, cuda, reference);
    }
}

// The formula of group_norm.cuh for 63 pixels in pieces of 32, by 32 lanes: sums, combine, normalize; 12 bytes of the frame each.
void test_group_norm_bytes(Backend& cuda) {
  const int64_t pixels = 9 * 7, channels = 64, lanes = 32, pieces = 2;  // pieces of 32 pixels
  Case c("group_norm bytes", Opcode::kGroupNorm);
  c.attr = {4, 0, 0, 0, 0, 0, 0, 0};
  c.input({1, 9, 7, channels}, H);
  for (int i = 0; i < 2; ++i) c.weight({channels}, F);
  c.output({1, 9, 7, channels}, H);
  const int64_t asked = 2 * pixels * channels * 2 + pieces * lanes * channels * (2 + 12) + 2 * 12 * pieces * channels + 8 * channels + 3 * 12;
  const int64_t written = pixels * channels * 2 + 12 * pieces * channels + 12 * channels;
  check_count(c, cuda, "bytes asked for", &Watch::asked, static_cast<uint64_t>(asked));
  check_count(c, cuda, "bytes written", &Watch::written, static_cast<uint64_t>(written));
}

void body(const Backends& cuda, Backend& reference) {
  test_conv2d(cuda, reference);
  test_landings(cuda, reference);
  test_group_norm(cuda, reference);
  test_group_norm_bytes(*cuda[0]);
}

}  // namespace

int main() { return op_test::cuda_main(body); }
