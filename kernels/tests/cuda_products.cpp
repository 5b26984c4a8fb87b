// linear and gated linear through the CUDA backend, against the reference: packing of weights, choice of kernels.
#include "op_case.inc"
#include "cuda_watch.inc"

namespace {

using namespace ecad;
using Backends = std::vector<Backend*>;

constexpr DType F = DType::kF32, H = DType::kBF16;

// The op through the backend: stacked weights of every stored type, absent biases, concatenated and strided inputs.
void test_backend(const Backends& cuda, Backend& reference) {
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

}  // namespace

int main() { return op_test::cuda_main(test_backend, {ECAD_ISA_AUTO, ECAD_ISA_GENERIC}); }  // with and without what sm_90a alone has
