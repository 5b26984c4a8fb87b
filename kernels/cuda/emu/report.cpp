// Faults as text, and what a deadlock looks like.
#include <algorithm>
#include <map>

#include "machine.h"
#include "ops.h"

namespace ecad::cuda::emu {
namespace {

std::string base_name(const char* file) {
  const std::string s = file;
  return s.substr(s.rfind('/') + 1);
}
std::string place(Site s) { return s.line ? base_name(s.file) + ":" + std::to_string(s.line) : std::string("launch"); }

std::string ranges(const std::vector<u32>& sorted) {  // "0-31, 64"
  std::string out;
  for (size_t i = 0; i < sorted.size();) {
    size_t j = i;
    while (j + 1 < sorted.size() && sorted[j + 1] == sorted[j] + 1) ++j;
    out += (out.empty() ? "" : ", ") + std::to_string(sorted[i]) + (j > i ? "-" + std::to_string(sorted[j]) : "");
    i = j + 1;
  }
  return out;
}

}  // namespace

const char* fault_name(Fault f) {
  switch (f) {
    case Fault::kRace: return "race";
    case Fault::kBlocks: return "race across blocks";
    case Fault::kUnwritten: return "unwritten memory";
    case Fault::kPending: return "pending operation";
    case Fault::kProxy: return "missing proxy fence";
    case Fault::kBounds: return "out of bounds";
    case Fault::kAlignment: return "misaligned";
    case Fault::kDivergence: return "divergent collective";
    case Fault::kDeadlock: return "deadlock";
    case Fault::kBarrier: return "barrier";
    case Fault::kMbarrier: return "mbarrier";
    case Fault::kTensorMap: return "tensor map";
    case Fault::kWgmma: return "wgmma";
    case Fault::kExit: return "open at exit";
    case Fault::kTrap: return "trap";
    case Fault::kLaunch: return "launch";
  }
  return "?";
}

bool Report::has(Fault f) const {
  return std::any_of(issues.begin(), issues.end(), [f](const Issue& i) { return i.fault == f; });
}

std::string Report::text() const {
  std::string out;
  for (const Issue& i : issues) out += (out.empty() ? "" : "\n") + i.text + (i.count > 1 ? " (" + std::to_string(i.count) + " times)" : "");
  return out;
}

void Machine::fault(Fault f, Site site, const std::string& what) {
  const u64 key = static_cast<u64>(f) << 56 ^ static_cast<u64>(site.line) << 32 ^ reinterpret_cast<uintptr_t>(site.file);
  const auto [at, fresh] = issue_index_.emplace(key, static_cast<u32>(report_.issues.size()));
  if (!fresh) {
    ++report_.issues[at->second].count;
    return;
  }
  std::string text = "kernel " + report_.kernel;
  if (current_)
    text += ", block (" + std::to_string(position.block[0]) + ", " + std::to_string(position.block[1]) + ", " + std::to_string(position.block[2]) + "), thread " +
            std::to_string(current_->index) + " (warp " + std::to_string(current_->warp_index) + ", lane " + std::to_string(current_->lane) + ")";
  text += ", " + place(site) + ": " + fault_name(f) + ": " + what;
  report_.issues.push_back({f, text, site.file, site.line, 1});
}

u16 Machine::site_number(Site s, AccessKind kind) {
  RecentSite& recent = recent_sites_[static_cast<u32>(s.line) % 64];
  if (recent.site == s && recent.kind.bytes == kind.bytes && recent.kind.shared == kind.shared && recent.kind.write == kind.write) return recent.number;
  const u64 key = (reinterpret_cast<uintptr_t>(s.file) * 31 + static_cast<u64>(s.line)) * 128 + kind.bytes * 4u + kind.shared * 2u + kind.write;
  const auto [at, fresh] = site_index_.emplace(key, static_cast<u16>(report_.sites.size()));
  if (fresh) {
    report_.sites.push_back({s.file, s.line, kind.shared, 0, 0, 0});
    site_kinds_.push_back(kind);
  }
  recent = {s, kind, at->second};
  return at->second;
}

// Who waits where, and what would have to happen.
void Machine::deadlock() {
  std::map<std::string, std::vector<u32>> waiting;
  Site site = {"", 0};
  for (const Lane& l : lanes) {
    std::string what;
    switch (l.wait) {
      case Wait::kNone: case Wait::kDone: continue;
      case Wait::kCollective: what = "a collective of warp " + std::to_string(l.warp_index); break;
      case Wait::kGroup: what = "a collective of warpgroup " + std::to_string(l.index / 128); break;
      case Wait::kBarrier: {
        const Barrier& b = barriers[l.wait_id];
        what = "barrier " + std::to_string(l.wait_id) + " with " + std::to_string(b.arrived) + " of " + std::to_string(b.expected) + " threads";
        break;
      }
      case Wait::kMbarrier: {
        const Mbarrier& m = mbarriers[l.wait_id];
        what = "mbarrier at shared address " + std::to_string(m.address) + " for parity " + std::to_string(l.wait_parity) + " (phase " + std::to_string(m.phase) +
               ", " + std::to_string(m.pending) + " of " + std::to_string(m.count) + " arrivals missing, " + std::to_string(m.landed) + " of " +
               std::to_string(m.expected) + " bytes arrived)";
        break;
      }
    }
    if (!site.line) site = l.site;
    waiting[place(l.site) + " at " + what].push_back(l.index);
  }
  std::vector<u32> done;
  for (const Lane& l : lanes)
    if (l.wait == Wait::kDone) done.push_back(l.index);
  std::string text = "no thread can go on:";
  for (const auto& [where, threads] : waiting) text += " threads " + ranges(threads) + " wait in " + where + ";";
  text += done.empty() ? " none has ended" : " ended: " + ranges(done);
  stopped_ = true;
  fault(Fault::kDeadlock, site, text);
}

}  // namespace ecad::cuda::emu
