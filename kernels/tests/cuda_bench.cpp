// Single ops of the CUDA backend at the shapes of released models, on random data.
//   cuda_bench ecad|cublaslt [small]     times them, by whose kernels matrices are multiplied: a JSON array on standard output, one object for each op
//   cuda_bench race [small]              runs each up to 200 times: every run must give the same bytes, finite ones
// small: tiny shapes, to see that it runs. Times are device times by events around the op, medians of some runs; flops and bytes are those of ecad_program_op. Without a
// CUDA device it prints SKIP and ends with 77; where cuBLASLt is asked for and is not there, too.
#include <algorithm>
#include <chrono>

#include "fixture.h"

namespace {

using writer::kAbsent;
using writer::kBF16;

struct How {
  bool race = false;
  int64_t shrink = 1;  // shapes are so much smaller
  int repeats = 20, races = 10;               // times an op is timed, and raced at the least
  std::chrono::milliseconds race_time{800};   // within which it is raced more often
};

constexpr int kMostRaces = 200;

// An op on operands in scratch memory, which copies from a state's buffers fill.
class OpBench {
 public:
  OpBench(ecad_device* device, const How& how) : device_(device), how_(how) { p_.section(1, "bench"); }

  uint32_t input(const writer::Dims& dims) {
    const uint32_t from = p_.persistent("x" + std::to_string(inputs_.size()), kBF16, dims), to = p_.arena(kBF16, dims);
    p_.op(writer::kCopy, {from}, {to});
    inputs_.push_back(count(dims));
    return to;
  }
  uint32_t weight(const writer::Dims& dims) {
    const std::string name = "w" + std::to_string(weights_.size());
    weights_.push_back({name, dims, random(count(dims), 0.02f)});
    return p_.weight(name, dims);
  }
  uint32_t output(const writer::Dims& dims) {
    outputs_.push_back({p_.arena(kBF16, dims), dims});
    return outputs_.back().tensor;
  }
  uint32_t columns(uint32_t of, const writer::Dims& dims, int64_t stride, int64_t first) { return p_.view(of, dims, {dims[1] * stride, stride, 1}, static_cast<uint64_t>(first)); }
  uint32_t ones(const writer::Dims& dims) { return p_.constant(writer::kF32, dims, std::vector<float>(count(dims), 1.0f).data()); }

  void run(const char* name, const char* shape, uint32_t code, const std::vector<uint32_t>& in, const std::vector<uint32_t>& out, std::initializer_list<int32_t> attr, std::initializer_list<double> fattr) {
    op(code, in, out, attr, fattr);
    measure(name, shape, p_.ops.size() - 1);
  }
  void op(uint32_t code, const std::vector<uint32_t>& in, const std::vector<uint32_t>& out, std::initializer_list<int32_t> attr, std::initializer_list<double> fattr) { p_.op(code, in, out, attr, fattr); }

  size_t ops() const { return p_.ops.size(); }

  // The ops from `first` on, together.
  void measure(const char* name, const char* shape, size_t first) {
    for (size_t i = 0; how_.race && i < outputs_.size(); ++i) p_.op(writer::kCopy, {outputs_[i].tensor}, {p_.persistent("y" + std::to_string(i), kBF16, outputs_[i].dims)});
    p_.schedule("bench", {{0, 0}});
    std::vector<ecad_tensor_desc> descs;
    for (const Stored& s : weights_) {
      ecad_tensor_desc d{s.name.c_str(), ECAD_BFLOAT16, static_cast<int32_t>(s.dims.size()), {1, 1, 1, 1}, s.data.data(), s.data.size() * 2};
      std::copy(s.dims.begin(), s.dims.end(), d.dims);
      descs.push_back(d);
    }
    ecad_weights* w = nullptr;
    CHECK_OK(ecad_weights_create(device_, descs.data(), descs.size(), &w, &err));
    const Handle<ecad_weights> weights(w);
    const auto program = load(device_, w, p_);
    const auto state = new_state(program.get());
    for (uint32_t i = 0; i < inputs_.size(); ++i) {
      const std::vector<uint16_t> data = random(inputs_[i], 1);
      CHECK_OK(ecad_state_write_buffer(state.get(), i, data.data(), data.size() * 2, &err));
    }
    if (how_.race) race(name, shape, state.get(), program.get());
    else time(name, shape, state.get(), program.get(), first);
  }

  static inline int printed = 0, checks = 0, failures = 0;

 private:
  struct Stored { std::string name; writer::Dims dims; std::vector<uint16_t> data; };
  struct Output { uint32_t tensor; writer::Dims dims; };

  // Events are around the ops of p_ from `first` on.
  void time(const char* name, const char* shape, ecad_state* state, ecad_program* program, size_t first) {
    std::vector<uint64_t> ns;
    std::vector<ecad_op_time> times(p_.ops.size());
    const int warm = how_.repeats > 1 ? 2 : 0;
    for (int i = 0; i < how_.repeats + warm; ++i) {
      ecad_run_args args = ECAD_RUN_ARGS_INIT;
      args.times = times.data();
      args.times_cap = times.size();
      CHECK_OK(ecad_run_schedule(state, program, 0, &args, &err));
      if (i < warm) continue;
      ns.push_back(0);
      for (size_t op = first; op < times.size(); ++op) ns.back() += times[op].dur_ns;
    }
    std::nth_element(ns.begin(), ns.begin() + static_cast<std::ptrdiff_t>(ns.size() / 2), ns.end());
    const double taken = static_cast<double>(ns[ns.size() / 2]);
    double flops = 0, bytes = 0;
    for (size_t op = first; op < times.size(); ++op) {
      ecad_op_info info = ECAD_OP_INFO_INIT;
      CHECK_OK(ecad_program_op(program, static_cast<uint32_t>(op), &info, &err));
      flops += static_cast<double>(info.flops);
      bytes += static_cast<double>(info.bytes);
    }
    std::printf("%s\n  {\"op\": \"%s\", \"shape\": \"%s\", \"us\": %.2f, \"tflops\": %.4g, \"gb_per_s\": %.4g}", printed++ == 0 ? "[" : ",", name, shape, taken * 1e-3,
                flops / taken * 1e-3, bytes / taken);
    std::fflush(stdout);
  }

  void race(const char* name, const char* shape, ecad_state* state, ecad_program* program) {
    const auto begin = std::chrono::steady_clock::now();
    std::vector<std::vector<uint16_t>> first;
    int runs = 0, differ = 0;
    bool finite = true;
    for (; runs < kMostRaces && (runs < how_.races || std::chrono::steady_clock::now() - begin < how_.race_time); ++runs) {
      CHECK_OK(ecad_run_schedule(state, program, 0, nullptr, &err));
      bool same = true;
      for (size_t i = 0; i < outputs_.size(); ++i) {
        std::vector<uint16_t> out(count(outputs_[i].dims), 0x7fc0);
        CHECK_OK(ecad_state_read_buffer(state, static_cast<uint32_t>(inputs_.size() + i), out.data(), out.size() * 2, &err));
        if (runs > 0) {
          same = same && out == first[i];
          continue;
        }
        for (const uint16_t v : out) finite = finite && (v & 0x7f80) != 0x7f80;
        first.push_back(std::move(out));
      }
      differ += same ? 0 : 1;
    }
    ++checks;
    failures += differ > 0 || !finite ? 1 : 0;
    std::printf("%s %s %s: %d runs, %d differ from the first%s\n", differ > 0 || !finite ? "FAIL" : "PASS", name, shape, runs, differ, finite ? "" : ", which is not finite");
    std::fflush(stdout);
  }

  static size_t count(const writer::Dims& dims) {
    size_t n = 1;
    for (const int64_t d : dims) n *= static_cast<size_t>(d);
    return n;
  }
  // bfloat16 near a normal distribution: what a device draws for products depends on the values.
  static std::vector<uint16_t> random(size_t n, float scale) {
    std::vector<uint16_t> v(n);
    uint64_t s = 88172645463325252u;
    for (uint16_t& e : v) {
      float sum = 0;
      for (int k = 0; k < 3; ++k) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        sum += static_cast<float>(s >> 40) * 0x1p-23f - 1;
      }
      sum *= scale;
      uint32_t bits;
      std::memcpy(&bits, &sum, 4);
      e = static_cast<uint16_t>(bits >> 16);
    }
    return v;
  }

  ecad_device* device_;
  const How how_;
  writer::Program p_;
  std::vector<size_t> inputs_;
  std::vector<Output> outputs_;
  std::vector<Stored> weights_;
};

struct Linear { const char* name; int64_t m, n, k; int32_t act; };
// Rows: PixArt at 256 pixels with guidance, one picture; at 1024 pixels; FLUX at 1024 pixels.
constexpr Linear kLinears[] = {
    {"pixart-256 qkv", 512, 3456, 1152, 0},   {"pixart-256 up", 512, 4608, 1152, 1},    {"pixart-256 down", 512, 1152, 4608, 0},
    {"pixart-1024 qkv", 8192, 3456, 1152, 0}, {"pixart-1024 out", 8192, 1152, 1152, 0}, {"pixart-1024 up", 8192, 4608, 1152, 1}, {"pixart-1024 down", 8192, 1152, 4608, 0},
    {"flux-1024 qkv", 4096, 9216, 3072, 0},   {"flux-1024 up", 4096, 12288, 3072, 1},   {"flux-1024 down", 4096, 3072, 12288, 0}, {"flux-1024 single", 4608, 21504, 3072, 0},
    {"flux-1024 single out", 4608, 3072, 15360, 0}};

struct Attention { const char* name; int64_t batch, heads, dim, queries, keys; };
constexpr Attention kAttentions[] = {{"pixart-256 self", 2, 16, 72, 256, 256},   {"pixart-256 b100 self", 200, 16, 72, 256, 256}, {"pixart-1024 self", 2, 16, 72, 4096, 4096},
                                     {"pixart-1024 cross", 2, 16, 72, 4096, 120}, {"pixart-sigma cross", 2, 16, 72, 4096, 300},    {"flux-1024 joint", 1, 24, 128, 4608, 4608}};

struct Chain { const char* name; int64_t tokens, width; int terms; };
constexpr Chain kChains[] = {{"pixart-1024, norm", 8192, 1152, 1}, {"pixart-1024, 12 slots", 8192, 1152, 12}, {"pixart-1024, 84 slots", 8192, 1152, 84}, {"flux-1024, norm", 4608, 3072, 1}, {"flux-1024, 12 slots", 4608, 3072, 12}};

void bench_linear(ecad_device* d, const Linear& s, const How& how) {
  const int64_t m = std::max<int64_t>(1, s.m / how.shrink), n = s.n / how.shrink / 8 * 8, k = s.k / how.shrink / 8 * 8;
  OpBench b(d, how);
  const uint32_t x = b.input({m, k}), w = b.weight({n, k}), bias = b.weight({n}), y = b.output({m, n});
  b.run("linear", s.name, writer::kLinear, {x, w, bias}, {y}, {1, 1, s.act}, {});
}

// Queries, keys and values of FLUX's single blocks: the linear and the norm and rotation behind it, which the executor may take for one. cuBLASLt has the linear alone.
void bench_heads(ecad_device* d, const char* shape, int64_t m, int64_t heads, const How& how) {
  const int64_t rows = std::max<int64_t>(1, m / how.shrink), n_heads = std::max<int64_t>(1, heads / how.shrink), depth = 128, width = n_heads * depth;
  OpBench b(d, how);
  const uint32_t x = b.input({1, rows, width}), w = b.weight({3 * width, width}), bias = b.weight({3 * width}), y = b.output({1, rows, 3 * width});
  const uint32_t q = b.columns(y, {1, rows, width}, 3 * width, 0), k = b.columns(y, {1, rows, width}, 3 * width, width);
  const size_t first = b.ops();
  b.op(writer::kLinear, {x, w, bias}, {y}, {1, 1, 0}, {});
  b.op(writer::kQkNormRope, {q, k, b.weight({depth}), b.weight({depth}), b.ones({rows, depth})}, {q, k}, {static_cast<int32_t>(n_heads), static_cast<int32_t>(depth)}, {1e-6});
  b.measure("linear", shape, first);
}

void bench_attention(ecad_device* d, const Attention& s, const How& how) {
  const int64_t batch = std::min<int64_t>(s.batch, how.shrink > 1 ? 2 : s.batch), heads = std::max<int64_t>(1, s.heads / how.shrink), width = heads * s.dim, queries = std::max<int64_t>(1, s.queries / how.shrink),
                keys = std::max<int64_t>(1, s.keys / how.shrink);
  OpBench b(d, how);
  const uint32_t q = b.input({batch, queries, width}), k = b.input({batch, keys, width}), v = b.input({batch, keys, width}), y = b.output({batch, queries, width});
  b.run("attention", s.name, writer::kAttention, {q, k, v, kAbsent, kAbsent}, {y}, {static_cast<int32_t>(heads), static_cast<int32_t>(s.dim), 0}, {1 / std::sqrt(static_cast<double>(s.dim))});
}

void bench_chain(ecad_device* d, const Chain& s, const How& how) {
  const int64_t tokens = std::max<int64_t>(1, s.tokens / how.shrink), width = s.width;
  OpBench b(d, how);
  std::vector<uint32_t> in = {b.input({1, tokens, width})};
  for (int i = 0; i < s.terms; ++i) {
    in.push_back(b.input({1, tokens, width}));
    in.push_back(b.input({1, width}));
  }
  const bool norm = s.terms == 1;
  for (int i = 0; i < 2; ++i) in.push_back(norm ? b.input({1, width}) : kAbsent);
  in.insert(in.end(), {kAbsent, kAbsent});
  const uint32_t x = b.output({1, tokens, width}), normed = norm ? b.output({1, tokens, width}) : kAbsent;
  b.run("chain", s.name, writer::kChain, in, {x, normed}, {s.terms, norm ? 1 : 0}, {1e-6});
}

int bench(const std::string& mode, const How& how) {
  ecad_device_config config = ECAD_DEVICE_CONFIG_INIT;
  config.backend = ECAD_BACKEND_CUDA;
  config.gemm = mode == "cublaslt" ? ECAD_GEMM_CUBLASLT : ECAD_GEMM_ECAD;
  ecad_device* d = nullptr;
  ecad_error err = ECAD_ERROR_INIT;
  const ecad_status opened = ecad_device_open(&config, &d, &err);
  if (opened == ECAD_NO_DEVICE || opened == ECAD_UNSUPPORTED) {
    std::printf("SKIP: %s\n", err.message);
    return 77;
  }
  if (opened != ECAD_OK) throw std::runtime_error(err.message);
  const Handle<ecad_device> device(d);
  for (const Linear& s : kLinears) bench_linear(d, s, how);
  bench_heads(d, "flux-1024 qkv, norm and rotation", 4608, 24, how);
  if (mode != "cublaslt") {
    for (const Attention& s : kAttentions) bench_attention(d, s, how);
    for (const Chain& s : kChains) bench_chain(d, s, how);
  }
  if (how.race) std::printf("%d checks, %d failures\n", OpBench::checks, OpBench::failures);
  else std::printf("\n]\n");
  return OpBench::failures > 0 ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  const bool small = argc == 3 && std::string(argv[2]) == "small";
  if (argc < 2 || argc > 3 || (argc == 3 && !small) || (mode != "ecad" && mode != "cublaslt" && mode != "race")) {
    std::fprintf(stderr, "usage: cuda_bench ecad|cublaslt|race [small]\n");
    return 2;
  }
  How how;
  how.race = mode == "race";
  if (small) how.shrink = 64, how.repeats = 1, how.races = 2, how.race_time = {};
  try {
    return bench(mode, how);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "cuda_bench: %s\n", e.what());
    return 1;
  }
}
