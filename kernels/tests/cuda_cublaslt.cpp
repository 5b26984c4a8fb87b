// gemm = cublaslt on the emulator, with the library of fake_cublaslt.cpp in the place of NVIDIA's: which linears go to it and with what, results, graphs. Started with
// the argument "missing" where the loader finds no such library, it checks the error.
#include <dlfcn.h>

#include "../cuda/cublaslt_abi.h"
#include "../cuda/cublaslt.h"
#include "fake_cublaslt.h"
#include "fixture.h"
#include "op_case.inc"

namespace {

using namespace op_test;
using fake_cublaslt::Call;

constexpr DType F = DType::kF32, H = DType::kBF16;

std::vector<Call> take() {
  std::vector<Call> calls;
  void* library = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_NOLOAD);
  const auto f = library == nullptr ? nullptr : reinterpret_cast<fake_cublaslt::Take>(dlsym(library, fake_cublaslt::kTake));
  if (f != nullptr) f(&calls);
  return calls;
}

struct Linear {
  int64_t rows, k, n;
  DType x = H, y = H;
  Act act = Act::kNone;
  bool bias = true, persistent = false;
  int64_t gap = 0;
};

Case linear(const Linear& s) {
  Case c("linear " + std::to_string(s.rows) + "x" + std::to_string(s.k) + "x" + std::to_string(s.n) + ", act " + std::to_string(static_cast<int>(s.act)), Opcode::kLinear);
  c.attr = {1, 1, static_cast<int32_t>(s.act)};
  c.depth = static_cast<double>(s.k);
  c.input({2, s.rows, s.k}, s.x, 1, s.gap, 0);
  c.weight({s.n, s.k}, H, 0.2);
  if (s.bias) c.weight({s.n}, H);
  else c.absent();
  c.output({2, s.rows, s.n}, s.y, s.gap, 0);
  c.persistent = s.persistent;
  return c;
}

// How many of the op's two runs were the library's.
size_t calls_of(const Case& c, Backend& cuda, Backend& reference) {
  (void)take();
  check_case(c, {&cuda}, reference);
  return take().size();
}

void expect(bool ok, const std::string& what) {
  ++checks;
  if (ok) return;
  std::printf("FAIL %s\n", what.c_str());
  ++failures;
}

void test_choice(Backend& cuda, Backend& reference) {
  for (const Act act : {Act::kNone, Act::kGeluTanh, Act::kRelu})
    for (const bool bias : {false, true})
      for (const DType y : {F, H}) {
        const Case c = linear({20, 72, 40, H, y, act, bias});
        expect(calls_of(c, cuda, reference) == 2, c.name + ": not by cuBLASLt");
      }
  expect(calls_of(linear({1, 8, 8}), cuda, reference) == 2, "two rows: not by cuBLASLt");
  expect(calls_of(linear({30, 200, 104, H, H, Act::kNone, true, false, 8}), cuda, reference) == 2, "rows with gaps: not by cuBLASLt");
  for (const Act act : {Act::kGeluErf, Act::kSilu, Act::kQuickGelu}) expect(calls_of(linear({20, 72, 40, H, H, act}), cuda, reference) == 0, "an activation that it lacks");
  expect(calls_of(linear({20, 72, 40, F}), cuda, reference) == 0, "float32 rows");
  expect(calls_of(linear({20, 72, 40, H, H, Act::kNone, true, true}), cuda, reference) == 0, "operands behind the table");
  expect(calls_of(linear({20, 72, 40, H, H, Act::kNone, true, false, 3}), cuda, reference) == 0, "rows that are not aligned");
  expect(calls_of(linear({20, 72, static_cast<int64_t>(fake_cublaslt::kNoKernel)}), cuda, reference) == 0, "a shape that it has no kernel for");
  Case two = linear({20, 72, 40});
  two.attr[0] = 2;
  two.in.insert(two.in.begin(), two.in[0]);
  two.in[2] = linear({20, 144, 40}).in[1];
  expect(calls_of(two, cuda, reference) == 0, "concatenated inputs");
}

// Everything that one product is asked with: y^T = w x^T in column-major words.
void test_call(Backend& cuda, Backend& reference) {
  (void)take();
  check_case(linear({20, 72, 40, H, F, Act::kGeluTanh, true, false, 8}), {&cuda}, reference);
  const std::vector<Call> calls = take();
  if (calls.size() != 2) return expect(false, "no call to look at");
  const Call& c = calls[1];
  expect(c.compute_type == CUBLAS_COMPUTE_32F && c.scale_type == CUDA_R_32F, "sums in float32");
  expect(c.trans_a == CUBLAS_OP_T && c.trans_b == CUBLAS_OP_N, "w is transposed, x is not");
  const auto is = [](const fake_cublaslt::Layout& l, int type, uint64_t rows, uint64_t columns, int64_t leading) { return l.type == type && l.rows == rows && l.columns == columns && l.leading == leading; };
  expect(is(c.a, CUDA_R_16BF, 72, 40, 128), "w: 40 rows of 72, packed in lines of 64");
  expect(is(c.b, CUDA_R_16BF, 72, 40, 80), "x: 40 rows of 72, 80 apart");
  expect(is(c.d, CUDA_R_32F, 40, 40, 48) && is(c.c, CUDA_R_32F, 40, 40, 48), "y: 40 rows of 40, 48 apart");
  expect(c.epilogue == (CUBLASLT_EPILOGUE_GELU | CUBLASLT_EPILOGUE_BIAS) && c.bias_type == CUDA_R_32F && c.bias != nullptr, "bias of y's type and GELU in the epilogue");
  expect(c.alpha == 1 && c.beta == 0 && c.c_data == c.d_data, "y is overwritten");
  expect(c.alignment[0] == 256 && c.alignment[1] == 16 && c.alignment[2] == 16 && c.alignment[3] == 16, "alignments as they are");
  expect(reinterpret_cast<uintptr_t>(c.a_data) % 256 == 0 && reinterpret_cast<uintptr_t>(c.b_data) % 16 == 0, "operands are aligned as promised");
  expect(c.reduction_mask == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, "split products add in one order");
  expect(c.workspace != nullptr && c.workspace_bytes == fake_cublaslt::kWorkspaceBytes && c.most_workspace == size_t{32} << 20, "a workspace of our own");
  expect(c.chosen, "the algorithm proposed for this shape");
  expect(c.stream != nullptr && c.stream == calls[0].stream, "on the device's stream");
}

// A section whose linear is the library's: as it is, captured, replayed. The library is called before anything is captured.
void test_graph() {
  constexpr int64_t kRows = 6, kK = 16, kN = 8;
  writer::Program p;
  p.steps = 4;
  const uint32_t x = p.persistent("x", writer::kF32, {kRows, kK}), y = p.persistent("y", writer::kF32, {kRows, kN});
  p.io("x", x, 1);
  p.io("y", y, 2);
  const uint32_t rows = p.arena(writer::kBF16, {kRows, kK}), result = p.arena(writer::kBF16, {kRows, kN});
  p.section(1, "step");
  p.op(writer::kCopy, {x}, {rows});
  p.op(writer::kLinear, {rows, p.weight("w", {kN, kK}), writer::kAbsent}, {result}, {1, 1, 0});
  p.op(writer::kCopy, {result}, {y});
  p.schedule("all", {{0, 0}});
  ecad_device_config config = ECAD_DEVICE_CONFIG_INIT;
  config.backend = ECAD_BACKEND_CUDA;
  config.gemm = ECAD_GEMM_CUBLASLT;
  ecad_device* d = nullptr;
  CHECK_OK(ecad_device_open(&config, &d, &err));
  const Handle<ecad_device> device(d);
  std::vector<float> w(kN * kK);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i % 7) - 3;
  const ecad_tensor_desc desc{"w", ECAD_FLOAT32, 2, {kN, kK, 1, 1}, w.data(), w.size() * 4};
  ecad_weights* held = nullptr;
  CHECK_OK(ecad_weights_create(d, &desc, 1, &held, &err));
  const Handle<ecad_weights> weights(held);
  const auto program = load(d, held, p);
  const auto state = new_state(program.get());
  (void)take();
  for (int run = 0; run < 4; ++run) {
    std::vector<float> in(kRows * kK);
    for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>((i + static_cast<size_t>(run)) % 5) - 2;
    write(state.get(), "x", in);
    CHECK_OK(ecad_run_schedule(state.get(), program.get(), 0, nullptr, &err));
    expect(take().size() == 1, "one product in run " + std::to_string(run));
    const std::vector<float> got = read(state.get(), "y", kRows * kN);
    bool same = true;
    for (int64_t r = 0; r < kRows; ++r)
      for (int64_t n = 0; n < kN; ++n) {
        float sum = 0;
        for (int64_t k = 0; k < kK; ++k) sum += in[static_cast<size_t>(r * kK + k)] * w[static_cast<size_t>(n * kK + k)];
        same = same && got[static_cast<size_t>(r * kN + n)] == sum;
      }
    expect(same, "the product of run " + std::to_string(run));
  }
  ecad_device_info info = ECAD_DEVICE_INFO_INIT;
  CHECK_OK(ecad_device_query(d, &info, &err));
  expect(info.graphs == 1, "later runs are one graph");
  expect(std::strstr(info.features, "cuBLASLt 13.1.5") != nullptr, "the device says which library it uses");
}

int missing() {
  std::unique_ptr<cuda::CublasLt> library;
  const Status s = cuda::CublasLt::open(&library);
  if (s.is_ok()) {
    std::printf("SKIP: this machine has cuBLASLt\n");
    return 77;
  }
  expect(s.code() == ECAD_UNSUPPORTED && s.message().find("cuBLASLt is not found") != std::string::npos && s.message().find("use gemm auto") != std::string::npos, "the error says \"" + s.message() + "\"");
  ecad_device_config config = ECAD_DEVICE_CONFIG_INIT;
  config.backend = ECAD_BACKEND_CUDA;
  config.gemm = ECAD_GEMM_CUBLASLT;
  ecad_device* device = nullptr;
  CHECK_FAILS(ecad_device_open(&config, &device, &err), ECAD_UNSUPPORTED, "cuBLASLt is not found");
  config.gemm = ECAD_GEMM_ECAD;
  CHECK_OK(ecad_device_open(&config, &device, &err));
  ecad_device_release(device);
  return 0;
}

}  // namespace

int main(int argc, char**) {
  try {
    if (argc > 1) {
      const int code = missing();
      if (code != 0) return code;
    } else {
      std::unique_ptr<Backend> cuda, reference;
      const Status opened = make_cuda_backend({0, 1, 0, ECAD_GEMM_CUBLASLT}, &cuda);
      if (!opened.is_ok() || !make_reference_backend({0, 1, 0}, &reference).is_ok()) {
        std::printf("FAIL no device: %s\n", opened.message().c_str());
        return 1;
      }
      test_choice(*cuda, *reference);
      test_call(*cuda, *reference);
      test_graph();
    }
  } catch (const std::exception& e) {
    expect(false, e.what());
  }
  std::printf("%d checks, %d failures\n", checks, failures + check::failures());
  return failures + check::failures() == 0 ? 0 : 1;
}
