// Opcodes of the CUDA backend against the reference.
#include "op_case.inc"

namespace {

using namespace op_test;

constexpr DType F = DType::kF32, H = DType::kBF16;

void test_copy(const std::vector<Backend*>& cuda, Backend& reference) {
  const std::vector<std::vector<int64_t>> shapes = {{1}, {7}, {5, 16}, {3, 40, 24}, {2, 3, 5, 8}, {2, 300, 3}};
  for (const auto& dims : shapes)
    for (const DType x : {F, H})
      for (const DType y : {F, H})
        for (const int64_t gap : {0, 5, 8}) {
          Case c("copy " + std::to_string(dims.size()) + " dims, last " + std::to_string(dims.back()) + ", gap " + std::to_string(gap), Opcode::kCopy);
          c.exact = true;
          c.input(dims, x, 1, gap, gap);
          c.output(dims, y, gap == 5 ? 0 : gap, gap);
          check_case(c, cuda, reference);
        }
}

}  // namespace

int main() {
  std::unique_ptr<Backend> cuda, reference;
  const Status opened = make_cuda_backend({0, 1, 0}, &cuda);
  if (!opened.is_ok() || !make_reference_backend({0, 1, 0}, &reference).is_ok()) {
    std::printf("FAIL no device: %s\n", opened.message().c_str());
    return 1;
  }
  test_copy({cuda.get()}, *reference);
  std::printf("%d checks, %d failures\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
