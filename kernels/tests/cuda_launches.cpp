// How each kernel is launched, and what it reads, writes and multiplies, as the emulator sees it: the table that make cuda-audit joins with what
// ptxas says. One line per kernel: name, threads of a block, bytes of dynamic shared memory, bytes moved (each once), multiply-adds.
#include <map>

#include "../cuda/emu/emulator.h"
#include "linear_case.h"
#include "head_case.h"

namespace {

using namespace op_test;
namespace emu = cuda::emu;

constexpr DType F = DType::kF32, H = DType::kBF16;

struct Line { uint32_t threads, smem; uint64_t bytes, macs; };
std::map<std::string, Line> lines;

bool run(const Case& c, Backend& cuda) {
  const Outcome o = run_case(c, cuda, false);
  if (!o.status.is_ok()) std::fprintf(stderr, "%s: %s\n", c.name.c_str(), o.status.message().c_str());
  return o.status.is_ok();
}

Case linear(int64_t rows, int64_t k, int64_t n, DType t, Act act) {
  Case c("linear", Opcode::kLinear);
  c.attr = {1, 1, static_cast<int32_t>(act), 0, 0, 0, 0, 0};
  c.input({rows, k}, t);
  c.weight({n, k}, t, 0.1);
  c.weight({n}, F);
  c.output({rows, n}, t);
  return c;
}

Case gated(int64_t rows, int64_t k, int64_t n) {
  Case c("gated_linear", Opcode::kGatedLinear);
  c.attr[0] = static_cast<int32_t>(Act::kSilu);
  c.input({1, rows, k}, H);
  c.weight({n, k}, H, 0.1);
  c.weight({n, k}, H, 0.1);
  c.output({1, rows, n}, H);
  return c;
}

Case attention(int64_t queries, int64_t keys, int64_t heads, int64_t dim, DType t) {
  Case c("attention", Opcode::kAttention);
  c.attr = {static_cast<int32_t>(heads), static_cast<int32_t>(dim), 0, 0, 0, 0, 0, 0};
  c.fattr[0] = 1 / std::sqrt(static_cast<double>(dim));
  c.input({1, queries, heads * dim}, t);
  c.input({1, keys, heads * dim}, t);
  c.input({1, keys, heads * dim}, t);
  c.absent();
  c.absent();
  c.output({1, queries, heads * dim}, t);
  return c;
}

Case chain(int64_t tokens, int64_t width, DType x) {
  Case c("chain", Opcode::kChain);
  c.attr = {2, static_cast<int32_t>(Norm::kLayer), 0, 0, 0, 0, 0, 0};
  c.fattr[0] = 1e-6;
  c.input({1, tokens, width}, x);
  for (int k = 0; k < 2; ++k) {
    c.input({1, tokens, width}, H);
    c.input({1, width}, F);
  }
  c.input({1, width}, F);
  c.input({1, width}, F);
  c.absent();
  c.absent();
  c.output({1, tokens, width}, x);
  c.output({1, tokens, width}, H);
  return c;
}

Case copy(DType t) {
  Case c("copy", Opcode::kCopy);
  c.input({64, 1152}, t);
  c.output({64, 1152}, t);
  return c;
}

Case conv(int64_t channels, DType t) {
  Case c("conv2d", Opcode::kConv2d);
  c.attr = {1, 1, 0, 0, 0, 0, 0, 0};
  c.input({1, 16, 16, channels}, t);
  c.weight({channels, channels, 3, 3}, t, 0.1);
  c.weight({channels}, F);
  c.output({1, 16, 16, channels}, t);
  return c;
}

Case group_norm(DType t) {
  Case c("group_norm", Opcode::kGroupNorm);
  c.attr = {32, static_cast<int32_t>(Act::kSilu), 0, 0, 0, 0, 0, 0};
  c.fattr[0] = 1e-6;
  c.input({1, 16, 16, 128}, t);
  c.weight({128}, F);
  c.weight({128}, F);
  c.output({1, 16, 16, 128}, t);
  return c;
}

// Kernels that stand for two ops, which no op runs by itself: all their tiles.
void run_heads(int64_t depth) {
  Problem p{1, 256, {256}, 4 * depth};
  p.depth = depth;
  p.heads = p.keys_at = 1;
  p.integers = false;
  Operands o(p);
  const LinearVariants tiles = linear_mma_heads(depth);
  for (const LinearVariant* v = tiles.first; v != tiles.first + tiles.count; ++v) run_variant(p, *v, "heads", o, false, false);
  run_sm90_variants(p, linear_sm90_heads(depth), o, false, false);
}

}  // namespace

int main() {
  std::unique_ptr<Backend> cuda;
  if (!open() || !make_cuda_backend({0, 1, 0}, &cuda).is_ok()) return 1;
  emu::set_observer([](const emu::Report& r) {
    report = r;
    lines.insert({r.kernel, {r.shape.threads, r.shape.smem_bytes, r.counters.unique_read_bytes + r.counters.unique_written_bytes, r.counters.macs}});
  });
  bool ok = true;
  for (const Act act : {Act::kNone, Act::kGeluTanh, Act::kGeluErf, Act::kSilu, Act::kQuickGelu}) ok = run(linear(512, 320, 384, H, act), *cuda) && ok;
  for (const DType t : {F, H})
    for (const int64_t rows : {1, 4, 16, 40, 130}) ok = run(linear(rows, 256, 144, t, Act::kNone), *cuda) && ok;
  ok = run(gated(256, 128, 256), *cuda) && run(gated(8, 128, 256), *cuda) && ok;
  for (const int64_t dim : {40, 64, 72, 128, 512})
    for (const int64_t keys : {120, 256})
      for (const DType t : {F, H}) ok = run(attention(128, keys, 2, dim, t), *cuda) && ok;
  for (const int64_t dim : {64, 72, 128})
    for (const int64_t keys : {120, dim == 128 ? 256 : 300}) ok = run(attention(512, keys, 2, dim, H), *cuda) && ok;  // keys and values stay
  for (const int64_t depth : {64, 128}) run_heads(depth);
  ok = ok && ::failures == 0;
  for (const int64_t width : {144, 1152, 3072})
    for (const DType t : {F, H}) ok = run(chain(64, width, t), *cuda) && ok;
  for (const int64_t dim : {128, 256}) ok = run(qk_norm_rope_case({1, 64, 24, dim, H, H, F, F, H, false, false}), *cuda) && ok;
  for (const DType t : {F, H}) ok = run(copy(t), *cuda) && run(conv(32, t), *cuda) && run(group_norm(t), *cuda) && ok;
  for (const auto& [name, l] : lines) std::printf("%s\t%u\t%u\t%llu\t%llu\n", name.c_str(), l.threads, l.smem, static_cast<unsigned long long>(l.bytes), static_cast<unsigned long long>(l.macs));
  return ok && !lines.empty() ? 0 : 1;
}
