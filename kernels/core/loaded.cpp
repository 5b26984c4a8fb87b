// Loading: decode, find weights, make address recipes, bind kernels.
#include "loaded.h"

#include "decode.h"
#include "dtype.h"
#include "text.h"

namespace ecad {

Status LoadedProgram::load(std::shared_ptr<Device> device, std::shared_ptr<Weights> weights, const uint8_t* bytes, size_t nbytes, std::shared_ptr<LoadedProgram>* out) {
  std::shared_ptr<LoadedProgram> loaded(new LoadedProgram(std::move(device), std::move(weights)));
  ECAD_TRY(decode_program(bytes, nbytes, &loaded->program_));
  std::vector<WeightView> by_buffer;
  ECAD_TRY(loaded->find_weights(&by_buffer));
  loaded->make_layout();
  loaded->make_recipes();
  loaded->make_uses();
  ECAD_TRY(loaded->device_->call([&] { return loaded->bind(by_buffer); }));
  *out = std::move(loaded);
  return Status::ok();
}

LoadedProgram::~LoadedProgram() {
  (void)device_->call([this] {
    executor_.reset();
    ops_.clear();
    for (const uint32_t id : held_) weights_->let_go(id);
    if (constants_ != nullptr) device_->deallocate(constants_, program_.constants.size());
    if (counted_) device_->program_released();
    device_->note_memory();
    return Status::ok();
  });
}

Status LoadedProgram::find_weights(std::vector<WeightView>* by_buffer) {
  by_buffer->resize(program_.buffers.size(), WeightView{nullptr, DType::kAny, nullptr, 0});
  std::vector<uint32_t> element_bytes(program_.buffers.size(), 4);
  for (const Tensor& t : program_.tensors) {
    const Buffer& b = program_.buffers[t.buffer];
    WeightView& view = (*by_buffer)[t.buffer];
    if (b.kind != BufferKind::kWeight || view.tensor != nullptr) continue;
    if (weights_ == nullptr) return Status(ECAD_INVALID_ARGUMENT, text("program: needs weights, e.g. \"", b.name(), "\", but none are given"));
    ECAD_TRY(weights_->find(b.name(), t, &view));
    element_bytes[t.buffer] = static_cast<uint32_t>(dtype_size(view.dtype));
  }
  for (Op& op : program_.ops) op.bytes = op_bytes(program_, op, element_bytes.data());
  return Status::ok();
}

void LoadedProgram::make_layout() {
  auto layout = std::make_shared<Layout>();
  layout->hash = program_.layout_hash;
  for (const uint32_t b : program_.persistent) layout->persistent.push_back({std::string(program_.buffers[b].name()), program_.buffers[b].bytes});
  for (const Io& io : program_.ios) layout->ports.push_back({std::string(io.name), program_.buffers[program_.tensors[io.tensor].buffer].persistent_index, io.direction});
  layout_ = std::move(layout);
}

void LoadedProgram::make_recipes() {
  ops_.resize(program_.ops.size());
  for (size_t i = 0; i < program_.ops.size(); ++i) {
    const Op& op = program_.ops[i];
    BoundOp& bound = ops_[i];
    bound.first_recipe = static_cast<uint32_t>(recipes_.size());
    bound.first_read = static_cast<uint32_t>(reads_.size());
    bound.first_write = static_cast<uint32_t>(writes_.size());
    bound.inputs = static_cast<uint32_t>(op.in.size());
    bound.outputs = static_cast<uint32_t>(op.out.size());
    most_operands_ = std::max(most_operands_, op.in.size() + op.out.size());
    const auto recipe = [&](uint32_t tensor) {
      if (tensor == kNoTensor) return Recipe{kNoBase, 0, 0};
      const Tensor& t = program_.tensors[tensor];
      const Buffer& b = program_.buffers[t.buffer];
      const auto size = static_cast<int64_t>(dtype_size(t.dtype));
      const int64_t at = static_cast<int64_t>(t.offset) * size, start = static_cast<int64_t>(b.offset);
      switch (b.kind) {
        case BufferKind::kArena: return Recipe{kArenaBase, start + at, 0};
        case BufferKind::kConstant: return Recipe{kConstantBase, start + at, t.step_stride * size};
        case BufferKind::kPersistent: return Recipe{kFirstPersistentBase + b.persistent_index, at, t.step_stride * size};
        case BufferKind::kWeight: break;
      }
      return Recipe{kNoBase, 0, 0};
    };
    const double* coefficients = nullptr;
    int64_t coefficient_step = 0;
    if (op.code == Opcode::kLincomb) {
      const Tensor& t = program_.tensors[op.in.back()];
      const Buffer& b = program_.buffers[t.buffer];
      if (b.kind == BufferKind::kConstant) coefficients = reinterpret_cast<const double*>(program_.constants.data() + b.offset) + t.offset;
      coefficient_step = t.step_stride;
    }
    for (uint32_t k = 0; k < bound.inputs; ++k) {
      recipes_.push_back(recipe(op.in[k]));
      if (recipes_.back().base < kFirstPersistentBase) continue;
      const bool term = coefficients != nullptr && k + 1 < bound.inputs;
      reads_.push_back({recipes_.back().base - kFirstPersistentBase, k, term ? coefficients + k : nullptr, coefficient_step});
    }
    for (const uint32_t tensor : op.out) {
      recipes_.push_back(recipe(tensor));
      if (recipes_.back().base >= kFirstPersistentBase) writes_.push_back(recipes_.back().base - kFirstPersistentBase);
    }
    bound.reads = static_cast<uint32_t>(reads_.size()) - bound.first_read;
    bound.writes = static_cast<uint32_t>(writes_.size()) - bound.first_write;
  }
}

void LoadedProgram::make_uses() {
  uses_.resize(program_.sections.size());
  for (size_t s = 0; s < uses_.size(); ++s) {
    const Section& section = program_.sections[s];
    std::vector<char> written(program_.persistent.size(), 0);
    for (uint32_t op = section.first_op; op < section.first_op + section.num_ops; ++op) {
      const BoundOp& bound = ops_[op];
      for (uint32_t k = bound.first_read; k < bound.first_read + bound.reads; ++k) {
        if (!written[reads_[k].index]) uses_[s].reads.push_back({op, k});
      }
      for (uint32_t k = bound.first_write; k < bound.first_write + bound.writes; ++k) {
        if (!written[writes_[k]]) uses_[s].writes.push_back(writes_[k]);
        written[writes_[k]] = 1;
      }
    }
  }
}

// Before anything is allocated: what the program needs against what the device has. Weights are counted once per weights object, as they
// are stored, but at most 4 bytes an element, 2 where activations are bfloat16.
Status LoadedProgram::check_memory(const std::vector<WeightView>& by_buffer) const {
  uint64_t have = 0;
  ECAD_TRY(device_->backend().memory_free(&have));
  if (have == 0) return Status::ok();
  bool narrow = false;
  for (const Tensor& t : program_.tensors) narrow = narrow || (t.dtype == DType::kBF16 && program_.buffers[t.buffer].kind == BufferKind::kArena);
  uint64_t weights = 0, state = 0;
  if (weights_ != nullptr && !weights_->packed()) {
    for (const WeightView& w : by_buffer) {
      if (w.tensor != nullptr) weights += static_cast<uint64_t>(w.tensor->count()) * std::min<uint64_t>(dtype_size(w.dtype), narrow ? 2 : 4);
    }
  }
  for (const uint32_t b : program_.persistent) state += program_.buffers[b].bytes;
  const uint64_t arena = program_.arena_bytes > device_->arena_bytes() ? program_.arena_bytes : 0, constants = program_.constants.size();
  have += arena > 0 ? device_->arena_bytes() : 0;
  have += device_->pooled();
  const uint64_t need = weights + arena + state + constants;
  if (need <= have) return Status::ok();
  const auto mib = [](uint64_t bytes) { return (bytes + (1u << 20) - 1) >> 20; };
  return Status(ECAD_OUT_OF_MEMORY, text("program: needs ", mib(need), " MiB of device memory (weights ", mib(weights), ", activations ", mib(arena), ", one state ", mib(state), ", constants ", mib(constants), "), ",
                                         mib(have), " MiB are free: use a smaller batch or resolution, or bfloat16"));
}

Status LoadedProgram::make_executor() {
  for (const BoundOp& op : ops_) {
    first_recipes_.push_back(op.first_recipe);
    kernels_.push_back(op.kernel.get());
  }
  return device_->backend().new_executor({&program_, recipes_.data(), first_recipes_.data(), kernels_.data(), constants_}, &executor_);
}

Status LoadedProgram::bind(const std::vector<WeightView>& by_buffer) {
  device_->program_loaded();
  counted_ = true;
  ECAD_TRY(check_memory(by_buffer));
  ECAD_TRY(device_->ensure_arena(program_.arena_bytes));
  if (!program_.constants.empty()) {
    ECAD_TRY(device_->allocate(program_.constants.size(), &constants_));
    ECAD_TRY(device_->backend().upload(constants_, program_.constants.data(), program_.constants.size()));
  }
  WeightCache* cache = nullptr;
  if (weights_ != nullptr) {
    cache = weights_->cache();
    if (cache == nullptr) return Status(ECAD_OUT_OF_MEMORY, "out of memory");
  }
  std::vector<WeightView> views;
  for (size_t i = 0; i < ops_.size(); ++i) {
    const Op& op = program_.ops[i];
    views.assign(op.in.size(), WeightView{nullptr, DType::kAny, nullptr, 0});
    for (size_t k = 0; k < op.in.size(); ++k) {
      if (op.in[k] == kNoTensor) continue;
      const Tensor& t = program_.tensors[op.in[k]];
      if (program_.buffers[t.buffer].kind != BufferKind::kWeight) continue;
      views[k] = by_buffer[t.buffer];
      views[k].tensor = &t;
    }
    ECAD_TRY(bind_op(i, {&program_, &op, views.data(), cache}));
  }
  ECAD_TRY(make_executor());
  device_->note_memory();
  return Status::ok();
}

Status LoadedProgram::bind_op(size_t i, const BindContext& context) {
  const Op& op = program_.ops[i];
  Backend& backend = device_->backend();
  if (!backend.packs(context)) {
    for (size_t k = 0; k < op.in.size(); ++k) {
      if (context.weights[k].tensor == nullptr) continue;
      held_.reserve(held_.size() + 1);
      ECAD_TRY(weights_->hold(context.weights[k].id));
      held_.push_back(context.weights[k].id);
    }
  }
  const Status status = backend.bind(context, &ops_[i].kernel);
  if (!status.is_ok()) return Status(status.code(), text("program: ", op_text(program_, i), ": ", status.message())).at_op(static_cast<int32_t>(i)).with_device_code(status.device_code());
  if (ops_[i].kernel == nullptr) return Status(ECAD_INTERNAL, text("program: ", op_text(program_, i), ": the backend gave no kernel")).at_op(static_cast<int32_t>(i));
  return Status::ok();
}

}  // namespace ecad
