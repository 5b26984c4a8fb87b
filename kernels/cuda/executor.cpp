#include "executor.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "../core/text.h"

namespace ecad::cuda {

// ---- tensor maps -----------------------------------------------------------------------------------------------------

Status MapStore::find(uint32_t request, const TensorMapDesc& desc, const void* base, void** out) {
  const auto key = std::make_pair(request, base);
  const auto it = maps_.find(key);
  if (it != maps_.end()) {
    *out = it->second;
    return Status::ok();
  }
  if (chunks_.empty() || used_ == kChunk) {
    auto chunk = std::make_unique<DeviceBuffer>();
    ECAD_TRY(chunk->allocate(kChunk * sizeof(TensorMap)));
    chunks_.push_back(std::move(chunk));
    used_ = 0;
  }
  TensorMapDesc d = desc;
  d.base = base;
  void* map = static_cast<TensorMap*>(chunks_.back()->data()) + used_++;
  ECAD_TRY(cx_.stage(map, sizeof(TensorMap), sizeof(TensorMap), [&](size_t, size_t, void* to) {
    TensorMap encoded;
    ECAD_TRY(encode_tensor_map(d, &encoded));
    std::memcpy(to, &encoded, sizeof encoded);
    return Status::ok();
  }));
  maps_[key] = map;
  *out = map;
  return Status::ok();
}

Status MapStore::make_room(size_t count) {
  if (maps_.size() + count <= kMost || chunks_.empty()) return Status::ok();
  ECAD_TRY(cx_.stream.synchronize());
  maps_.clear();
  chunks_.clear();
  return Status::ok();
}

// ---- binding ---------------------------------------------------------------------------------------------------------

CudaExecutor::~CudaExecutor() {
  (void)cx_.stream.synchronize();
  graphs_.forget(this);
  for (Turn& t : turns_) release_pinned(t.frame);
  cx_.cached_bytes -= frame_.bytes();
}

Status CudaExecutor::init() {
  const Program& p = *bound_.program;
  seen_.assign(p.sections.size(), 0);
  taken_.assign(p.ops.size(), 0);
  entries_ = 2 * p.persistent.size();
  for (const Section& section : p.sections) {
    std::vector<char> written(p.persistent.size(), 0);
    for (uint32_t op = section.first_op; op + 1 < section.first_op + section.num_ops; ++op) {
      if (!taken_[op]) taken_[op + 1] = kernel(op)->take_over(*kernel(op + 1));
    }
    for (uint32_t op = section.first_op; op < section.first_op + section.num_ops; ++op) {
      const size_t inputs = p.ops[op].in.size(), outputs = p.ops[op].out.size();
      const Recipe* recipes = bound_.recipes + bound_.first_recipe[op];
      for (size_t k = 0; k < inputs; ++k) after_.push_back(recipes[k].base >= kFirstPersistentBase && written[recipes[k].base - kFirstPersistentBase]);
      for (size_t k = inputs; k < inputs + outputs; ++k) {
        after_.push_back(1);
        if (recipes[k].base >= kFirstPersistentBase) written[recipes[k].base - kFirstPersistentBase] = 1;
      }
      first_map_.push_back(static_cast<uint32_t>(map_uses_.size()));
      for (const MapRequest& request : kernel(op)->maps()) {
        const size_t operand = (request.output ? inputs : 0) + request.operand;
        const auto entry = static_cast<uint32_t>(entries_ + map_uses_.size());
        map_uses_.push_back({entry, p.ops[op].section, recipes + operand, after_[after_.size() - inputs - outputs + operand] != 0, request.desc});
        map_refs_.push_back({0, 0, static_cast<int32_t>(entry), 0});
      }
    }
  }
  entries_ += map_uses_.size();
  shadow_.assign(entries_, nullptr);
  refs_.resize(after_.size());
  ECAD_TRY(frame_.allocate(frame_bytes(entries_)));
  cx_.cached_bytes += frame_.bytes();
  for (Turn& t : turns_) {
    void* pinned = nullptr;
    ECAD_TRY(allocate_pinned(frame_bytes(entries_), &pinned));
    t.frame = static_cast<Frame*>(pinned);
    ECAD_TRY(t.done.create(false));
  }
  return Status::ok();
}

// Addresses of the arena and the constants are part of the parameters that graphs hold; buffers of states are table entries.
void CudaExecutor::make_refs(const void* arena) {
  arena_ = arena;
  ++moves_;
  const Program& p = *bound_.program;
  for (size_t op = 0, i = 0; op < p.ops.size(); ++op) {
    const Recipe* recipes = bound_.recipes + bound_.first_recipe[op];
    for (size_t k = 0; k < p.ops[op].in.size() + p.ops[op].out.size(); ++k, ++i) {
      const Recipe& r = recipes[k];
      switch (r.base) {
        case kNoBase: refs_[i] = fixed_ref(nullptr); break;
        case kArenaBase: refs_[i] = {reinterpret_cast<int64_t>(arena) + r.offset, r.step_bytes, -1, 0}; break;
        case kConstantBase: refs_[i] = {reinterpret_cast<int64_t>(bound_.constants) + r.offset, r.step_bytes, -1, 0}; break;
        default: refs_[i] = {r.offset, r.step_bytes, static_cast<int32_t>(2 * (r.base - kFirstPersistentBase) + static_cast<uint32_t>(after_[i])), 0};
      }
    }
  }
}

// ---- running -----------------------------------------------------------------------------------------------------------

Status CudaExecutor::run(const SectionCall& call) {
  ECAD_TRY(cx_.fail(cx_.poison));
  if (call.arena != arena_ || moves_ == 0) make_refs(call.arena);
  const Status status = run_section(call);
  if (!status.is_ok()) cx_.stream.abandon_capture();
  return cx_.fail(status);
}

Status CudaExecutor::run_section(const SectionCall& call) {
  ECAD_TRY(turns_[turn_].done.wait());  // the section before the last is done, and its turn's memory free
  ECAD_TRY(upload_frame(call));
  if (call.times != nullptr) {
    ECAD_TRY(run_timed(call));
  } else if (!seen_[call.section] || !cx_.graphs) {
    seen_[call.section] = 1;
    ECAD_TRY(enqueue_all(call.section));
  } else {
    const uint64_t stamp = moves_ << 32 | cx_.generation();
    const Graph* graph = graphs_.find({this, call.section}, stamp);
    if (graph == nullptr) {
      ECAD_TRY(capture(call.section, stamp));
      graph = graphs_.find({this, call.section}, stamp);
    }
    ECAD_TRY(cx_.stream.launch(*graph));
  }
  ECAD_TRY(turns_[turn_].done.record(cx_.stream));
  turn_ = (turn_ + 1) % kAhead;
  return Status::ok();
}

Status CudaExecutor::upload_frame(const SectionCall& call) {
  Frame* frame = turns_[turn_].frame;
  const size_t persistent = bound_.program->persistent.size();
  size_t changed = 0;  // entries up to here go with the step
  const auto put = [&](size_t entry, void* address) {
    if (shadow_[entry] == address) return;
    shadow_[entry] = address;
    changed = std::max(changed, entry + 1);
  };
  for (size_t i = 0; i < persistent; ++i) {
    put(2 * i, call.before[i]);
    put(2 * i + 1, call.after[i]);
  }
  ECAD_TRY(maps_.make_room(map_uses_.size()));
  for (uint32_t m = 0; m < map_uses_.size(); ++m) {
    const MapUse& use = map_uses_[m];
    if (use.section != call.section) continue;
    const Recipe& r = *use.recipe;
    const char* base = r.base == kArenaBase      ? static_cast<const char*>(call.arena)
                       : r.base == kConstantBase ? static_cast<const char*>(bound_.constants)
                                                 : static_cast<const char*>((use.after ? call.after : call.before)[r.base - kFirstPersistentBase]);
    if (base == nullptr) continue;
    void* map = nullptr;
    ECAD_TRY(maps_.find(m, use.desc, base + r.offset, &map));
    put(use.entry, map);
  }
  if (!uploaded_) changed = entries_;
  if (uploaded_ && changed == 0 && shadow_step_ == static_cast<int32_t>(call.step)) return Status::ok();
  uploaded_ = true;
  shadow_step_ = static_cast<int32_t>(call.step);
  frame->breadcrumb = cx_.breadcrumb;
  frame->step = shadow_step_;
  std::copy(shadow_.begin(), shadow_.begin() + static_cast<std::ptrdiff_t>(changed), frame->entries);
  return cx_.stream.upload(frame_.data(), frame, frame_bytes(changed));
}

Launch CudaExecutor::launch_of(uint32_t op) {
  const Ref* in = refs_.data() + bound_.first_recipe[op];
  return {&cx_.stream, {static_cast<const Frame*>(frame_.data()), op, 0}, in, in + bound_.program->ops[op].in.size(), map_refs_.data() + first_map_[op]};
}

Status CudaExecutor::enqueue(uint32_t op) {
  if (taken_[op]) return Status::ok();
  const bool both = op + 1 < taken_.size() && taken_[op + 1];
  const Status status = both ? kernel(op)->enqueue_both(launch_of(op), launch_of(op + 1)) : kernel(op)->enqueue(launch_of(op));
  return status.is_ok() ? status : Status(status.code(), status.message()).at_op(static_cast<int32_t>(op)).with_device_code(status.device_code());
}

Status CudaExecutor::enqueue_all(uint32_t section) {
  const Section& s = bound_.program->sections[section];
  for (uint32_t op = s.first_op; op < s.first_op + s.num_ops; ++op) ECAD_TRY(enqueue(op));
  return Status::ok();
}

Status CudaExecutor::capture(uint32_t section, uint64_t stamp) {
  uint64_t before = 0, after = 0;
  ECAD_TRY(memory_free(&before));
  const auto begin = std::chrono::steady_clock::now();
  ECAD_TRY(cx_.stream.begin_capture());
  ECAD_TRY(enqueue_all(section));
  const GraphCache::Key key{this, section};
  const Status status = cx_.stream.end_capture(graphs_.add(key, stamp));
  if (!status.is_ok()) graphs_.forget(key);
  ECAD_TRY(status);
  const auto taken = std::chrono::steady_clock::now() - begin;
  ECAD_TRY(memory_free(&after));
  graphs_.measured(static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(taken).count()), before > after ? before - after : 0);
  return Status::ok();
}

// Each op between two events of the stream; then waits, and reads them.
Status CudaExecutor::run_timed(const SectionCall& call) {
  const Section& s = bound_.program->sections[call.section];
  while (clock_.size() < s.num_ops + 1) {
    clock_.push_back(std::make_unique<Event>());
    ECAD_TRY(clock_.back()->create(true));
  }
  ECAD_TRY(clock_[0]->record(cx_.stream));
  for (uint32_t i = 0; i < s.num_ops; ++i) {
    ECAD_TRY(enqueue(s.first_op + i));
    ECAD_TRY(clock_[i + 1]->record(cx_.stream));
  }
  ECAD_TRY(cx_.stream.synchronize());
  uint64_t at = 0;
  for (uint32_t i = 0; i < s.num_ops; ++i) {
    uint64_t taken = 0;
    ECAD_TRY(Event::nanoseconds(*clock_[i], *clock_[i + 1], &taken));
    call.times->push_back({s.first_op + i, at, taken});
    at += taken;
  }
  return Status::ok();
}

}  // namespace ecad::cuda
