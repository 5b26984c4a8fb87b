// Speed of the cpu backend's kernels, one line each: best of several runs, on one thread unless told otherwise. With one thread its own processor
// time counts, so that other work on the machine matters less; with more, the time that passes.
//   cpu_bench [threads] [isa] [name filter]
// GFLOP/s count 2 per multiply-add; GB/s count every operand once.
#include <ctime>

#include "../cpu/cpuid.h"
#include "op_case.inc"
#include "head_case.h"

namespace {

using namespace op_test;

constexpr DType F = DType::kF32, H = DType::kBF16;

clockid_t clock_used = CLOCK_THREAD_CPUTIME_ID;

double seconds() {
  timespec t;
  clock_gettime(clock_used, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

const char* type_name(DType t) { return t == H ? "bf16" : "f32"; }

struct Bench {
  Backend& backend;
  const char* filter;

  // Best time of one run. Inputs hold small random numbers.
  double time_of(const Case& c) {
    Program p = {};
    p.num_steps = 1;
    Op op = {};
    op.code = c.code;
    op.attr = c.attr;
    op.fattr = c.fattr;
    std::vector<void*> blocks;
    std::vector<WeightView> weights(c.in.size(), WeightView{nullptr, DType::kAny, nullptr, 0});
    std::vector<Operand> in, out;
    Random random(3);
    const auto add = [&](const Arg& a, std::vector<uint32_t>* list, std::vector<Operand>* data) {
      if (a.absent) {
        list->push_back(kNoTensor);
        data->push_back({nullptr});
        return;
      }
      Tensor t = {};
      t.dtype = a.dtype;
      t.rank = static_cast<uint32_t>(a.dims.size());
      t.dims = {1, 1, 1, 1};
      const auto strides = a.strides.empty() ? gap_strides(a.dims, 0, 0) : a.strides;
      int64_t extent = 1;
      for (size_t i = 0; i < a.dims.size(); ++i) {
        t.dims[i] = a.dims[i];
        t.strides[i] = strides[i];
        extent += (a.dims[i] - 1) * strides[i];
      }
      list->push_back(static_cast<uint32_t>(p.tensors.size()));
      p.tensors.push_back(t);
      void* b = backend.allocate(static_cast<size_t>(extent) * dtype_size(t.dtype) + 64);
      for (int64_t i = 0; i < extent; ++i) store_element(b, t.dtype, i, random.uniform(-0.1, 0.1));
      blocks.push_back(b);
      data->push_back({b});
    };
    p.tensors.reserve(c.in.size() + c.out.size());
    for (const Arg& a : c.in) add(a, &op.in, &in);
    for (const Arg& a : c.out) add(a, &op.out, &out);
    for (size_t i = 0; i < c.in.size(); ++i)
      if (c.in[i].weight) weights[i] = {&p.tensors[op.in[i]], c.in[i].dtype, in[i].data, static_cast<uint32_t>(i)};
    p.ops.push_back(op);
    auto cache = backend.new_weight_cache();
    std::unique_ptr<Kernel> kernel;
    Status s = backend.bind({&p, &p.ops[0], weights.data(), cache.get()}, &kernel);
    double best = 1e30;
    for (int i = 0; i < 12 && s.is_ok(); ++i) {
      const double t0 = seconds();
      s = kernel->run({in.data(), out.data(), 0});
      best = std::min(best, seconds() - t0);
    }
    if (!s.is_ok()) std::printf("%s: %s\n", c.name.c_str(), s.message().c_str());
    for (void* b : blocks) backend.deallocate(b, 0);
    return best;
  }

  void line(const Case& c, double flops) {
    if (filter && c.name.find(filter) == std::string::npos) return;
    double bytes = 0;
    for (const Arg& a : c.in) if (!a.absent) bytes += static_cast<double>(c.count(a.dims)) * static_cast<double>(dtype_size(a.dtype));
    for (const Arg& a : c.out) if (!a.absent) bytes += static_cast<double>(c.count(a.dims)) * static_cast<double>(dtype_size(a.dtype));
    const double t = time_of(c);
    std::printf("%-52s %9.1f us %8.1f GFLOP/s %7.2f GB/s\n", c.name.c_str(), t * 1e6, flops / t * 1e-9, bytes / t * 1e-9);
  }
};

Arg shaped(std::vector<int64_t> dims, DType t, bool weight = false) {
  Arg a;
  a.dims = std::move(dims);
  a.dtype = t;
  a.weight = weight;
  return a;
}

// first: columns of the first of two inputs; 0: there is one.
void linear(Bench& b, int64_t rows, int64_t k, int64_t n, Act act, DType t, int64_t first = 0) {
  Case c("linear " + std::to_string(rows) + "x" + std::to_string(k) + "x" + std::to_string(n) + (first > 0 ? " concat" : "") + (act == Act::kNone ? " " : " gelu ") + type_name(t), Opcode::kLinear);
  c.attr = {first > 0 ? 2 : 1, 1, static_cast<int32_t>(act), 0, 0, 0, 0, 0};
  if (first > 0) c.in.push_back(shaped({rows, first}, t));
  for (const Arg& a : {shaped({rows, k - first}, t), shaped({n, k}, t, true), shaped({n}, t, true)}) c.in.push_back(a);
  c.out = {shaped({rows, n}, t)};
  b.line(c, 2.0 * static_cast<double>(rows) * static_cast<double>(k) * static_cast<double>(n));
}

void attention(Bench& b, int64_t batch, int64_t heads, int64_t dim, int64_t queries, int64_t keys, DType t) {
  Case c("attention b" + std::to_string(batch) + " h" + std::to_string(heads) + " d" + std::to_string(dim) + " " + std::to_string(queries) + "x" + std::to_string(keys) + " " + type_name(t),
         Opcode::kAttention);
  c.attr = {static_cast<int32_t>(heads), static_cast<int32_t>(dim), 0, 0, 0, 0, 0, 0};
  c.fattr[0] = 1 / std::sqrt(static_cast<double>(dim));
  const int64_t width = heads * dim;
  c.in = {shaped({batch, queries, width}, t), shaped({batch, keys, width}, t), shaped({batch, keys, width}, t)};
  c.absent();
  c.absent();
  c.out = {shaped({batch, queries, width}, t)};
  b.line(c, 4.0 * static_cast<double>(batch) * static_cast<double>(queries) * static_cast<double>(keys) * static_cast<double>(width));
}

void chain(Bench& b, int64_t rows, int64_t width, int64_t slots, DType t) {
  Case c("chain " + std::to_string(rows) + "x" + std::to_string(width) + " slots " + std::to_string(slots) + " norm modulate " + type_name(t), Opcode::kChain);
  c.attr = {static_cast<int32_t>(slots), static_cast<int32_t>(Norm::kLayer), 0, 0, 0, 0, 0, 0};
  c.fattr[0] = 1e-6;
  c.in = {shaped({2, rows / 2, width}, t)};
  for (int64_t i = 0; i < slots; ++i) {
    c.in.push_back(shaped({2, rows / 2, width}, t));
    c.in.push_back(shaped({1, width}, F));
  }
  c.in.push_back(shaped({1, width}, F));
  c.in.push_back(shaped({1, width}, F));
  c.absent();
  c.absent();
  c.out = {shaped({2, rows / 2, width}, t), shaped({2, rows / 2, width}, t)};
  b.line(c, 2.0 * static_cast<double>(rows) * static_cast<double>(width) * static_cast<double>(slots + 4));
}

void heads(Bench& b, int64_t tokens, int64_t heads, int64_t dim, DType t) {
  Case c = qk_norm_rope_case({1, tokens, heads, dim, t, t, F, F, t, true, false});
  c.name = "qk_norm_rope " + std::to_string(tokens) + " h" + std::to_string(heads) + " d" + std::to_string(dim) + " " + type_name(t);
  b.line(c, 18.0 * static_cast<double>(tokens * heads * dim));
}

void conv(Bench& b, int64_t size, int64_t ci, int64_t co, DType t) {
  Case c("conv2d " + std::to_string(size) + "x" + std::to_string(size) + " " + std::to_string(ci) + "->" + std::to_string(co) + " 3x3 " + type_name(t), Opcode::kConv2d);
  c.attr = {1, 1, 0, 0, 0, 0, 0, 0};
  c.in = {shaped({1, size, size, ci}, t), shaped({co, ci, 3, 3}, t, true), shaped({co}, t, true)};
  c.out = {shaped({1, size, size, co}, t)};
  b.line(c, 18.0 * static_cast<double>(size * size) * static_cast<double>(ci * co));
}

void group_norm(Bench& b, int64_t size, int64_t channels, DType t) {
  Case c("group_norm " + std::to_string(size) + "x" + std::to_string(size) + "x" + std::to_string(channels) + " silu " + type_name(t), Opcode::kGroupNorm);
  c.attr = {32, static_cast<int32_t>(Act::kSilu), 0, 0, 0, 0, 0, 0};
  c.fattr[0] = 1e-6;
  c.in = {shaped({1, size, size, channels}, t), shaped({channels}, F, true), shaped({channels}, F, true)};
  c.out = {shaped({1, size, size, channels}, t)};
  b.line(c, 10.0 * static_cast<double>(size * size * channels));
}

}  // namespace

int main(int argc, char** argv) {
  std::unique_ptr<Backend> backend;
  const Status s = make_cpu_backend({0, argc > 1 ? std::atoi(argv[1]) : 1, argc > 2 ? std::atoi(argv[2]) : ECAD_ISA_AUTO}, &backend);
  if (!s.is_ok()) {
    std::printf("%s\n", s.message().c_str());
    return 1;
  }
  BackendInfo info;
  backend->describe(&info);
  std::printf("%s, %d threads, %s\n", info.name.c_str(), info.num_threads, info.features.c_str());
  if (info.num_threads > 1) clock_used = CLOCK_MONOTONIC;
  Bench b{*backend, argc > 3 ? argv[3] : nullptr};
  for (const DType t : {F, H}) {
    linear(b, 512, 1152, 1152, Act::kNone, t);
    linear(b, 512, 1152, 3456, Act::kNone, t);
    linear(b, 512, 1152, 4608, Act::kGeluTanh, t);
    linear(b, 512, 4608, 1152, Act::kNone, t);
    linear(b, 20, 1152, 6912, Act::kNone, t);
    linear(b, 1, 1152, 6912, Act::kNone, t);
    for (const int64_t n : {144, 432, 576}) linear(b, 1024, 144, n, n == 576 ? Act::kGeluTanh : Act::kNone, t);
    linear(b, 64, 144, 576, Act::kGeluTanh, t);
    linear(b, 64, 576, 144, Act::kNone, t);
    attention(b, 2, 16, 72, 256, 256, t);
    attention(b, 2, 16, 72, 256, 120, t);
    attention(b, 1, 4, 72, 4096, 4096, t);
    attention(b, 16, 2, 72, 64, 64, t);
    attention(b, 2, 12, 64, 256, 256, t);
    attention(b, 1, 8, 128, 512, 512, t);
    for (const int64_t slots : {1, 8, 84}) chain(b, 512, 1152, slots, t);
    for (const int64_t slots : {1, 8}) chain(b, 1024, 144, slots, t);
    linear(b, 768, 3072, 9216, Act::kNone, t);  // FLUX at 256 px: 512 text and 256 image tokens
    linear(b, 512, 3072, 12288, Act::kGeluTanh, t);
    linear(b, 256, 12288, 3072, Act::kNone, t);
    for (const int64_t first : {0, 3072}) linear(b, 768, 15360, 3072, Act::kNone, t, first);
    attention(b, 1, 24, 128, 768, 768, t);
    chain(b, 768, 3072, 2, t);
    heads(b, 768, 24, 128, t);
    conv(b, 64, 256, 256, t);
    conv(b, 64, 4, 512, t);
    conv(b, 128, 128, 3, t);
    group_norm(b, 64, 256, t);
  }
}
