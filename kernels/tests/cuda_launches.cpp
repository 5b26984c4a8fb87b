// How each kernel is launched, and what it reads, writes and multiplies, as the emulator sees it: the table that make cuda-audit joins with what
// ptxas says. One line per kernel: name, threads of a block, bytes of dynamic shared memory, bytes moved (each once), multiply-adds.
#include <map>

#include "../cuda/emu/emulator.h"
#include "linear_case.h"
#include "attention_case.h"
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

// Every size of tile of linear and gated linear: mma.sync and wgmma, few rows, float32, and those that read x element by element.
void run_linears(const LinearKind& kind) {
  Problem p{1, 256, {256}, 384};
  p.f32_x = kind.f32, p.gated = kind.gated, p.f32_y = kind.f32_y;
  p.integers = p.bias = false;
  if (!kind.wide_x) p.inner = 64, p.gap = 3;
  Operands o(p);
  const LinearVariants tiles = linear_tiles(kind);
  for (const LinearVariant* v = tiles.first; v != tiles.first + tiles.count; ++v) run_variant(p, *v, "tiles", o, false, false);
  if (!kind.f32 && kind.wide_x) run_sm90_variants(p, kind.gated ? linear_sm90_gated(kind.f32_y) : linear_sm90_plain(kind.f32_y), o, false, false);
  const LinearVariants streams = linear_streams(kind);
  for (const LinearVariant* v = streams.first; v != streams.first + streams.count; ++v) {
    Problem few = p;
    few.inner = kind.f32 ? 8 : v->tile_m;
    Operands rows(few);
    run_variant(few, *v, "stream", rows, false, false);
  }
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

// One tile and several for each number of multiprocessors that the emulator has, keys that stay in shared memory and that do not.
bool run_attentions(Backend& cuda) {
  bool ok = true;
  for (const int64_t dim : {32, 64, 72, 128, 200, 512})
    for (const DType t : {F, H})
      for (const bool bias : {false, true}) ok = run(attention_case({1, 2, dim, 70, 256, t, false, false, bias, false}), cuda) && ok;
  for (const int64_t dim : {32, 64, 72, 128})
    for (const int64_t keys : {120, dim == 128 ? 256 : 300}) {
      ok = run(attention_case({1, 2, dim, 70, keys, H, false, false, false, false}), cuda) && ok;
      ok = run(attention_case({2, 2, dim, 128, keys, H, false, false, false, false}), cuda) && ok;
      ok = run(attention_case({2, 4, dim, 256, keys, H, false, false, false, false}), cuda) && ok;
      ok = run(attention_case({1, 2, dim, 512, keys, H, false, false, false, false}), cuda) && ok;
    }
  return ok;
}

Case chain(int64_t tokens, int64_t width, DType x, int terms) {
  Case c("chain", Opcode::kChain);
  c.attr = {terms, static_cast<int32_t>(Norm::kLayer), 0, 0, 0, 0, 0, 0};
  c.fattr[0] = 1e-6;
  c.input({1, tokens, width}, x);
  for (int k = 0; k < terms; ++k) {
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

// By rows of adjacent tokens, by rows, element by element; parameters for few terms, many and most.
bool run_chains(Backend& cuda) {
  bool ok = true;
  for (const int terms : {2, 50, 200})
    for (const int64_t tokens : {16, 512})
      for (const int64_t width : {37, 1152}) ok = run(chain(width == 37 || terms == 2 ? tokens : tokens / 8, width, F, terms), cuda) && ok;
  for (const int terms : {50, 200}) ok = run(chain(512, 144, F, terms), cuda) && ok;
  return ok;
}

Case moved(Opcode code, DType t, int64_t gap) {
  Case c("copy or unary", code);
  if (code == Opcode::kUnary) c.attr[0] = static_cast<int32_t>(Act::kSilu);
  c.input({64, 1152}, t, 1, gap);
  c.output({64, 1152}, t, gap);
  return c;
}

// Rows that start at multiples of 2, 4, 8 and 16 bytes.

bool run_maps(Backend& cuda) {
  bool ok = true;
  for (const int64_t gap : {0, 1, 2, 4}) {
    for (const DType t : {F, H}) ok = run(moved(Opcode::kCopy, t, gap), cuda) && run(moved(Opcode::kUnary, t, gap), cuda) && ok;
    Case c("add", Opcode::kAdd);
    for (int i = 0; i < 2; ++i) c.input({64, 1152}, H, 1, gap);
    c.output({64, 1152}, H, gap);
    ok = run(c, cuda) && ok;
  }
  ok = run(moved(Opcode::kCopy, DType::kF64, 1), cuda) && ok;  // 8 bytes at a time
  Case sum("lincomb", Opcode::kLincomb);
  sum.attr[0] = 2;
  for (int i = 0; i < 2; ++i) sum.input({2, 4, 32, 32}, F);
  sum.input({2}, DType::kF64);
  sum.output({2, 4, 32, 32}, F);
  return run(sum, cuda) && ok;
}

bool run_embeddings(Backend& cuda) {
  Case rows("embedding", Opcode::kEmbedding);
  rows.integers({64}, std::vector<int32_t>(64, 3));
  rows.weight({16, 1152}, H);
  rows.output({64, 1152}, H);
  Case times("timestep_embed", Opcode::kTimestepEmbed);
  times.fattr = {10000, 1, 0};
  times.input({20}, F);
  times.output({20, 256}, F);
  Case patches("patch_embed", Opcode::kPatchEmbed);
  patches.attr = {2, 1, 0, 0, 0, 0, 0, 0};
  patches.input({2, 4, 32, 32}, F);
  patches.weight({1152, 4, 2, 2}, F);
  patches.weight({1152}, F);
  patches.input({256, 1152}, F);
  patches.output({2, 256, 1152}, H);
  return run(rows, cuda) && run(times, cuda) && run(patches, cuda);
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

Case group_norm(int64_t channels, DType t) {
  Case c("group_norm", Opcode::kGroupNorm);
  c.attr = {4, static_cast<int32_t>(Act::kSilu), 0, 0, 0, 0, 0, 0};
  c.fattr[0] = 1e-6;
  c.input({1, 16, 16, channels}, t);
  c.weight({channels}, F);
  c.weight({channels}, F);
  c.output({1, 16, 16, channels}, t);
  return c;
}

}  // namespace

int main() {
  std::unique_ptr<Backend> any, generic;
  if (!open() || !make_cuda_backend({0, 1, 0}, &any).is_ok() || !make_cuda_backend({0, 1, ECAD_ISA_GENERIC}, &generic).is_ok()) return 1;
  emu::set_observer([](const emu::Report& r) {
    report = r;
    lines.insert({r.kernel, {r.shape.threads, r.shape.smem_bytes, r.counters.unique_read_bytes + r.counters.unique_written_bytes, r.counters.macs}});
  });
  for (const bool f32 : {false, true})
    for (const bool gated : {false, true})
      for (const bool wide_x : {false, true})
        for (const bool f32_y : {false, true}) run_linears({f32, gated, wide_x, f32_y});
  for (const int64_t depth : {64, 128}) run_heads(depth);
  bool ok = ::failures == 0;
  ok = run_attentions(*any) && run_attentions(*generic) && ok;
  ok = run_chains(*any) && run_maps(*any) && run_embeddings(*any) && ok;
  for (const int64_t dim : {128, 256}) ok = run(qk_norm_rope_case({1, 64, 24, dim, H, H, F, F, H, false, false}), *any) && ok;
  for (const int64_t channels : {32, 72})
    for (const DType t : {F, H}) ok = run(conv(channels, t), *any) && ok;
  for (const int64_t channels : {128, 36}) ok = run(group_norm(channels, H), *any) && ok;
  for (const auto& [name, l] : lines) std::printf("%s\t%u\t%u\t%llu\t%llu\n", name.c_str(), l.threads, l.smem, static_cast<unsigned long long>(l.bytes), static_cast<unsigned long long>(l.macs));
  return ok && !lines.empty() ? 0 : 1;
}
