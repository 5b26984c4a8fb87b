// A program bound to a device and weights, the layout that its states share, and states.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "device.h"
#include "weights.h"

namespace ecad {

// What states know of the program that made them; it outlives the program.
struct Layout {
  struct Persistent {
    std::string name;
    uint64_t bytes;
  };
  struct Port {
    std::string name;
    uint32_t index;  // among persistent buffers
    int32_t direction;
  };
  std::array<uint8_t, 32> hash;
  std::vector<Persistent> persistent;
  std::vector<Port> ports;
};

// A persistent buffer that an op reads. coefficient (of a lincomb term, in the program's constants; else null): while it is 0 the term is
// not read. It moves by coefficient_step doubles per step.
struct PersistentRead {
  uint32_t index, input;
  const double* coefficient;
  int64_t coefficient_step;
};

struct BoundOp {
  std::unique_ptr<Kernel> kernel;
  uint32_t first_recipe, inputs, outputs;  // recipes of inputs, then of outputs
  uint32_t first_read, reads;
  uint32_t first_write, writes;  // persistent indices; at most one per output
};

// What running a section whole needs to know of its persistent buffers.
struct SectionUse {
  struct Read {
    uint32_t op;
    uint32_t read;  // in reads(): of a buffer that no earlier op of the section writes
  };
  std::vector<Read> reads;
  std::vector<uint32_t> writes;  // persistent indices, each once
};

class LoadedProgram {
 public:
  static Status load(std::shared_ptr<Device>, std::shared_ptr<Weights>, const uint8_t* bytes, size_t nbytes, std::shared_ptr<LoadedProgram>* out);
  ~LoadedProgram();

  const std::shared_ptr<Device>& device() const { return device_; }
  const std::shared_ptr<const Layout>& layout() const { return layout_; }
  const Program& program() const { return program_; }
  const BoundOp& bound(size_t op) const { return ops_[op]; }
  const std::vector<Recipe>& recipes() const { return recipes_; }
  const std::vector<PersistentRead>& reads() const { return reads_; }
  const std::vector<uint32_t>& writes() const { return writes_; }
  void* constants() const { return constants_; }
  Executor* executor() const { return executor_.get(); }  // null: sections run op by op
  const SectionUse& use(size_t section) const { return uses_[section]; }
  size_t most_operands() const { return most_operands_; }

 private:
  LoadedProgram(std::shared_ptr<Device> device, std::shared_ptr<Weights> weights) : device_(std::move(device)), weights_(std::move(weights)) {}
  Status find_weights(std::vector<WeightView>* by_buffer);
  void make_layout();
  void make_recipes();
  void make_uses();
  Status check_memory(const std::vector<WeightView>& by_buffer) const;
  Status make_executor();
  Status bind(const std::vector<WeightView>& by_buffer);
  Status bind_op(size_t op, const BindContext&);

  std::shared_ptr<Device> device_;
  std::shared_ptr<Weights> weights_;  // null when the program names none
  Program program_;
  std::shared_ptr<const Layout> layout_;
  std::vector<BoundOp> ops_;
  std::vector<Recipe> recipes_;
  std::vector<PersistentRead> reads_;
  std::vector<uint32_t> writes_;
  std::vector<uint32_t> held_;  // weights that kernels read as they lie
  size_t most_operands_ = 0;
  std::vector<SectionUse> uses_;
  std::vector<uint32_t> first_recipes_;
  std::vector<Kernel*> kernels_;
  std::unique_ptr<Executor> executor_;
  void* constants_ = nullptr;
  bool counted_ = false;  // whether the device counts this program
};

// A table of references to persistent buffers. One thread at a time; buffers may be shared with other states.
class State {
 public:
  static Status create(std::shared_ptr<Device>, std::shared_ptr<const Layout>, std::unique_ptr<State>* out);
  ~State();
  Status fork(std::unique_ptr<State>* out) const;
  void reset();
  Status find(const char* io_name, int32_t direction, uint32_t* index) const;
  Status write(uint32_t index, const void* data, uint64_t nbytes);
  Status read(uint32_t index, void* data, uint64_t nbytes) const;

  const std::shared_ptr<Device>& device() const { return device_; }
  const Layout& layout() const { return *layout_; }

  // For the run, on the device's thread.
  bool valid(uint32_t index) const { return slots_[index].valid; }
  void set_valid(uint32_t index, bool valid) { slots_[index].valid = valid; }
  char** bases() { return bases_.data(); }
  // Makes buffer `index` this state's own, with undefined content. The buffer that it took the place of, or null, is the caller's to
  // release: once nothing reads it any more.
  Status own(uint32_t index, SharedBuffer** replaced);

 private:
  struct Slot {
    SharedBuffer* buffer = nullptr;
    bool valid = false;
  };
  State(std::shared_ptr<Device> device, std::shared_ptr<const Layout> layout) : device_(std::move(device)), layout_(std::move(layout)) {}
  Status check(uint32_t index, const void* data, uint64_t nbytes) const;

  std::shared_ptr<Device> device_;
  std::shared_ptr<const Layout> layout_;
  std::vector<Slot> slots_;
  std::vector<char*> bases_;
};

struct RunOptions {
  bool check_finite = false;
  const std::atomic<int>* cancel = nullptr;
  int32_t (*on_item)(void*, uint32_t, uint32_t) = nullptr;
  void* user = nullptr;
  ecad_op_time* times = nullptr;
  uint64_t times_cap = 0;
};

// Runs the items in order. A status of code ECAD_CANCELLED: cancelled. *times_len: how many op times there were.
Status run_items(State&, const LoadedProgram&, const ecad_run_item* items, size_t count, const RunOptions&, uint64_t* times_len);

// After an op: the first NaN or infinity in its float outputs is an error that says where.
Status check_finite(Device&, const Program&, size_t op, uint32_t step, const Operand* out);

}  // namespace ecad
