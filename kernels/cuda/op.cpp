#include "op.h"

#include <algorithm>
#include <cstring>

#include "../core/text.h"

namespace ecad::cuda {

Status unsupported(std::string what) { return Status(ECAD_UNSUPPORTED, "the CUDA backend " + std::move(what)); }

Status CudaOp::run(const RunContext& c) {
  ECAD_TRY(cx_.fail(cx_.poison));
  std::vector<Ref> refs(op_->in.size() + op_->out.size() + maps_.size());
  for (size_t i = 0; i < op_->in.size(); ++i) refs[i] = fixed_ref(c.in[i].data);
  Ref* out = refs.data() + op_->in.size();
  for (size_t i = 0; i < op_->out.size(); ++i) out[i] = fixed_ref(c.out[i].data);
  Ref* maps = out + op_->out.size();
  DeviceBuffer storage;
  if (!maps_.empty()) ECAD_TRY(storage.allocate(maps_.size() * sizeof(TensorMap)));
  for (size_t m = 0; m < maps_.size(); ++m) {
    TensorMapDesc desc = maps_[m].desc;
    desc.base = maps_[m].output ? c.out[maps_[m].operand].data : c.in[maps_[m].operand].data;
    ECAD_TRY(cx_.stage(static_cast<TensorMap*>(storage.data()) + m, sizeof(TensorMap), sizeof(TensorMap), [&](size_t, size_t, void* to) { return encode_tensor_map(desc, static_cast<TensorMap*>(to)); }));
    maps[m] = fixed_ref(static_cast<TensorMap*>(storage.data()) + m);
  }
  ECAD_TRY(cx_.fail(enqueue({&cx_.stream, {cx_.direct, index_, 0}, refs.data(), out, maps})));
  ECAD_TRY(cx_.fail(cx_.stream.synchronize()));
  return cx_.check_fault(false);
}

Status DeviceBuffer::allocate(size_t bytes) {
  release(data_);
  data_ = nullptr;
  bytes_ = 0;
  ECAD_TRY(cuda::allocate(bytes, &data_));
  bytes_ = bytes;
  return Status::ok();
}

// ---- context -------------------------------------------------------------------------------------------------------

Status Context::init(int32_t ordinal) {
  ECAD_TRY(open_device(ordinal, &device));
  ECAD_TRY(stream.create());
  void* p = nullptr;
  ECAD_TRY(allocate_pinned(sizeof(Breadcrumb), &p));
  breadcrumb = static_cast<Breadcrumb*>(p);
  for (Stage& s : stages_) {
    ECAD_TRY(allocate_pinned(kStageBytes, &s.data));
    ECAD_TRY(s.done.create(false));
  }
  ECAD_TRY(cuda::allocate(sizeof(Frame), &p));
  direct = static_cast<Frame*>(p);
  return stage(direct, sizeof(Frame), sizeof(Frame), [this](size_t, size_t, void* to) {
    const Frame frame{breadcrumb, 0, 0, {nullptr}};
    std::memcpy(to, &frame, sizeof frame);
    return Status::ok();
  });
}

Context::~Context() {
  (void)stream.synchronize();
  release(direct);
  for (Stage& s : stages_) release_pinned(s.data);
  release_pinned(breadcrumb);
}

Status Context::stage(void* device_memory, size_t bytes, size_t unit, const std::function<Status(size_t, size_t, void*)>& write) {
  ECAD_TRY(poison);
  const size_t chunk = kStageBytes / unit * unit;
  if (chunk == 0) return Status(ECAD_UNSUPPORTED, text("a row of ", unit, " bytes is too long to stage"));
  size_t turn = 0;
  for (size_t at = 0; at < bytes; at += chunk, turn ^= 1) {
    const size_t n = std::min(chunk, bytes - at);
    ECAD_TRY(stages_[turn].done.wait());
    ECAD_TRY(write(at, n, stages_[turn].data));
    ECAD_TRY(fail(stream.upload(static_cast<char*>(device_memory) + at, stages_[turn].data, n)));
    ECAD_TRY(stages_[turn].done.record(stream));
  }
  // the next caller may start with either buffer
  for (Stage& s : stages_) ECAD_TRY(fail(s.done.wait()));
  return Status::ok();
}

Status Context::unstage(void* host, const void* device_memory, size_t bytes) {
  ECAD_TRY(poison);
  for (size_t at = 0; at < bytes; at += kStageBytes) {
    const size_t n = std::min(kStageBytes, bytes - at);
    ECAD_TRY(fail(stream.download(stages_[0].data, static_cast<const char*>(device_memory) + at, n)));
    ECAD_TRY(fail(stream.synchronize()));
    std::memcpy(static_cast<char*>(host) + at, stages_[0].data, n);
  }
  return Status::ok();
}

Status Context::reserve_scratch(size_t bytes) {
  if (bytes <= scratch_bytes()) return Status::ok();
  ECAD_TRY(fail(stream.synchronize()));
  auto larger = std::make_unique<DeviceBuffer>();
  scratch_.reset();
  ++generation_;
  ECAD_TRY(larger->allocate((bytes + 255) / 256 * 256));
  scratch_ = std::move(larger);
  return Status::ok();
}

// What a CUDA error says of itself is rarely where it happened: the breadcrumb is.
Status Context::fail(Status s) {
  if (s.code() != ECAD_DEVICE_ERROR || !poison.is_ok()) return s;
  const uint64_t progress = *static_cast<volatile uint64_t*>(&breadcrumb->progress);
  const auto op = static_cast<int32_t>(progress & 0xffffffffu);
  poison = Status(ECAD_DEVICE_ERROR, text(s.message(), "; the last kernel that began was of op ", op, " at step ", progress >> 32, "; open the device anew")).at_op(s.op() >= 0 ? s.op() : op).with_device_code(s.device_code());
  return poison;
}

Status Context::check_fault(bool in_section) {
  const volatile Breadcrumb* b = breadcrumb;
  const uint64_t fault = b->fault;
  if (fault == 0) return Status::ok();
  breadcrumb->fault = 0;
  const auto op = static_cast<int32_t>(fault >> 32 & 0xffffffu);
  const auto value = static_cast<int32_t>(fault & 0xffffffffu);
  const std::string what = static_cast<Fault>(fault >> 56) == Fault::kEmbeddingId ? text("id ", value, " is outside the table") : text("a key count is ", value, ", outside 1 to the number of keys");
  return Status(ECAD_INVALID_ARGUMENT, in_section ? text("at step ", b->fault_step, ": ", what) : what).at_op(op);
}

// ---- weights -------------------------------------------------------------------------------------------------------

PackCache::~PackCache() {
  (void)cx_.stream.synchronize();
  for (const auto& [key, buffer] : entries_) cx_.cached_bytes -= buffer->bytes();
}

Status PackCache::get(const Key& key, size_t bytes, const std::function<Status(void*)>& fill, void** out) {
  auto it = entries_.find(key);
  if (it == entries_.end()) {
    auto buffer = std::make_unique<DeviceBuffer>();
    ECAD_TRY(buffer->allocate(bytes));
    while (this->bytes != nullptr && held_ < wanted_.size()) {
      ECAD_TRY(this->bytes->hold(wanted_[held_]));
      ++held_;
    }
    ECAD_TRY(fill(buffer->data()));
    it = entries_.emplace(key, std::move(buffer)).first;
    cx_.cached_bytes += bytes;
  }
  *out = it->second->data();
  return Status::ok();
}

void PackCache::begin(const BindContext& b) {
  wanted_.clear();
  held_ = 0;
  for (size_t i = 0; b.weights != nullptr && i < b.op->in.size(); ++i) {
    if (b.weights[i].data != nullptr) wanted_.push_back(b.weights[i].id);
  }
}

void PackCache::end() {
  while (held_ > 0) bytes->let_go(wanted_[--held_]);
  wanted_.clear();
}

// ---- operands ------------------------------------------------------------------------------------------------------

namespace {

bool computes(DType t) { return t == DType::kF32 || t == DType::kBF16; }

Status not_computed(const char* what, DType t) { return unsupported(text("computes on float32 and bfloat16: ", what, " is ", dtype_name(t))); }

}  // namespace

Source Binder::raw_input(size_t i) const {
  Source s;
  if (op.in[i] == kNoTensor) return s;
  s.index = static_cast<int32_t>(i);
  s.tensor = &program.tensors[op.in[i]];
  s.dtype = s.tensor->dtype;
  if (b_.weights != nullptr && b_.weights[i].data != nullptr) {
    s.weight = &b_.weights[i];
    s.dtype = s.weight->dtype;
  }
  return s;
}

Sink Binder::raw_output(size_t i) const {
  Sink s;
  if (op.out[i] == kNoTensor) return s;
  s.index = static_cast<int32_t>(i);
  s.tensor = &program.tensors[op.out[i]];
  s.dtype = s.tensor->dtype;
  return s;
}

Status Binder::input(size_t i, const char* what, Source* s) const {
  *s = raw_input(i);
  return !s->present() || s->weight != nullptr || computes(s->dtype) ? Status::ok() : not_computed(what, s->dtype);
}

Status Binder::output(size_t i, const char* what, Sink* s) const {
  *s = raw_output(i);
  return !s->present() || computes(s->dtype) ? Status::ok() : not_computed(what, s->dtype);
}

Status Binder::pack(Source* s, DType to) const {
  if (s->weight == nullptr) return Status::ok();
  const WeightView& w = *s->weight;
  const size_t size = dtype_size(to), from = dtype_size(w.dtype);
  const auto fill = [&](void* device) {
    return cx.stage(device, static_cast<size_t>(w.tensor->count()) * size, size, [&](size_t at, size_t bytes, void* out) {
      const char* data = static_cast<const char*>(w.data);
      if (w.dtype == to) {
        std::memcpy(out, data + at, bytes);
      } else {
        const auto first = static_cast<int64_t>(at / size);
        for (int64_t k = 0; k < static_cast<int64_t>(bytes / size); ++k) store_element(out, to, k, load_element(data + first * static_cast<int64_t>(from), w.dtype, k));
      }
      return Status::ok();
    });
  };
  ECAD_TRY(cache()->get({static_cast<uint64_t>(Pack::kVector), w.id, static_cast<uint64_t>(to)}, static_cast<size_t>(w.tensor->count()) * size, fill, &s->packed));
  s->dtype = to;
  return Status::ok();
}

const void* Binder::constant(size_t i) const {
  if (op.in[i] == kNoTensor) return nullptr;
  const Tensor& t = program.tensors[op.in[i]];
  const Buffer& b = program.buffers[t.buffer];
  return b.kind == BufferKind::kConstant ? program.constants.data() + b.offset + t.offset * dtype_size(t.dtype) : nullptr;
}

}  // namespace ecad::cuda
