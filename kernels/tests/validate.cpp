// What the loader refuses and how it says so; and that no damage to good programs gets past it as anything but an error or another
// valid program, which then runs within its own memory (under ASan: exactly).
#include <functional>

#include "corpus.h"

namespace {

using namespace writer;
using Bytes = std::vector<uint8_t>;

ecad_status check_bytes(const Bytes& b, ecad_error* err) {
  // An exact copy on the heap, so that a read past the end is seen.
  std::unique_ptr<uint8_t[]> exact(new uint8_t[b.size() + 1]);
  std::copy(b.begin(), b.end(), exact.get());
  return ecad_program_check(exact.get(), b.size(), err);
}

// Damage to a program object, and what the error must say.
struct Refusal {
  const char* want;
  std::function<void(Program*)> damage;
};

void expect_refused(const Program& good, const std::vector<Refusal>& refusals) {
  CHECK_OK(check_bytes(good.bytes(), &err));
  for (const Refusal& r : refusals) {
    Program p = good;
    r.damage(&p);
    CHECK_FAILS(check_bytes(p.bytes(), &err), ECAD_BAD_PROGRAM, r.want);
  }
}

OpRecord& named(Program* p, const std::string& name) {
  for (OpRecord& o : p->ops) {
    if (o.name == name) return o;
  }
  throw check::Abandon();
}

// The record that an operand of a named op views.
TensorRecord& in_of(Program* p, const std::string& op, size_t i) { return p->tensors[named(p, op).in[i]]; }
TensorRecord& out_of(Program* p, const std::string& op, size_t i) { return p->tensors[named(p, op).out[i]]; }

// Loads and runs what was accepted, if it is of modest size. Any status will do; memory errors are the sanitizers' to find.
class Runner {
 public:
  Runner() : device_(open_device()), weights_(corpus::weights(device_.get())) {}
  void run(const Bytes& b) {
    ecad_program* raw = nullptr;
    if (ecad_program_load(device_.get(), weights_.get(), b.data(), b.size(), &raw, nullptr) != ECAD_OK) return;
    Handle<ecad_program> program(raw);
    ecad_program_info info{};
    info.struct_size = sizeof info;
    CHECK_OK(ecad_program_query(raw, &info, &err));
    if (info.arena_bytes > (1u << 20) || info.persistent_bytes > (1u << 20)) return;
    auto state = new_state(raw);
    const std::vector<uint8_t> zeros(1u << 20, 0);
    for (uint32_t i = 0; i < info.num_ios; ++i) {
      ecad_io_info io{};
      io.struct_size = sizeof io;
      CHECK_OK(ecad_program_io(raw, i, &io, &err));
      (void)ecad_state_write(state.get(), io.name, zeros.data(), io.nbytes, nullptr);
    }
    for (uint32_t s = 0; s < info.num_schedules; ++s) (void)ecad_run_schedule(state.get(), raw, s, nullptr, nullptr);
    if (info.num_sections == 0) return;
    const ecad_run_item last{info.num_sections - 1, info.num_steps - 1};
    (void)ecad_run(state.get(), raw, &last, 1, nullptr, nullptr);
    ++ran;
  }
  int ran = 0;

 private:
  Handle<ecad_device> device_;
  Handle<ecad_weights> weights_;
};

}  // namespace

TEST(good_programs) {
  for (const Program& p : {corpus::small(), corpus::every_op(), corpus::joint()}) CHECK_OK(check_bytes(p.bytes(), &err));
  Program empty;
  CHECK_OK(check_bytes(empty.bytes(), &err));
  Runner r;
  r.run(corpus::every_op().bytes());
  r.run(corpus::joint().bytes());
  CHECK_EQ(r.ran, 2);
}

TEST(header) {
  const Bytes good = corpus::small().bytes();
  const auto with = [&](size_t at, uint8_t value) { Bytes b = good; b[at] = value; return b; };
  CHECK_FAILS(check_bytes(with(0, 'X'), &err), ECAD_BAD_PROGRAM, "not an ecadx program");
  CHECK_FAILS(check_bytes(with(8, 2), &err), ECAD_BAD_PROGRAM, "format version 2.0");
  CHECK_FAILS(check_bytes(with(12, 2), &err), ECAD_BAD_PROGRAM, "format version 1.2");
  CHECK_FAILS(check_bytes(with(12, 1), &err), ECAD_BAD_PROGRAM, "says version 1.1, its ops are of 1.0");
  CHECK_FAILS(check_bytes(with(16, 1), &err), ECAD_BAD_PROGRAM, "bytes but there are");
  CHECK_FAILS(check_bytes(with(24, static_cast<uint8_t>(good[24] + 1)), &err), ECAD_BAD_PROGRAM, "layout hash");
  CHECK_FAILS(check_bytes(with(92, static_cast<uint8_t>(good[92] + 1)), &err), ECAD_BAD_PROGRAM, "checksum differs");
  CHECK_FAILS(check_bytes(with(130, 1), &err), ECAD_BAD_PROGRAM, "checksum differs");
  CHECK_FAILS(check_bytes(with(120, 1), &err), ECAD_BAD_PROGRAM, "reserved header field");
  CHECK_FAILS(check_bytes(with(79, 0xff), &err), ECAD_BAD_PROGRAM, "sections are over the limit");
  CHECK_FAILS(check_bytes(with(60, 0xff), &err), ECAD_BAD_PROGRAM, "");
  Bytes longer = good;
  longer.push_back(0);
  CHECK_FAILS(check_bytes(longer, &err), ECAD_BAD_PROGRAM, "followed by something");
  CHECK_FAILS(ecad_program_check(nullptr, 128, &err), ECAD_INVALID_ARGUMENT, "NULL");
  Program p = corpus::small();
  p.steps = 0;
  CHECK_FAILS(check_bytes(p.bytes(), &err), ECAD_BAD_PROGRAM, "step count 0");
}

TEST(buffers_and_tensors) {
  expect_refused(corpus::every_op(), {
    {"buffer 0: kind 9 is not known", [](Program* p) { p->buffers[0].kind = 9; }},
    {"flags 2 are not known", [](Program* p) { p->buffers[0].flags = 2; }},
    {"(arena): flags 1", [](Program* p) { p->buffers[out_of(p, "patch", 0).buffer].flags = 1; }},
    {"a persistent buffer has no offset", [](Program* p) { p->buffers[0].offset = 64; }},
    {"has no name", [](Program* p) { p->buffers[0].name = ""; }},
    {"size 0 is outside", [](Program* p) { p->buffers[0].bytes = 0; }},
    {"its name is not UTF-8", [](Program* p) { p->buffers[0].name = "\xff"; }},
    {"a name of 300 bytes", [](Program* p) { p->buffers[0].name = std::string(300, 'n'); }},
    {"block -2", [](Program* p) { p->buffers[0].block = -2; }},
    {"is not a multiple of 64", [](Program* p) { p->buffers[out_of(p, "patch", 0).buffer].offset = 32; }},
    {"lie outside the arena", [](Program* p) { p->arena_bytes = 64; }},
    {"lie outside the constants", [](Program* p) { p->buffers[in_of(p, "shift", 1).buffer].offset += 64; }},
    {"another weight buffer has this name", [](Program* p) { p->buffers[in_of(p, "qkv", 1).buffer].name = "table"; }},
    {"a weight has neither bytes", [](Program* p) { p->buffers[in_of(p, "qkv", 1).buffer].bytes = 4; }},
    {"tensor 0: buffer 999 does not exist", [](Program* p) { p->tensors[0].buffer = 999; }},
    {"tensor 0: dtype 7", [](Program* p) { p->tensors[0].dtype = 7; }},
    {"tensor 0: rank 5", [](Program* p) { p->tensors[0].rank = 5; }},
    {"tensor 0: rank 0", [](Program* p) { p->tensors[0].rank = 0; }},
    {"is past its rank", [](Program* p) { p->tensors[1].dims[3] = 2; }},
    {"dim 0 of 0 is outside", [](Program* p) { p->tensors[0].dims[0] = 0; }},
    {"dim 0 of -1 is outside", [](Program* p) { p->tensors[0].dims[0] = -1; }},
    {"more than 2^40 elements", [](Program* p) { p->tensors[0].dims[0] = p->tensors[0].dims[1] = 0x7fffffff; }},
    {"stride 0 of -6 is outside", [](Program* p) { p->tensors[0].strides[0] = -6; }},
    {"the last stride is 2", [](Program* p) { p->tensors[0].strides[3] = 2; }},
    {"rows of dim 0 overlap", [](Program* p) { p->tensors[0].strides[0] = 47; }},
    {"rows of dim 0 overlap: stride 0", [](Program* p) { p->tensors[0].strides[0] = 0; }},
    {"reaches over 2^48", [](Program* p) { p->tensors[0].strides[0] = int64_t{1} << 48; p->tensors[0].dims[0] = 3; }},
    {"ends at element 97, buffer 0 \"latents\" (persistent) has 96", [](Program* p) { p->tensors[0].offset = 1; }},
    {"offset 18446744073709551615 is over", [](Program* p) { p->tensors[0].offset = UINT64_MAX; }},
    {"step stride -1", [](Program* p) { p->tensors[0].step_stride = -1; }},
    {"ends at element 24", [](Program* p) { in_of(p, "residual", 2).step_stride = 9; }},
    {"at the last step", [](Program* p) { p->steps = 0x7fffffff; in_of(p, "residual", 2).step_stride = int64_t{1} << 47; }},
    {"an arena tensor has no step stride", [](Program* p) { out_of(p, "patch", 0).step_stride = 1; }},
    {"dtype any is for weights alone", [](Program* p) { p->tensors[0].dtype = kAny; }},
    {"a weight is viewed dense", [](Program* p) { in_of(p, "qkv", 1).dtype = kF32; }},
    {"a weight is viewed dense", [](Program* p) { in_of(p, "qkv", 1).offset = 1; }},
    {"is viewed as [3] and as [6]", [](Program* p) { p->add_tensor(in_of(p, "norm", 3).buffer, kAny, {3}); }},
    {"another io has this name", [](Program* p) { p->ios[1].name = "latents"; }},
    {"a name of 0 bytes is outside 1..63", [](Program* p) { p->ios[1].name = ""; }},
    {"direction 0", [](Program* p) { p->ios[1].direction = 0; }},
    {"not a whole, dense view", [](Program* p) { p->ios[1].tensor = named(p, "residual").in[2]; }},
    {"section 3 does not exist", [](Program* p) { p->schedules[0].items[0].first = 3; }},
    {"step 3 does not exist", [](Program* p) { p->schedules[0].items[0].second = 3; }},
    {"kind 3 is not known", [](Program* p) { p->sections[0].kind = 3; }},
    {"do not follow op", [](Program* p) { p->sections[0].ops = 200; }},
    {"sections hold 17 ops", [](Program* p) { p->sections.back().ops -= 2; }},
  });
}

TEST(operands) {
  expect_refused(corpus::every_op(), {
    {"opcode 18 is not known", [](Program* p) { p->ops[0].code = 18; }},
    {"opcode 0 is not known", [](Program* p) { p->ops[0].code = 0; }},
    {"tensor 999 does not exist", [](Program* p) { p->ops[0].in[0] = 999; }},
    {"op 0 \"t.embed\" (timestep_embed): t is absent", [](Program* p) { p->ops[0].in[0] = kAbsent; }},
    {"a float attribute is not finite", [](Program* p) { p->ops[0].fattr[0] = INFINITY; }},
    {"fattr0 (max period) is 0", [](Program* p) { p->ops[0].fattr[0] = 0; }},
    {"fattr2 (downscale shift) is 3", [](Program* p) { p->ops[0].fattr[2] = 3; }},
    {"attr1 is not used", [](Program* p) { p->ops[0].attr[1] = 1; }},
    {"fattr0 is not used", [](Program* p) { named(p, "qkv").fattr[0] = 1; }},
    {"ids is float32, needs int32", [](Program* p) { in_of(p, "text.embed", 0).dtype = kF32; }},
    {"y is int32, needs a float", [](Program* p) { in_of(p, "unpatchify", 0).dtype = kI32; }},
    {"attr0 (patch) is 0", [](Program* p) { named(p, "patch").attr[0] = 0; }},
    {"not a whole number of patches of 3", [](Program* p) { named(p, "patch").attr[0] = 3; }},
    {"y is [2,4,6], needs [6,4,6]", [](Program* p) { named(p, "patch").attr[1] = 3; }},
    {"attr0 (inputs) is 0", [](Program* p) { named(p, "qkv").attr[0] = 0; }},
    {"has 4 inputs and 1 outputs, needs 3 and 1", [](Program* p) { named(p, "qkv").in.push_back(0); }},
    {"w is [18], needs [18,6]", [](Program* p) { named(p, "qkv").attr[1] = 2; }},
    {"has 3 inputs and 1 outputs, needs 121 and 1", [](Program* p) { named(p, "qkv").attr[1] = 60; }},
    {"w is [18,6], needs [18,8]", [](Program* p) { named(p, "qkv").in[0] = named(p, "ff").out[0]; }},
    {"b is [18,6], needs [18]", [](Program* p) { named(p, "qkv").in[2] = named(p, "qkv").in[1]; }},
    {"all but the last dim", [](Program* p) { named(p, "qkv").in[0] = named(p, "text.embed").out[0]; }},
    {"attr2 (activation) is 6", [](Program* p) { named(p, "qkv").attr[2] = 6; }},
    {"wu is [18,6], needs [8,6]", [](Program* p) { named(p, "ff").in[2] = named(p, "qkv").in[1]; }},
    {"q is [2,4,6], needs [2,4,9]", [](Program* p) { named(p, "attn").attr[0] = 3; }},
    {"attr2 (causal) is 2", [](Program* p) { named(p, "attn").attr[2] = 2; }},
    {"counts is bfloat16, needs int32", [](Program* p) { named(p, "attn").in[3] = named(p, "attn").in[0]; }},
    {"bias is [2,4,6], needs [2,4,4]", [](Program* p) { named(p, "attn").in.push_back(named(p, "attn").in[0]); }},
    {"scale and shift come together", [](Program* p) { named(p, "residual").in[4] = kAbsent; }},
    {"both outputs are absent", [](Program* p) { named(p, "norm").out[1] = kAbsent; }},
    {"fattr0 (eps) is negative", [](Program* p) { named(p, "norm").fattr[0] = -1; }},
    {"s is absent", [](Program* p) { named(p, "residual").in[1] = kAbsent; }},
    {"g is [2,4,6], needs", [](Program* p) { named(p, "residual").in[2] = named(p, "residual").in[0]; }},
    {"weight is [18,6], needs [6]", [](Program* p) { named(p, "norm").in[3] = named(p, "qkv").in[1]; }},
    {"x is [2,4,12], needs [2,4,16]", [](Program* p) { named(p, "unpatchify").attr[2] = 4; }},
    {"a patch has only 2 channels", [](Program* p) { named(p, "unpatchify").attr[2] = 2; }},
    {"coefficients are float32", [](Program* p) { in_of(p, "sample", 2).dtype = kF32; }},
    {"clamps to 50..-50", [](Program* p) { std::swap(named(p, "sample").fattr[0], named(p, "sample").fattr[1]); }},
    {"has clamp limits but does not clamp", [](Program* p) { named(p, "sample").attr[1] = 0; }},
    {"has 3 inputs and 1 outputs, needs 4", [](Program* p) { named(p, "sample").attr[0] = 3; }},
    {"b is [6,6,3,3], which does not spread", [](Program* p) { named(p, "shift").in[1] = named(p, "conv").in[1]; }},
    {"needs [2,1,1,6]", [](Program* p) { named(p, "conv").attr[0] = 4; }},
    {"is larger than the padded x", [](Program* p) { named(p, "conv").in[1] = p->weight("big", {6, 6, 9, 3}); }},
    {"6 channels are not a multiple of 4 groups", [](Program* p) { named(p, "group").attr[0] = 4; }},
    {"bias is absent", [](Program* p) { named(p, "group").in[2] = kAbsent; }},
    {"y is [2,8,8,6], needs [2,12,12,6]", [](Program* p) { named(p, "up").attr[0] = 3; }},
    {"perm names a dim twice", [](Program* p) { named(p, "permute").attr[0] = 1; }},
    {"needs [2,4,6,4]", [](Program* p) { std::swap(named(p, "permute").attr[1], named(p, "permute").attr[2]); }},
    {"attr1 (head dim) is 3, it must be even", [](Program* p) { named(p, "rotate").attr[0] = 2; named(p, "rotate").attr[1] = 3; }},
    {"attr0 (heads) is 0", [](Program* p) { named(p, "rotate").attr[0] = 0; }},
    {"q is [2,4,6], needs [2,4,12]", [](Program* p) { named(p, "rotate").attr[0] = 2; }},
    {"k is [2,4,18], q is [2,4,6]: they must be equal", [](Program* p) { named(p, "rotate").in[1] = named(p, "qkv").out[0]; }},
    {"wk is [18], needs [6]", [](Program* p) { named(p, "rotate").in[3] = named(p, "qkv").in[2]; }},
    {"rope is [6], needs [4,6]", [](Program* p) { named(p, "rotate").in[4] = named(p, "rotate").in[2]; }},
    {"rope is absent", [](Program* p) { named(p, "rotate").in[4] = kAbsent; }},
    {"k' is absent", [](Program* p) { named(p, "rotate").out[1] = kAbsent; }},
    {"attr2 is not used", [](Program* p) { named(p, "rotate").attr[2] = 1; }},
    {"op 5 \"rotate\" (qk_norm_rope): fattr0 (eps) is negative", [](Program* p) { named(p, "rotate").fattr[0] = -1; }},
  });
}

TEST(memory) {
  const Program good = corpus::every_op();
  expect_refused(good, {
    {"op 9 \"act\" (unary): output 0 writes buffer", [](Program* p) { named(p, "act").out[0] = p->weight("w", {2, 4, 8}); }},
    {"which is read only", [](Program* p) { named(p, "shift").out[0] = named(p, "fill").in[0]; }},
    {"has a step stride", [](Program* p) { p->steps = 1; for (auto& s : p->schedules) for (auto& i : s.items) i.second = 0; out_of(p, "t.embed", 0).step_stride = 1; }},
    {"writes a part of", [](Program* p) { p->buffers[p->tensors[named(p, "attn").out[0]].buffer].bytes += 2; }},
    {"before section 1 \"step\" writes it", [](Program* p) { std::swap(p->ops[2], p->ops[3]); }},
    {"before section 2 \"image\" writes it", [](Program* p) { named(p, "conv").in[0] = p->view(named(p, "patch").out[0], {2, 1, 4, 6}, {24, 24, 6, 1}); named(p, "conv").out[0] = p->arena(kF32, {2, 1, 4, 6}); }},
    {"input 0 and output 0 share bytes", [](Program* p) { named(p, "qkv").in[0] = p->view(named(p, "qkv").out[0], {2, 4, 6}, {72, 18, 1}, 3); p->ops.insert(p->ops.begin() + 2, OpRecord{kCopy, {p->persistent("seed", kBF16, {2, 4, 18})}, {named(p, "qkv").out[0]}, -1, -1, "seed"}); ++p->sections[1].ops; }},
    {"op 5 \"rotate\" (qk_norm_rope): input 1 and output 0 share bytes", [](Program* p) { std::swap(named(p, "rotate").out[0], named(p, "rotate").out[1]); }},
    {"outputs 0 and 1 share bytes", [](Program* p) { named(p, "residual").out[1] = named(p, "residual").out[0]; }},
    {"input 1 and output 0 share bytes", [](Program* p) { named(p, "residual").in[1] = named(p, "residual").in[0]; }},
    {"still needs buffer", [](Program* p) { p->buffers[out_of(p, "qkv", 0).buffer].offset = 0; }},
  });
  // Bytes of a buffer may be used again once its last reader has run, not while it runs.
  Program reuse;
  const uint32_t x = reuse.persistent("x", kF32, {16}), a = reuse.arena(kF32, {16}), b = reuse.arena(kF32, {16}), c = reuse.arena(kF32, {16});
  reuse.op(kUnary, {x}, {a}, {1});
  reuse.op(kUnary, {a}, {b}, {1});
  reuse.op(kUnary, {b}, {c}, {1});
  reuse.op(kUnary, {c}, {x}, {1});
  reuse.buffers[3].offset = reuse.buffers[1].offset;
  CHECK_OK(check_bytes(reuse.bytes(), &err));
  reuse.ops[2].in[0] = a;
  CHECK_FAILS(check_bytes(reuse.bytes(), &err), ECAD_BAD_PROGRAM, "op 2 \"op\" (unary): writes buffer 3 \"\" (arena) while section 0 \"step\" still needs buffer 1");
}

TEST(truncation_at_every_length) {
  for (const Program& p : {corpus::small(), corpus::every_op()}) {
    const Bytes good = p.bytes();
    for (size_t n = 0; n < good.size(); ++n) {
      Bytes cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(n));
      CHECK(check_bytes(cut, nullptr) == ECAD_BAD_PROGRAM);
      if (n < 128) continue;
      for (int i = 0; i < 8; ++i) cut[16 + static_cast<size_t>(i)] = static_cast<uint8_t>(n >> (8 * i));  // and now it says so itself
      seal(&cut);
      CHECK(check_bytes(cut, nullptr) == ECAD_BAD_PROGRAM);
    }
  }
}

TEST(every_bit_flipped) {
  Runner runner;
  int accepted = 0;
  const Bytes good = corpus::small().bytes();
  for (size_t at = 0; at < good.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      Bytes b = good;
      b[at] = static_cast<uint8_t>(b[at] ^ (1u << bit));
      if (at < 96 || at >= 104) CHECK(check_bytes(b, nullptr) == ECAD_BAD_PROGRAM);  // string bytes may grow into zero padding
      seal(&b);
      ecad_error err = ECAD_ERROR_INIT;
      const ecad_status status = check_bytes(b, &err);
      CHECK(status == ECAD_OK || (status == ECAD_BAD_PROGRAM && err.message[0] != 0));
      if (status == ECAD_OK) {
        ++accepted;
        runner.run(b);
      }
    }
  }
  CHECK(accepted > 0);
  CHECK(runner.ran > 0);
}

TEST(every_byte_damaged) {
  Runner runner;
  const Bytes good = corpus::every_op().bytes();
  for (size_t at = 0; at < good.size(); ++at) {
    for (const uint8_t mask : {0x01, 0xff}) {
      Bytes b = good;
      b[at] = static_cast<uint8_t>(b[at] ^ mask);
      seal(&b);
      const ecad_status status = check_bytes(b, nullptr);
      CHECK(status == ECAD_OK || status == ECAD_BAD_PROGRAM);
      if (status == ECAD_OK && (at < 128 || b[at] % 4 == 0)) runner.run(b);
    }
  }
  CHECK(runner.ran > 100);
}

// Two fields of the records at once, with values that sit on edges.
TEST(random_damage) {
  Runner runner;
  uint64_t seed = 88172645463325252ull;
  const auto next = [&seed] { seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17; return seed; };
  const uint64_t edges[] = {0, 1, 2, 3, 63, 64, 0x7fffffff, 0x80000000u, 0xffffffffu, uint64_t{1} << 48, uint64_t{1} << 63, UINT64_MAX};
  const Bytes good = corpus::every_op().bytes();
  for (int round = 0; round < 4000; ++round) {
    Bytes b = good;
    for (uint64_t k = 0; k < 1 + next() % 3; ++k) {
      const size_t width = next() % 2 ? 4 : 8, at = (56 + next() % (b.size() - 64)) / width * width;
      const uint64_t value = next() % 4 ? edges[next() % 12] : next();
      std::memcpy(b.data() + at, &value, width);
    }
    seal(&b);
    const ecad_status status = check_bytes(b, nullptr);
    CHECK(status == ECAD_OK || status == ECAD_BAD_PROGRAM);
    if (status == ECAD_OK) runner.run(b);
  }
}

CHECK_MAIN()
