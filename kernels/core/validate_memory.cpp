// Which bytes ops read and write: aliasing within an op, whole writes of persistent buffers, and the live ranges of the arena.
#include <algorithm>
#include <map>
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
    case Opcode::kLincomb: return k + 1 < op.in.size();
    case Opcode::kUnary: case Opcode::kAdd: case Opcode::kCopy: return true;
    default: return false;
  }
}

Status check_output(const Program& p, size_t index, size_t m) {
  const Op& op = p.ops[index];
  const Tensor& out = p.tensors[op.out[m]];
  const Buffer& b = p.buffers[out.buffer];
  if (b.kind == BufferKind::kConstant || b.kind == BufferKind::kWeight) return bad_op(p, index, "output ", m, " writes ", buffer_text(p, out.buffer), ", which is read only");
  if (out.step_stride != 0) return bad_op(p, index, "output ", m, " has a step stride");
  if (b.kind == BufferKind::kPersistent && !covers(out, b)) return bad_op(p, index, "output ", m, " writes a part of ", buffer_text(p, out.buffer), "; a persistent buffer is written whole");
  for (size_t other = 0; other < m; ++other) {
    if (op.out[other] != kNoTensor && may_share(p.tensors[op.out[other]], out, p.num_steps)) return bad_op(p, index, "outputs ", other, " and ", m, " share bytes of ", buffer_text(p, out.buffer));
  }
  for (size_t k = 0; k < op.in.size(); ++k) {
    if (op.in[k] == kNoTensor) continue;
    const Tensor& in = p.tensors[op.in[k]];
    if (!may_share(in, out, p.num_steps) || (may_update(op, k, m) && same_view(in, out))) continue;
    return bad_op(p, index, "input ", k, " and output ", m, " share bytes of ", buffer_text(p, out.buffer));
  }
  return Status::ok();
}

// One arena buffer in one section: first and last op that touches it.
struct Live {
  uint32_t first, last, buffer;
};

// Collects what a section does to the arena, and checks that it writes before it reads. `slot` maps buffers to `live` while
// stamp[buffer] says that the entry is of this section.
class ArenaUse {
 public:
  explicit ArenaUse(const Program& p) : p_(p), stamp_(p.buffers.size(), kNoTensor), slot_(p.buffers.size(), 0) {}

  Status check(uint32_t section) {
    live_.clear();
    const Section& s = p_.sections[section];
    for (uint32_t i = s.first_op; i < s.first_op + s.num_ops; ++i) {
      const Op& op = p_.ops[i];
      for (size_t k = 0; k < op.in.size(); ++k) {
        if (!in_arena(op.in[k])) continue;
        const uint32_t buffer = p_.tensors[op.in[k]].buffer;
        if (stamp_[buffer] != section) return bad_op(p_, i, "input ", k, " reads ", buffer_text(p_, buffer), " before section ", section, " \"", s.name, "\" writes it");
        live_[slot_[buffer]].last = i;
      }
      for (const uint32_t tensor : op.out) {
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
  uint64_t begin(uint32_t buffer) const { return p_.buffers[buffer].offset; }
  uint64_t end(uint32_t buffer) const { return p_.buffers[buffer].offset + p_.buffers[buffer].bytes; }

  // live_ is in order of first touch. What is alive is kept by offset, so only neighbours need a look.
  Status overlaps(uint32_t section) {
    std::map<uint64_t, uint32_t> alive;  // offset -> buffer
    using Ending = std::pair<uint32_t, uint32_t>;  // last op, buffer
    std::priority_queue<Ending, std::vector<Ending>, std::greater<Ending>> endings;
    for (const Live& l : live_) {
      while (!endings.empty() && endings.top().first < l.first) {
        alive.erase(begin(endings.top().second));
        endings.pop();
      }
      const auto next = alive.lower_bound(begin(l.buffer));
      uint32_t clash = kNoTensor;
      if (next != alive.end() && next->first < end(l.buffer)) clash = next->second;
      if (next != alive.begin() && end(std::prev(next)->second) > begin(l.buffer)) clash = std::prev(next)->second;
      if (clash != kNoTensor) {
        return bad_op(p_, l.first, "writes ", buffer_text(p_, l.buffer), " while section ", section, " \"", p_.sections[section].name, "\" still needs ", buffer_text(p_, clash), " in the same arena bytes");
      }
      alive.emplace(begin(l.buffer), l.buffer);
      endings.emplace(l.last, l.buffer);
    }
    return Status::ok();
  }

  const Program& p_;
  std::vector<uint32_t> stamp_, slot_;
  std::vector<Live> live_;
};

}  // namespace

Status validate_memory(const Program& p) {
  for (size_t i = 0; i < p.ops.size(); ++i) {
    for (size_t m = 0; m < p.ops[i].out.size(); ++m) {
      if (p.ops[i].out[m] != kNoTensor) ECAD_TRY(check_output(p, i, m));
    }
  }
  ArenaUse arena(p);
  for (uint32_t s = 0; s < p.sections.size(); ++s) ECAD_TRY(arena.check(s));
  return Status::ok();
}

}  // namespace ecad
