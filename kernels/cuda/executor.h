// Runs the sections of one bound program on the device: operand table, graphs, step-ahead.
//
// A section's ops are put on the stream as they are at its first use; the second use captures them into a graph, later ones launch it. What
// changes between uses (buffer addresses, step index) is in the program's Frame, which is uploaded in stream order in front of the section.
#pragma once
#include <cstddef>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "op.h"

namespace ecad::cuda {

class CudaExecutor;

// Graphs of all programs of a device, the least recently used ones dropped first.
class GraphCache {
 public:
  static constexpr size_t kMost = 64;

  struct Key {
    const CudaExecutor* owner;
    uint32_t section;
    bool operator==(const Key& o) const { return owner == o.owner && section == o.section; }
  };
  // The graph, or null; the one that was found is now the last to go. `stamp` must be what it was captured with.
  const Graph* find(const Key&, uint64_t stamp);
  // Room for one more; valid until the next call of add or forget.
  Graph* add(const Key&, uint64_t stamp);
  void measured(uint64_t nanoseconds, uint64_t bytes);  // of the graph added last: its instantiation, and the device memory that it took
  void forget(const CudaExecutor* owner);
  void forget(const Key&);
  GraphStats stats() const;

 private:
  struct Entry {
    Key key;
    uint64_t stamp, bytes = 0;
    Graph graph;
  };
  std::list<Entry> entries_;  // the most recently used first
  uint64_t captured_ = 0, nanoseconds_ = 0;
};

// Tensor maps of operands behind table entries: one per (buffer, request), encoded when first needed, unchanged while they may be read.
class MapStore {
 public:
  explicit MapStore(Context& cx) : cx_(cx) {}
  Status find(uint32_t request, const TensorMapDesc&, const void* base, void** out);  // base: address of the operand
  // Before a section's maps are looked up: buffers come and go, so when many have gathered all are let go, once nothing reads them.
  Status make_room(size_t count);

 private:
  static constexpr size_t kChunk = 64, kMost = 4096;
  struct KeyHash {
    size_t operator()(const std::pair<uint32_t, const void*>& k) const { return std::hash<const void*>()(k.second) * 31 + k.first; }
  };
  Context& cx_;
  std::vector<std::unique_ptr<DeviceBuffer>> chunks_;
  size_t used_ = 0;  // of the last chunk
  std::unordered_map<std::pair<uint32_t, const void*>, void*, KeyHash> maps_;
};

class CudaExecutor final : public Executor {
 public:
  CudaExecutor(Context& cx, GraphCache& graphs, const BoundProgram& bound) : cx_(cx), graphs_(graphs), bound_(bound), maps_(cx) {}
  ~CudaExecutor() override;
  Status init();
  Status run(const SectionCall&) override;

 private:
  static constexpr uint32_t kAhead = 2;  // sections that may be queued: what a cancelled run still waits for

  // The tables of a Frame on the host.
  struct Turn {
    Frame* frame = nullptr;  // pinned
    Event done;
  };
  struct MapUse {
    uint32_t entry;    // in the frame
    uint32_t section;
    const Recipe* recipe;
    bool after;
    TensorMapDesc desc;
  };

  size_t frame_bytes(size_t entries) const { return offsetof(Frame, entries) + entries * sizeof(void*); }
  void make_refs(const void* arena);
  Status upload_frame(const SectionCall&);
  Status run_section(const SectionCall&);
  Status enqueue_all(uint32_t section);
  Status capture(uint32_t section, uint64_t stamp);
  Status run_timed(const SectionCall&);
  Status enqueue(uint32_t op);
  Launch launch_of(uint32_t op);
  CudaOp* kernel(uint32_t op) const { return static_cast<CudaOp*>(bound_.kernels[op]); }

  Context& cx_;
  GraphCache& graphs_;
  BoundProgram bound_;
  MapStore maps_;
  DeviceBuffer frame_;
  size_t entries_ = 0;
  std::vector<void*> shadow_;   // what the device's table holds
  int32_t shadow_step_ = -1;
  bool uploaded_ = false;
  Turn turns_[kAhead];
  uint32_t turn_ = 0;
  std::vector<Ref> refs_;             // of all operands, as bound_.recipes
  std::vector<uint32_t> first_map_;   // of each op, in map_refs_
  std::vector<Ref> map_refs_;
  std::vector<MapUse> map_uses_;
  std::vector<char> after_;           // of all operands: whether the section has written the buffer by then
  std::vector<char> taken_;           // ops whose work the one in front does
  const void* arena_ = nullptr;
  uint64_t moves_ = 0;                // how often the arena changed
  std::vector<char> seen_;            // sections that ran once
  std::vector<std::unique_ptr<Event>> clock_;
};

}  // namespace ecad::cuda
