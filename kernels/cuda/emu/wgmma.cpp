#include "wgmma.h"

#include <algorithm>
#include <memory>

#include "fragments.h"
#include "matrix.h"
#include "ops.h"
#include "../ptx_types.h"
#include "tensor_map.h"

namespace ecad::cuda::emu {

namespace {

constexpr u32 kM = 64, kK = 16, kThreads = 128;
constexpr u32 kPoison = 0x7fc0dead;  // a NaN: accumulators between issue and wait

enum GroupKind : u8 { kNothing, kMultiply, kCommit, kRegisters };

struct Args {
  float* d;
  u32 n;
  const u32* a;
  u64 desc_a, desc_b;
  bool trans_a, trans_b, accumulate;
  u32 registers;
};

}  // namespace

// Accumulators of a warpgroup that are in flight: [64, n] in order of rows.
struct Accumulator {
  float* d[kThreads];
  u32 n = 0, open = 0;  // open: operations not executed
  std::vector<float> value;
  Site site;
};

struct WgmmaOp {
  std::shared_ptr<Accumulator> acc;
  bool from_registers = false, accumulate = false;
  float a[kM][kK];  // from registers
  Operand desc_a, desc_b;
};

Operand decode_operand(u64 d, bool mn_major) {
  Operand o;
  o.start = static_cast<u32>(d & 0x3fff) << 4;
  o.leading = static_cast<u32>(d >> 16 & 0x3fff) << 4;
  o.stride = static_cast<u32>(d >> 32 & 0x3fff) << 4;
  const u32 mode = static_cast<u32>(d >> 62);
  o.swizzle = mode == 1 ? Swizzle::k128 : mode == 2 ? Swizzle::k64 : mode == 3 ? Swizzle::k32 : Swizzle::kNone;
  o.mn_major = mn_major;
  return o;
}

u32 operand_chunk(const Operand& o, u32 i, u32 j) {
  const u32 span = swizzle_span(o.swizzle);
  u32 offset;
  if (!o.mn_major) offset = i / 8 * o.stride + (span ? i % 8 * span + 16 * j : i % 8 * 16 + j * o.leading);
  else if (span) offset = i % (span / 16) * 16 + i / (span / 16) * o.leading + j % 8 * span + j / 8 * o.stride;
  else offset = i * o.stride + j % 8 * 16 + j / 8 * o.leading;
  return ptx::swizzle_bytes(o.swizzle, o.start + offset);
}

namespace {

std::vector<std::shared_ptr<Accumulator>>& in_flight() {
  static std::vector<std::shared_ptr<Accumulator>> all;
  return all;
}

// Calls f(address, row or first row, k or first k) for each 16-byte chunk of an operand with `rows` rows along m or n.
template <class F>
void for_chunks(const Operand& o, u32 rows, F f) {
  if (o.mn_major) {
    for (u32 i = 0; i < rows / 8; ++i)
      for (u32 j = 0; j < kK; ++j) f(operand_chunk(o, i, j), 8 * i, j);
  } else {
    for (u32 i = 0; i < rows; ++i)
      for (u32 j = 0; j < kK / 8; ++j) f(operand_chunk(o, i, j), i, 8 * j);
  }
}

bool check_operand(Machine& m, const Operand& o, u32 rows, const u32* clock, const u32* proxy, u32 agent, u32 at, Site site, const char* name) {
  const u32 span = swizzle_span(o.swizzle);
  if (span && (o.start % (8 * span)) >= span) {
    m.fault(Fault::kWgmma, site, std::string("operand ") + name + " begins at shared address " + std::to_string(o.start) + ", inside an atom of " + std::to_string(8 * span) + " bytes");
    return false;
  }
  bool good = true;
  for_chunks(o, rows, [&](u32 address, u32, u32) {
    if (good) good = m.shared_ok(address, 16, site, name);
    if (good) m.stream_read(clock, proxy, address, 16, agent, at, site);
  });
  return good;
}

// d[64][n] += a[64][16] b[16][n]
__attribute__((always_inline)) inline void multiply_rows(float* d, const float* a, const float* b, u32 n) {
  for (u32 r = 0; r < kM; ++r)
    for (u32 k = 0; k < kK; k += 4) {
      const float a0 = a[r * kK + k], a1 = a[r * kK + k + 1], a2 = a[r * kK + k + 2], a3 = a[r * kK + k + 3];
      float* out = d + static_cast<size_t>(r) * n;
      const float *b0 = b + k * n, *b1 = b0 + n, *b2 = b1 + n, *b3 = b2 + n;
      for (u32 c = 0; c < n; ++c) out[c] = ((out[c] + a0 * b0[c]) + a1 * b1[c]) + (a2 * b2[c] + a3 * b3[c]);
    }
}
#if defined(__x86_64__)
__attribute__((target("avx2,fma"), optimize("O3"))) void multiply_avx2(float* d, const float* a, const float* b, u32 n) { multiply_rows(d, a, b, n); }
#endif
__attribute__((optimize("O3"))) void multiply_plain(float* d, const float* a, const float* b, u32 n) { multiply_rows(d, a, b, n); }

void multiply(float* d, const float* a, const float* b, u32 n) {
#if defined(__x86_64__)
  static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2) return multiply_avx2(d, a, b, n);
#endif
  multiply_plain(d, a, b, n);
}

// Gives the results to the threads, unless later operations on them are open. They must not have been touched meanwhile.
void scatter(Machine& m, const std::shared_ptr<Accumulator>& acc) {
  for (u32 t = 0; t < kThreads; ++t)
    for (u32 v = 0; v < acc->n / 2; ++v) {
      u32 bits;
      std::memcpy(&bits, &acc->d[t][v], 4);
      if (bits != kPoison) m.fault(Fault::kWgmma, acc->site, "accumulators were touched between issue and wait");
      const Element e = wgmma_d(t, v);
      acc->d[t][v] = acc->value[e.row * acc->n + e.col];
    }
  auto& all = in_flight();
  all.erase(std::find(all.begin(), all.end(), acc));
}

void execute(Machine& m, WgmmaOp& op) {
  Accumulator& acc = *op.acc;
  const u32 n = acc.n;
  static std::vector<float> b;
  b.resize(static_cast<size_t>(kK) * n);
  const auto load = [&](const Operand& o, u32 rows, auto put) {
    for_chunks(o, rows, [&](u32 address, u32 row, u32 k) {
      u16 chunk[8];
      std::memcpy(chunk, m.shared(address), 16);
      for (u32 i = 0; i < 8; ++i) o.mn_major ? put(row + i, k, bf16_value(chunk[i])) : put(row, k + i, bf16_value(chunk[i]));
    });
  };
  if (!op.from_registers) load(op.desc_a, kM, [&](u32 row, u32 k, float v) { op.a[row][k] = v; });
  load(op.desc_b, n, [&](u32 col, u32 k, float v) { b[static_cast<size_t>(k) * n + col] = v; });
  if (!op.accumulate) std::fill(acc.value.begin(), acc.value.end(), 0.0f);
  multiply(acc.value.data(), op.a[0], b.data(), n);
  m.report()->counters.macs += u64{kM} * n * kK;
  if (--acc.open == 0) scatter(m, op.acc);
}

std::shared_ptr<Accumulator> accumulator_of(Machine& m, Warpgroup& g, const Args& first, Site site) {
  for (const auto& a : in_flight())
    if (a->d[0] == first.d && a->n == first.n) return a;
  auto acc = std::make_shared<Accumulator>();
  acc->n = first.n;
  acc->site = site;
  acc->value.resize(static_cast<size_t>(kM) * first.n);
  for (u32 t = 0; t < kThreads; ++t) {
    acc->d[t] = static_cast<Args*>(m.lanes[kThreads * g.index + t].args)->d;
    for (u32 v = 0; v < first.n / 2; ++v) {
      const Element e = wgmma_d(t, v);
      acc->value[e.row * first.n + e.col] = acc->d[t][v];
      std::memcpy(&acc->d[t][v], &kPoison, 4);
    }
  }
  in_flight().push_back(acc);
  return acc;
}

// What every thread of the warpgroup has acquired: the least of each component.
void slowest(Machine& m, Warpgroup& g, std::vector<u32>* clock, std::vector<u32>* proxy) {
  const Lane* l = &m.lanes[kThreads * g.index];
  clock->assign(l->clock, l->clock + m.stride());
  proxy->assign(l->proxy, l->proxy + m.stride());
  for (u32 t = 1; t < kThreads; ++t)
    for (u32 i = 0; i < m.stride(); ++i) {
      (*clock)[i] = std::min((*clock)[i], l[t].clock[i]);
      (*proxy)[i] = std::min((*proxy)[i], l[t].proxy[i]);
    }
}

void issue_multiply(Machine& m, Warpgroup& g, Site site) {
  Lane* l = &m.lanes[kThreads * g.index];
  const Args first = *static_cast<Args*>(l[0].args);
  for (u32 t = 0; t < kThreads; ++t) {
    const Args& a = *static_cast<Args*>(l[t].args);
    if (!l[t].fenced) {
      m.fault(Fault::kWgmma, site, "wgmma without a wgmma_fence since the registers were last used");
      break;
    }
    if (a.desc_a != first.desc_a || a.desc_b != first.desc_b || a.accumulate != first.accumulate) {
      m.fault(Fault::kWgmma, site, "the threads of the warpgroup give different descriptors");
      m.stop();
    }
  }
  static std::vector<u32> clock, proxy;  // kept: stop() unwinds nothing
  slowest(m, g, &clock, &proxy);
  const Operand desc_a = decode_operand(first.desc_a, first.trans_a), desc_b = decode_operand(first.desc_b, first.trans_b);
  bool good = check_operand(m, desc_b, first.n, clock.data(), proxy.data(), g.agent, g.groups + 1, site, "b");
  if (!first.a) good = check_operand(m, desc_a, kM, clock.data(), proxy.data(), g.agent, g.groups + 1, site, "a") && good;
  if (!good) m.stop();
  auto op = std::make_unique<WgmmaOp>();
  op->accumulate = first.accumulate;
  op->from_registers = first.a != nullptr;
  op->desc_a = desc_a;
  op->desc_b = desc_b;
  if (op->from_registers)
    for (u32 t = 0; t < kThreads; ++t)
      for (u32 v = 0; v < 8; ++v) {
        const Element e = wgmma_a(t, v);
        op->a[e.row][e.col] = bf16_value(half_of(static_cast<Args*>(l[t].args)->a[v / 2], v % 2));
      }
  op->acc = accumulator_of(m, g, first, site);
  ++op->acc->open;
  const Landing landing = m.options.landing;
  if (landing == Landing::kEarly || (landing == Landing::kRandom && g.open.empty() && g.committed.empty() && m.rng.below(2))) {
    execute(m, *op);  // in order: nothing of the stream is open
    op->acc = nullptr;
  }
  g.open.push_back(op.release());
}

// All threads of the warpgroup meet; the last one does the work.
void meet(GroupKind kind, Args* args, Site site) {
  Machine& m = *machine;
  Lane& l = m.self();
  const size_t index = l.index / kThreads;
  if (index >= m.groups.size()) {
    m.fault(Fault::kWgmma, site, "the thread is in no full warpgroup of 128 threads");
    m.stop();
  }
  Warpgroup& g = m.groups[index];
  if (!g.arrived) g.kind = kind, g.site = site;
  else if (g.kind != kind || g.site != site) {
    m.fault(Fault::kDivergence, site, "other threads of the warpgroup are in another warpgroup instruction (line " + std::to_string(g.site.line) + ")");
    m.stop();
  }
  l.args = args;
  if (++g.arrived < kThreads) return m.suspend(Wait::kGroup, site);
  g.arrived = 0;
  if (kind == kMultiply) issue_multiply(m, g, site);
  if (kind == kCommit) {
    g.committed.push_back(std::move(g.open));
    g.open.clear();
    ++g.groups;
  }
  for (u32 t = 0; t < kThreads; ++t) m.make_ready(m.lanes[kThreads * index + t]);
}

}  // namespace

void Machine::land_groups(Warpgroup& g, u32 keep) {
  while (g.committed.size() > keep) {
    for (WgmmaOp* op : g.committed.front()) {
      if (op->acc) execute(*this, *op);
      delete op;
    }
    g.committed.pop_front();
  }
}

void free_wgmma(Machine& m) {
  for (Warpgroup& g : m.groups) {
    for (const auto& group : g.committed)
      for (WgmmaOp* op : group) delete op;
    for (WgmmaOp* op : g.open) delete op;
    g.committed.clear();
    g.open.clear();
  }
  in_flight().clear();
}

// ---- what kernels call ---------------------------------------------------------------------------------------------------

void op::wgmma_fence(Site) { machine->self().fenced = true; }

void op::wgmma(float* d, u32 n, const u32* a, u64 desc_a, u64 desc_b, bool trans_a, bool trans_b, bool accumulate, Site site) {
  Args args = {d, n, a, desc_a, desc_b, trans_a, trans_b, accumulate, 0};
  meet(kMultiply, &args, site);
}

void op::wgmma_commit(Site site) {
  Args args = {};
  meet(kCommit, &args, site);
}

void op::wgmma_wait(u32 keep, Site site) {
  Machine& m = *machine;
  Lane& l = m.self();
  const size_t index = l.index / kThreads;
  if (index >= m.groups.size()) {
    m.fault(Fault::kWgmma, site, "the thread is in no full warpgroup of 128 threads");
    m.stop();
  }
  Warpgroup& g = m.groups[index];
  m.land_groups(g, keep);
  if (g.groups > keep) l.clock[g.agent] = std::max(l.clock[g.agent], g.groups - keep);
  if (keep == 0) l.fenced = false;
}

void op::setmaxnreg(u32 registers, bool, Site site) {
  Args args = {};
  meet(kRegisters, &args, site);
  Machine& m = *machine;
  m.groups[m.self().index / kThreads].registers = registers;
  u32 sum = 0;
  for (const Warpgroup& g : m.groups) {
    if (!g.registers) return;
    sum += g.registers * kThreads;
  }
  if (sum > 65536) m.fault(Fault::kWgmma, site, "the warpgroups ask for " + std::to_string(sum) + " registers together; an SM has 65536");
}

}  // namespace ecad::cuda::emu
