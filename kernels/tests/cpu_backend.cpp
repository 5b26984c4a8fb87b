// The cpu backend as a whole: options, packed weights shared and given back, memory, accuracy of activations element by element.
#include <thread>

#include "../cpu/cpuid.h"
#include "../cpu/memory.h"
#include "op_case.inc"

// Under AddressSanitizer an impossible size must give null here, too.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }

namespace {

using namespace op_test;

void expect(bool ok, const char* what) {
  ++checks;
  if (ok) return;
  std::printf("FAIL %s\n", what);
  ++failures;
}

std::unique_ptr<Backend> open(int32_t threads, int32_t isa = ECAD_ISA_AUTO) {
  std::unique_ptr<Backend> b;
  const Status s = make_cpu_backend({0, threads, isa}, &b);
  if (!s.is_ok()) std::printf("%s\n", s.message().c_str());
  return b;
}

void test_options() {
  std::unique_ptr<Backend> b;
  expect(make_cpu_backend({1, 1, 0}, &b).code() == ECAD_NO_DEVICE, "a second cpu device is refused");
  expect(make_cpu_backend({0, 1, 9}, &b).code() == ECAD_INVALID_ARGUMENT, "an unknown isa is refused");
  expect(make_cpu_backend({0, -1, 0}, &b).code() == ECAD_INVALID_ARGUMENT, "a negative number of threads is refused");
  expect(make_cpu_backend({0, 5000, 0}, &b).code() == ECAD_INVALID_ARGUMENT, "thousands of threads are refused");
  expect(b == nullptr, "a refused device is not made");
  BackendInfo info;
  const auto all = open(0);
  all->describe(&info);
  expect(info.num_threads == usable_cores(), "0 threads are all cores");
  expect(info.name.find("cpu: ") == 0 && !info.features.empty(), "the device says what it is");
  if (best_isa(ECAD_ISA_AUTO) == Isa::kGeneric) return;
  const Status lower = make_cpu_backend({0, 1, ECAD_ISA_GENERIC}, &b);  // oneDNN has been used by now
  expect(lower.code() == ECAD_UNSUPPORTED && lower.message().find("isa") == 0, "a lower bound after oneDNN's first use is refused");
}

// A bound linear op over weights that outlive it.
struct BoundLinear {
  BoundLinear(Backend& b, WeightCache* cache, int64_t rows, int64_t k, const std::vector<const std::vector<float>*>& w, DType t) : program(std::make_unique<Program>()) {
    Op op = {};
    op.code = Opcode::kLinear;
    op.attr = {1, static_cast<int32_t>(w.size()), 0, 0, 0, 0, 0, 0};
    int64_t n = 0;
    const auto tensor = [&](int64_t r, int64_t c, DType type) {
      Tensor x = {};
      x.dtype = type;
      x.rank = 2;
      x.dims = {r, c, 1, 1};
      x.strides = {c, 1, 0, 0};
      program->tensors.push_back(x);
      return static_cast<uint32_t>(program->tensors.size() - 1);
    };
    std::vector<WeightView> views(1 + 2 * w.size(), WeightView{nullptr, DType::kAny, nullptr, 0});
    op.in.push_back(tensor(rows, k, t));
    for (size_t j = 0; j < w.size(); ++j) {
      const int64_t width = static_cast<int64_t>(w[j]->size()) / k;
      op.in.push_back(tensor(width, k, DType::kAny));
      views[1 + j] = {nullptr, DType::kF32, w[j]->data(), static_cast<uint32_t>(7 + j)};
      n += width;
    }
    for (size_t j = 0; j < w.size(); ++j) op.in.push_back(kNoTensor);
    op.out.push_back(tensor(rows, n, t));
    program->ops.push_back(op);
    status = b.bind({program.get(), &program->ops[0], views.data(), cache}, &kernel);
  }
  std::unique_ptr<Program> program;
  std::unique_ptr<Kernel> kernel;
  Status status;
};

void test_packing() {
  const auto b = open(1);
  const int64_t k = 64, n = 640;
  const std::vector<float> w1(static_cast<size_t>(k * n), 0.5f), w2(static_cast<size_t>(k * n), 0.25f);
  auto cache = b->new_weight_cache();
  const BoundLinear largest(*b, cache.get(), 4096, k, {&w1, &w2}, DType::kF32);  // takes the scratch that all others fit in
  const uint64_t held = b->packed_bytes();
  expect(largest.status.is_ok() && held >= 2 * sizeof(float) * w1.size(), "packed weights are counted");
  for (const int64_t rows : {1, 2, 17, 128, 500}) {
    const BoundLinear other(*b, cache.get(), rows, k, {&w1, &w2}, DType::kF32);
    expect(other.status.is_ok() && b->packed_bytes() == held, "programs of other shapes share packed weights");
  }
  {
    const BoundLinear alone(*b, cache.get(), 16, k, {&w1}, DType::kF32);
    expect(b->packed_bytes() > held, "another stack of weights is another packing");
  }
  const auto other_cache = b->new_weight_cache();
  const uint64_t before = b->packed_bytes();
  const BoundLinear elsewhere(*b, other_cache.get(), 16, k, {&w1, &w2}, DType::kF32);
  expect(b->packed_bytes() >= before + 2 * sizeof(float) * w1.size(), "weights objects do not share");
  cache.reset();
  const uint64_t after = b->packed_bytes();
  expect(after < before, "released weights give their memory back");
}

void test_memory() {
  const auto b = open(1);
  for (const size_t bytes : {size_t{64}, size_t{4096}, size_t{5} << 20}) {
    auto* p = static_cast<char*>(b->allocate(bytes));
    expect(p && reinterpret_cast<uintptr_t>(p) % (bytes >= size_t{2} << 20 ? size_t{2} << 20 : 64) == 0, "blocks are aligned");
    std::memset(p, 1, bytes);
    b->deallocate(p, bytes);
  }
  expect(b->allocate(SIZE_MAX - 63) == nullptr && b->allocate(size_t{1} << 60) == nullptr, "impossible sizes give null");
  AlignedBuffer buffer;
  expect(!buffer.reserve(size_t{1} << 60) && buffer.size() == 0 && buffer.reserve(100) && buffer.size() >= 100, "a buffer survives a failed reserve");
}

void test_two_devices() {
  // each device lives on a thread of its own, as the core has it
  std::vector<Outcome> outcomes(2);
  Case c("two devices", Opcode::kLinear);
  c.attr = {1, 1, 1, 0, 0, 0, 0, 0};
  c.input({300, 96}, DType::kBF16);
  c.weight({200, 96}, DType::kBF16, 0.1);
  c.absent();
  c.output({300, 200}, DType::kBF16);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 2; ++i)
    threads.emplace_back([&, i] {
      const auto b = open(static_cast<int32_t>(i) + 1);
      for (int r = 0; r < 10; ++r) outcomes[i] = run_case(c, *b, false);
    });
  for (std::thread& t : threads) t.join();
  expect(outcomes[0].status.is_ok() && outcomes[0].bytes == outcomes[1].bytes, "two devices side by side give the same bits");
}

void test_activations() {
  const auto b = open(1);
  std::unique_ptr<Backend> reference;
  if (!make_reference_backend({0, 1, 0}, &reference).is_ok()) std::exit(1);
  for (const Act a : {Act::kGeluTanh, Act::kGeluErf, Act::kSilu, Act::kQuickGelu, Act::kRelu}) {
    Case c("activation", Opcode::kUnary);
    c.attr[0] = static_cast<int32_t>(a);
    c.input({20011}, DType::kF32);
    for (size_t i = 0; i < 20011; ++i) c.in[0].values[i] = rounded((static_cast<double>(i) - 10005) / 400, DType::kF32);
    const double far[] = {-1e30, 1e30, -88, 88, -104, 104, 1e-40, -1e-40, INFINITY};
    for (size_t i = 0; i < sizeof far / sizeof far[0]; ++i) c.in[0].values[i] = rounded(far[i], DType::kF32);
    c.output({20011}, DType::kF32);
    const Outcome got = run_case(c, *b, false), truth = run_case(c, *reference, true);
    bool right = got.status.is_ok();
    for (size_t i = 0; right && i < 20011; ++i) {
      const double x = c.in[0].values[i], y = got.values[0][i], t = truth.values[0][i];
      right = y == t || std::fabs(y - t) <= 4e-7 * std::fabs(t) + 3e-7 * std::min(std::fabs(x), 8.0) + 1e-44;
      if (!right) std::printf("activation %d of %.9g is %.9g, should be %.9g\n", static_cast<int>(a), x, y, t);
    }
    expect(right, "activations are right element by element");
    c.in[0].values[3] = std::numeric_limits<double>::quiet_NaN();
    const Outcome nan = run_case(c, *b, false);
    expect(std::isnan(nan.values[0][3]) && !std::isnan(nan.values[0][4]), "NaN stays NaN");
  }
}

}  // namespace

int main() {
  test_options();
  test_packing();
  test_memory();
  test_two_devices();
  test_activations();
  std::printf("%d checks, %d failures\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
