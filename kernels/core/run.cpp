#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "dtype.h"
#include "loaded.h"
#include "text.h"
#include "view.h"

namespace ecad {
namespace {

uint64_t now_ns() { return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count()); }

// Buffers that outputs took the place of. Inputs of the running op may still read them, so they are let go when the op is done.
class Replaced {
 public:
  Replaced(Device& device, size_t most) : device_(device) { buffers_.reserve(most); }
  ~Replaced() { clear(); }
  void add(SharedBuffer* b) {
    if (b != nullptr) buffers_.push_back(b);
  }
  void clear() {
    for (SharedBuffer* b : buffers_) device_.release(b);
    buffers_.clear();
  }

 private:
  Device& device_;
  std::vector<SharedBuffer*> buffers_;
};

class Runner {
 public:
  Runner(State& state, const LoadedProgram& loaded, const RunOptions& options)
      : state_(state), loaded_(loaded), options_(options), device_(*state.device()), bases_(state.bases()), replaced_(device_, 2) {  // an op has at most two outputs (validate_op.cpp)
    operands_.resize(loaded.most_operands());
    whole_ = loaded.executor() != nullptr && !options.check_finite;
    if (whole_) before_.resize(loaded.layout()->persistent.size());
  }

  Status run(const ecad_run_item* items, size_t count, uint64_t* times_len) {
    ECAD_TRY(device_.ensure_arena(loaded_.program().arena_bytes));
    bases_[kArenaBase] = static_cast<char*>(device_.arena());
    bases_[kConstantBase] = static_cast<char*>(loaded_.constants());
    start_ns_ = options_.times != nullptr ? now_ns() : 0;
    Status status;
    for (size_t i = 0; i < count && status.is_ok(); ++i) {
      item_ = static_cast<uint32_t>(i);
      status = whole_ ? run_section(items[i]) : run_item(items[i]);
      if (status.is_ok() && options_.on_item != nullptr && options_.on_item(options_.user, static_cast<uint32_t>(i + 1), static_cast<uint32_t>(count)) != 0) {
        status = cancelled();
      }
    }
    *times_len = times_len_;
    const Status waited = device_.backend().synchronize();
    device_.note_memory();
    return status.is_ok() ? named(waited) : status;
  }

 private:
  static Status cancelled() { return Status(ECAD_CANCELLED, "cancelled"); }

  Status run_item(const ecad_run_item& item) {
    const Section& section = loaded_.program().sections[item.section];
    for (uint32_t op = section.first_op; op < section.first_op + section.num_ops; ++op) {
      if (options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed) != 0) return cancelled();
      ECAD_TRY(run_op(op, item.step));
    }
    return Status::ok();
  }

  // The section as one: what its ops need of the state is settled before any of them is queued.
  Status run_section(const ecad_run_item& item) {
    if (options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed) != 0) return cancelled();
    const SectionUse& use = loaded_.use(item.section);
    for (const SectionUse::Read& r : use.reads) {
      const PersistentRead& read = loaded_.reads()[r.read];
      if (!state_.valid(read.index) && is_read(read, item.step)) return not_ready(r.op, item.step, read);
    }
    for (size_t i = 0; i < before_.size(); ++i) before_[i] = state_.valid(static_cast<uint32_t>(i)) ? bases_[kFirstPersistentBase + i] : nullptr;
    Replaced replaced(device_, use.writes.size());
    for (const uint32_t index : use.writes) {
      SharedBuffer* old = nullptr;
      ECAD_TRY(state_.own(index, &old));
      replaced.add(old);
      state_.set_valid(index, false);
    }
    times_.clear();
    const uint64_t begin = options_.times != nullptr ? now_ns() - start_ns_ : 0;
    void* const* after = reinterpret_cast<void* const*>(bases_ + kFirstPersistentBase);
    ECAD_TRY(named(loaded_.executor()->run({item.section, item.step, device_.arena(), before_.data(), after, options_.times != nullptr ? &times_ : nullptr})));
    for (const uint32_t index : use.writes) state_.set_valid(index, true);
    for (const OpTime& t : times_) {
      if (times_len_ < options_.times_cap) options_.times[times_len_] = {item_, t.op, begin + t.start_ns, t.dur_ns};
      ++times_len_;
    }
    return Status::ok();  // what was replaced goes back to the pool: whoever takes it is behind this section in the queue
  }

  static bool is_read(const PersistentRead& read, uint32_t step) {
    return read.coefficient == nullptr || read.coefficient[read.coefficient_step * static_cast<int64_t>(step)] != 0;
  }

  // An executor's error, with the op that it is about in words.
  Status named(Status s) const {
    if (s.is_ok() || s.op() < 0 || static_cast<size_t>(s.op()) >= loaded_.program().ops.size()) return s;
    const Op& op = loaded_.program().ops[static_cast<size_t>(s.op())];
    return Status(s.code(), text(op_text(loaded_.program(), static_cast<size_t>(s.op())), op.block >= 0 ? text(", block ", op.block) : std::string(), ": ", s.message())).at_op(s.op()).with_device_code(s.device_code());
  }

  void resolve(const Recipe& r, uint32_t step, Operand* out) {
    char* base = bases_[r.base];
    out->data = base == nullptr ? nullptr : base + r.offset + r.step_bytes * static_cast<int64_t>(step);
  }

  Status run_op(uint32_t op, uint32_t step) {
    const BoundOp& bound = loaded_.bound(op);
    const Recipe* recipes = loaded_.recipes().data() + bound.first_recipe;
    Operand* in = operands_.data();
    Operand* out = in + bound.inputs;
    for (uint32_t k = 0; k < bound.inputs; ++k) resolve(recipes[k], step, &in[k]);
    const PersistentRead* reads = loaded_.reads().data() + bound.first_read;
    for (uint32_t k = 0; k < bound.reads; ++k) {
      if (state_.valid(reads[k].index)) continue;
      if (is_read(reads[k], step)) return not_ready(op, step, reads[k]);
      in[reads[k].input].data = nullptr;
    }
    const uint32_t* writes = loaded_.writes().data() + bound.first_write;
    for (uint32_t k = 0; k < bound.writes; ++k) {
      SharedBuffer* replaced = nullptr;
      ECAD_TRY(state_.own(writes[k], &replaced));
      replaced_.add(replaced);
      state_.set_valid(writes[k], false);
    }
    for (uint32_t k = 0; k < bound.outputs; ++k) resolve(recipes[bound.inputs + k], step, &out[k]);
    const uint64_t begin = options_.times != nullptr ? now_ns() : 0;
    ECAD_TRY(run_kernel(bound, op, {in, out, step}));
    if (options_.times != nullptr) note_time(op, begin);
    for (uint32_t k = 0; k < bound.writes; ++k) state_.set_valid(writes[k], true);
    replaced_.clear();
    return options_.check_finite ? check_finite(device_, loaded_.program(), op, step, out) : Status::ok();
  }

  Status run_kernel(const BoundOp& bound, uint32_t op, const RunContext& context) {
    try {
      Status status = bound.kernel->run(context);
      if (status.is_ok()) return status;
      return Status(status.code(), text(where(op, context.step), ": ", status.message())).at_op(static_cast<int32_t>(op)).with_device_code(status.device_code());
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& e) {
      return Status(ECAD_DEVICE_ERROR, text(where(op, context.step), ": ", std::string_view(e.what()))).at_op(static_cast<int32_t>(op));
    }
  }

  void note_time(uint32_t op, uint64_t begin) {
    if (times_len_ < options_.times_cap) options_.times[times_len_] = {item_, op, begin - start_ns_, now_ns() - begin};
    ++times_len_;
  }

  std::string where(uint32_t op, uint32_t step) const { return text(op_text(loaded_.program(), op), " at step ", step); }

  Status not_ready(uint32_t op, uint32_t step, const PersistentRead& read) const {
    return Status(ECAD_NOT_READY, text(where(op, step), ": reads \"", state_.layout().persistent[read.index].name, "\", which was never written")).at_op(static_cast<int32_t>(op));
  }

  State& state_;
  const LoadedProgram& loaded_;
  const RunOptions& options_;
  Device& device_;
  char** bases_;
  Replaced replaced_;
  std::vector<Operand> operands_;
  bool whole_ = false;          // sections run by the program's executor
  std::vector<void*> before_;
  std::vector<OpTime> times_;
  uint32_t item_ = 0;
  uint64_t start_ns_ = 0, times_len_ = 0;
};

}  // namespace

Status run_items(State& state, const LoadedProgram& loaded, const ecad_run_item* items, size_t count, const RunOptions& options, uint64_t* times_len) {
  const Program& p = loaded.program();
  if (count > 0xffffffffu) return Status(ECAD_INVALID_ARGUMENT, text("run: ", count, " items are too many"));
  for (size_t i = 0; i < count; ++i) {
    if (items[i].section >= p.sections.size()) return Status(ECAD_INVALID_ARGUMENT, text("run: item ", i, ": section ", items[i].section, " does not exist, there are ", p.sections.size()));
    if (items[i].step >= p.num_steps) return Status(ECAD_INVALID_ARGUMENT, text("run: item ", i, ": step ", items[i].step, " does not exist, there are ", p.num_steps));
  }
  if (state.device() != loaded.device()) return Status(ECAD_INVALID_ARGUMENT, "run: state and program belong to different devices");
  if (state.layout().hash != loaded.layout()->hash) return Status(ECAD_SHAPE_MISMATCH, "run: state and program have different layouts");
  if (state.device()->on_thread()) return Status(ECAD_INVALID_ARGUMENT, "run: an on_item callback cannot run a program on its own device");
  return state.device()->call([&] { return Runner(state, loaded, options).run(items, count, times_len); });
}

namespace {

// Where in the model an op belongs: "block 4, component 1, ", as far as it says.
std::string place_text(const Op& op) { return text(op.block >= 0 ? text("block ", op.block, ", ") : "", op.component >= 0 ? text("component ", op.component, ", ") : ""); }

// Index of row r in the leading dimensions, and the element where it begins.
int64_t row_start(const Tensor& t, int64_t r, int64_t (&index)[4]) {
  int64_t at = 0;
  for (uint32_t d = t.rank - 1; d-- > 0;) {
    index[d] = r % t.dims[d];
    r /= t.dims[d];
    at += index[d] * t.strides[d];
  }
  return at;
}

// Rows that are fetched from the device together: a mebibyte of them where they follow each other without gaps, else one.
int64_t rows_at_once(const Tensor& t, size_t row_bytes) {
  int64_t dense = t.cols();
  for (uint32_t d = t.rank - 1; d-- > 0; dense *= t.dims[d]) {
    if (t.dims[d] > 1 && t.strides[d] != dense) return 1;
  }
  return std::clamp<int64_t>((int64_t{1} << 20) / static_cast<int64_t>(row_bytes), 1, t.rows());
}

Status not_finite(const Program& p, size_t op, uint32_t step, size_t output, const Tensor& t, int64_t row, int64_t column, double v) {
  int64_t index[4] = {};
  row_start(t, row, index);
  std::string place;
  for (uint32_t d = 0; d + 1 < t.rank; ++d) place += text(index[d], ",");
  const Op& o = p.ops[op];
  return Status(ECAD_DEVICE_ERROR, text("step ", step, ", section ", o.section, " \"", p.sections[o.section].name, "\", ", place_text(o), op_text(p, op), ": output ", output, " ", dims_text(t), " holds ", std::isnan(v) ? "NaN" : "an infinity", " at [", place, column, "]"))
      .at_op(static_cast<int32_t>(op));
}

}  // namespace

Status check_finite(Device& device, const Program& p, size_t op, uint32_t step, const Operand* out) {
  for (size_t m = 0; m < p.ops[op].out.size(); ++m) {
    if (p.ops[op].out[m] == kNoTensor) continue;
    const Tensor& t = p.tensors[p.ops[op].out[m]];
    if (!is_float(t.dtype)) continue;
    const size_t size = dtype_size(t.dtype), row_bytes = static_cast<size_t>(t.cols()) * size;
    const int64_t together = rows_at_once(t, row_bytes);
    std::vector<unsigned char> rows(row_bytes * static_cast<size_t>(together));
    for (int64_t first = 0; first < t.rows(); first += together) {
      const int64_t count = std::min(together, t.rows() - first);
      int64_t index[4] = {};
      ECAD_TRY(device.backend().download(rows.data(), static_cast<const char*>(out[m].data) + row_start(t, first, index) * static_cast<int64_t>(size), row_bytes * static_cast<size_t>(count)));
      for (int64_t i = 0; i < count * t.cols(); ++i) {
        const double v = load_element(rows.data(), t.dtype, i);
        if (!std::isfinite(v)) return not_finite(p, op, step, m, t, first + i / t.cols(), i % t.cols(), v);
      }
    }
  }
  return Status::ok();
}

}  // namespace ecad
