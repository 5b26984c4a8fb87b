// Which bytes ops read and write: aliasing within an op, whole writes of persistent buffers, and the live ranges of the arena.
#include <algorithm>
#include <queue>

#include "decode.h"
#include "text.h"
#include "view.h"

namespace ecad {
namespace {

// Whether input k and output m of an op may be the same view.
bool may_update(const Op& op, size_t k, size_t m) {
  switch (op.code) {
    case Opcode::kChain: return k == 0 && m == 0;
    case Opcode::kQkNormRope: return k < 2 && k == m;
    case Opcode::kLincomb: return k + 1 < op.in.size();
    case Opcode::kUnary: case Opcode::kAdd: case Opcode::kCopy: return true;
    default: return false;
  }
}

Status check_output(const Program& p, size_t index, const Op& op, size_t m) {
  const Tensor& out = p.tensors[op.out[m]];
  const Buffer& b = p.buffers[out.buffer];
  if (b.kind == BufferKind::kConstant || b.kind == BufferKind::kWeight) return bad_op(index, op, "output ", m, " writes ", buffer_text(p, out.buffer), ", which is read only");
  if (out.step_stride != 0) return bad_op(index, op, "output ", m, " has a step stride");
  if (b.kind == BufferKind::kPersistent && !covers(out, b)) return bad_op(index, op, "output ", m, " writes a part of ", buffer_text(p, out.buffer), "; a persistent buffer is written whole");
  for (size_t other = 0; other < m; ++other) {
    if (op.out[other] != kNoTensor && may_share(p.tensors[op.out[other]], out, p.num_steps)) return bad_op(index, op, "outputs ", other, " and ", m, " share bytes of ", buffer_text(p, out.buffer));
  }
  for (size_t k = 0; k < op.in.size(); ++k) {
    if (op.in[k] == kNoTensor) continue;
    const Tensor& in = p.tensors[op.in[k]];
    if (!may_share(in, out, p.num_steps) || (may_update(op, k, m) && same_view(in, out))) continue;
    return bad_op(index, op, "input ", k, " and output ", m, " share bytes of ", buffer_text(p, out.buffer));
  }
  return Status::ok();
}

// A set of numbers below a bound that knows its neighbours: one bit per number, and above it one bit per word of 64. (A tree of nodes would
// need more memory than the records it is about.)
class NeighbourSet {
 public:
  explicit NeighbourSet(size_t bound) {
    do levels_.emplace_back((bound + 63) / 64, 0);
    while ((bound = levels_.back().size()) > 1);
  }
  void insert(size_t n) {
    for (auto& level : levels_) {
      level[n / 64] |= uint64_t{1} << (n % 64);
      n /= 64;
    }
  }
  void erase(size_t n) {
    for (auto& level : levels_) {
      level[n / 64] &= ~(uint64_t{1} << (n % 64));
      if (level[n / 64] != 0) return;
      n /= 64;
    }
  }
  // The least number above n, the greatest below n; kNone: there is none.
  static constexpr size_t kNone = SIZE_MAX;
  size_t above(size_t n) const {
    for (size_t l = 0; l < levels_.size(); ++l, n /= 64) {
      const uint64_t rest = n % 64 == 63 ? 0 : levels_[l][n / 64] >> (n % 64 + 1) << (n % 64 + 1);
      if (rest == 0) continue;
      n = n / 64 * 64 + static_cast<size_t>(__builtin_ctzll(rest));
      while (l-- > 0) n = n * 64 + static_cast<size_t>(__builtin_ctzll(levels_[l][n]));
      return n;
    }
    return kNone;
  }
  size_t below(size_t n) const {
    for (size_t l = 0; l < levels_.size(); ++l, n /= 64) {
      const uint64_t rest = levels_[l][n / 64] & ((uint64_t{1} << (n % 64)) - 1);
      if (rest == 0) continue;
      n = n / 64 * 64 + 63 - static_cast<size_t>(__builtin_clzll(rest));
      while (l-- > 0) n = n * 64 + 63 - static_cast<size_t>(__builtin_clzll(levels_[l][n]));
      return n;
    }
    return kNone;
  }

 private:
  std::vector<std::vector<uint64_t>> levels_;
};

// One arena buffer in one section: first and last op that touches it.
struct Live {
  uint32_t first, last, buffer;
};

// Collects what a section does to the arena, and checks that it writes before it reads. `slot` maps buffers to `live` while
// stamp[buffer] says that the entry is of this section.
class ArenaUse {
 public:
  ArenaUse(const Program& p, const Records& records) : p_(p), records_(records), stamp_(p.buffers.size(), kNoTensor), slot_(p.buffers.size(), 0) {}

  Status check(uint32_t section) {
    live_.clear();
    ECAD_TRY(records_.section(section, &section_));
    for (uint32_t i = section_.first_op; i < section_.first_op + section_.num_ops; ++i) {
      ECAD_TRY(records_.op(i, &op_));
      for (size_t k = 0; k < op_.in.size(); ++k) {
        if (!in_arena(op_.in[k])) continue;
        const uint32_t buffer = p_.tensors[op_.in[k]].buffer;
        if (stamp_[buffer] != section) return bad_op(i, op_, "input ", k, " reads ", buffer_text(p_, buffer), " before section ", section, " \"", section_.name, "\" writes it");
        live_[slot_[buffer]].last = i;
      }
      for (const uint32_t tensor : op_.out) {
        if (!in_arena(tensor)) continue;
        const uint32_t buffer = p_.tensors[tensor].buffer;
        if (stamp_[buffer] != section) {
          stamp_[buffer] = section;
          slot_[buffer] = static_cast<uint32_t>(live_.size());
          live_.push_back({i, i, buffer});
        }
        live_[slot_[buffer]].last = i;
      }
    }
    return overlaps(section);
  }

 private:
  bool in_arena(uint32_t tensor) const { return tensor != kNoTensor && p_.buffers[p_.tensors[tensor].buffer].kind == BufferKind::kArena; }
  uint64_t begin(const Live& l) const { return p_.buffers[l.buffer].offset; }
  uint64_t end(const Live& l) const { return p_.buffers[l.buffer].offset + p_.buffers[l.buffer].bytes; }

  // live_ is in order of first touch. What is alive is kept by its rank among offsets, so only neighbours need a look.
  Status overlaps(uint32_t section) {
    const size_t count = live_.size();
    std::vector<uint32_t> order(count), rank(count);
    for (uint32_t i = 0; i < count; ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [this](uint32_t a, uint32_t b) { return begin(live_[a]) != begin(live_[b]) ? begin(live_[a]) < begin(live_[b]) : a < b; });
    for (uint32_t i = 0; i < count; ++i) rank[order[i]] = i;
    NeighbourSet alive(count);
    using Ending = std::pair<uint32_t, uint32_t>;  // last op, place in live_
    std::vector<Ending> storage;
    storage.reserve(count);
    std::priority_queue<Ending, std::vector<Ending>, std::greater<Ending>> endings({}, std::move(storage));
    for (uint32_t i = 0; i < count; ++i) {
      const Live& l = live_[i];
      while (!endings.empty() && endings.top().first < l.first) {
        alive.erase(rank[endings.top().second]);
        endings.pop();
      }
      const size_t next = alive.above(rank[i]), before = alive.below(rank[i]);
      const Live* clash = nullptr;
      if (next != NeighbourSet::kNone && begin(live_[order[next]]) < end(l)) clash = &live_[order[next]];
      if (before != NeighbourSet::kNone && end(live_[order[before]]) > begin(l)) clash = &live_[order[before]];
      if (clash != nullptr) {
        ECAD_TRY(records_.op(l.first, &op_));
        return bad_op(l.first, op_, "writes ", buffer_text(p_, l.buffer), " while section ", section, " \"", section_.name, "\" still needs ", buffer_text(p_, clash->buffer), " in the same arena bytes");
      }
      alive.insert(rank[i]);
      endings.emplace(l.last, i);
    }
    return Status::ok();
  }

  const Program& p_;
  const Records& records_;
  std::vector<uint32_t> stamp_, slot_;
  std::vector<Live> live_;
  Section section_;
  Op op_;
};

}  // namespace

Status validate_memory(const Program& p, const Records& records) {
  Op op;
  for (uint32_t i = 0; i < records.count(kOps); ++i) {
    ECAD_TRY(records.op(i, &op));
    for (size_t m = 0; m < op.out.size(); ++m) {
      if (op.out[m] != kNoTensor) ECAD_TRY(check_output(p, i, op, m));
    }
  }
  ArenaUse arena(p, records);
  for (uint32_t s = 0; s < records.count(kSections); ++s) ECAD_TRY(arena.check(s));
  return Status::ok();
}

}  // namespace ecad
