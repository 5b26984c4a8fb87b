// Buffers, tensors, ios and schedules of a decoded program.
#include <algorithm>
#include <string_view>

#include "decode.h"
#include "text.h"
#include "view.h"

namespace ecad {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{1} << 48;
constexpr int64_t kMaxDim = 0x7fffffff, kMaxCount = int64_t{1} << 40, kMaxStride = int64_t{1} << 48;

Status check_place(const Program& p, size_t i, uint64_t space, const char* what) {
  const Buffer& b = p.buffers[i];
  if (b.offset % 64 != 0) return bad_program(buffer_text(p, i), ": offset ", b.offset, " is not a multiple of 64");
  if (b.offset > space || b.bytes > space - b.offset) return bad_program(buffer_text(p, i), ": bytes ", b.offset, "+", b.bytes, " lie outside the ", what, " of ", space);
  return Status::ok();
}

Status check_buffer(const Program& p, size_t i, uint64_t constant_bytes) {
  const Buffer& b = p.buffers[i];
  const bool weight = b.kind == BufferKind::kWeight, persistent = b.kind == BufferKind::kPersistent;
  if (b.flags > (persistent ? 1u : 0u)) return bad_program(buffer_text(p, i), ": flags ", b.flags, " are not known");
  if (b.block < -1 || b.component < -1) return bad_program(buffer_text(p, i), ": block ", b.block, " or component ", b.component, " is below -1");
  if ((weight || persistent) && b.name().empty()) return bad_program(buffer_text(p, i), ": has no name");
  if (weight) {
    if (b.bytes != 0 || b.offset != 0) return bad_program(buffer_text(p, i), ": a weight has neither bytes nor offset");
    return Status::ok();
  }
  if (b.bytes == 0 || b.bytes > kMaxBytes) return bad_program(buffer_text(p, i), ": size ", b.bytes, " is outside 1..2^48");
  if (persistent) return b.offset == 0 ? Status::ok() : bad_program(buffer_text(p, i), ": a persistent buffer has no offset");
  return b.kind == BufferKind::kArena ? check_place(p, i, p.arena_bytes, "arena") : check_place(p, i, constant_bytes, "constants");
}

Status check_buffers(const Program& p, uint64_t constant_bytes) {
  uint64_t total = 0;
  size_t weights = 0;
  for (size_t i = 0; i < p.buffers.size(); ++i) {
    ECAD_TRY(check_buffer(p, i, constant_bytes));
    const Buffer& b = p.buffers[i];
    if (b.kind == BufferKind::kWeight) ++weights;
    if (b.kind == BufferKind::kPersistent) total += b.bytes;
    if (total > (uint64_t{1} << 60)) return bad_program("persistent buffers of more than 2^60 bytes");
  }
  std::vector<uint32_t> by_name;
  by_name.reserve(weights);
  for (size_t i = 0; i < p.buffers.size(); ++i) {
    if (p.buffers[i].kind == BufferKind::kWeight) by_name.push_back(static_cast<uint32_t>(i));
  }
  const auto name = [&](uint32_t i) { return p.buffers[i].name(); };
  std::sort(by_name.begin(), by_name.end(), [&](uint32_t a, uint32_t b) { return name(a) != name(b) ? name(a) < name(b) : a < b; });
  const auto twin = std::adjacent_find(by_name.begin(), by_name.end(), [&](uint32_t a, uint32_t b) { return name(a) == name(b); });
  return twin == by_name.end() ? Status::ok() : bad_program(buffer_text(p, twin[1]), ": another weight buffer has this name");
}

// Dims and strides by themselves. *last is the largest element index of the view at step 0, from its offset.
Status check_view(const Program& p, size_t index, int64_t* last) {
  const Tensor& t = p.tensors[index];
  const bool constant = p.buffers[t.buffer].kind == BufferKind::kConstant;
  int64_t count = 1;
  for (uint32_t d = 0; d < 4; ++d) {
    if (d >= t.rank) {
      if (t.dims[d] != 1 || t.strides[d] != 0) return bad_program("tensor ", index, ": dim ", d, " is past its rank and must have dim 1, stride 0");
      continue;
    }
    if (t.dims[d] < 1 || t.dims[d] > kMaxDim) return bad_program("tensor ", index, ": dim ", d, " of ", t.dims[d], " is outside 1..2^31-1");
    if (t.strides[d] < 0 || t.strides[d] > kMaxStride) return bad_program("tensor ", index, ": stride ", d, " of ", t.strides[d], " is outside 0..2^48");
    if (count > kMaxCount / t.dims[d]) return bad_program("tensor ", index, ": ", dims_text(t), " has more than 2^40 elements");
    count *= t.dims[d];
  }
  if (t.strides[t.rank - 1] != 1) return bad_program("tensor ", index, ": the last stride is ", t.strides[t.rank - 1], ", it must be 1");
  *last = 0;
  for (uint32_t d = t.rank; d-- > 0;) {
    const int64_t steps = t.dims[d] - 1, stride = t.strides[d];
    if (steps > 0 && stride <= *last && d + 1 < t.rank && !(constant && stride == 0)) return bad_program("tensor ", index, ": rows of dim ", d, " overlap: stride ", stride, " is less than ", *last + 1);
    if (steps > 0 && stride > (kMaxStride - *last) / steps) return bad_program("tensor ", index, ": reaches over 2^48 elements");
    *last += steps * stride;
  }
  return Status::ok();
}

Status check_weight(const Program& p, size_t index, std::vector<uint32_t>* first_view) {
  const Tensor& t = p.tensors[index];
  if (t.dtype != DType::kAny || t.offset != 0 || t.step_stride != 0 || !is_dense(t)) return bad_program("tensor ", index, ": a weight is viewed dense, from 0, without step stride, with dtype any");
  uint32_t& first = (*first_view)[t.buffer];
  if (first == kNoTensor) first = static_cast<uint32_t>(index);
  const Tensor& other = p.tensors[first];
  if (other.rank != t.rank || other.dims != t.dims) return bad_program("tensor ", index, ": ", buffer_text(p, t.buffer), " is viewed as ", dims_text(t), " and as ", dims_text(other));
  return Status::ok();
}

Status check_tensors(const Program& p) {
  std::vector<uint32_t> first_view(p.buffers.size(), kNoTensor);
  for (size_t i = 0; i < p.tensors.size(); ++i) {
    const Tensor& t = p.tensors[i];
    const Buffer& b = p.buffers[t.buffer];
    int64_t last = 0;
    ECAD_TRY(check_view(p, i, &last));
    if (b.kind == BufferKind::kWeight) {
      ECAD_TRY(check_weight(p, i, &first_view));
      continue;
    }
    if (t.dtype == DType::kAny) return bad_program("tensor ", i, ": dtype any is for weights alone");
    if (t.offset > static_cast<uint64_t>(kMaxStride)) return bad_program("tensor ", i, ": offset ", t.offset, " is over 2^48");
    if (t.step_stride < 0 || t.step_stride > kMaxStride) return bad_program("tensor ", i, ": step stride ", t.step_stride, " is outside 0..2^48");
    if (b.kind == BufferKind::kArena && t.step_stride != 0) return bad_program("tensor ", i, ": an arena tensor has no step stride");
    const int64_t steps = static_cast<int64_t>(p.num_steps) - 1;
    if (steps > 0 && t.step_stride > kMaxStride / steps) return bad_program("tensor ", i, ": reaches over 2^48 elements at the last step");
    const uint64_t end = t.offset + static_cast<uint64_t>(last) + static_cast<uint64_t>(t.step_stride * steps) + 1;
    if (end > b.bytes / dtype_size(t.dtype)) return bad_program("tensor ", i, ": ", dims_text(t), " ends at element ", end, ", ", buffer_text(p, t.buffer), " has ", b.bytes / dtype_size(t.dtype));
  }
  return Status::ok();
}

Status check_ios(const Program& p, const Records& records) {
  std::vector<std::string_view> names(records.count(kIos));
  for (uint32_t i = 0; i < names.size(); ++i) {
    Io io;
    ECAD_TRY(records.io(i, &io));
    names[i] = io.name;
    const Tensor& t = p.tensors[io.tensor];
    const Buffer& b = p.buffers[t.buffer];
    if (b.kind != BufferKind::kPersistent || !covers(t, b)) return bad_program("io ", i, " \"", io.name, "\": tensor ", io.tensor, " is not a whole, dense view of a persistent buffer");
  }
  std::sort(names.begin(), names.end());
  const auto twin = std::adjacent_find(names.begin(), names.end());
  return twin == names.end() ? Status::ok() : bad_program("io \"", *twin, "\": another io has this name");
}

Status check_items(const Records& records) {
  for (uint32_t i = 0; i < records.count(kSchedules); ++i) {
    ScheduleRange s;
    ECAD_TRY(records.schedule(i, &s));
    for (uint32_t k = 0; k < s.num_items; ++k) {
      const RunItem item = records.item(s.first_item + k);
      if (item.section >= records.count(kSections)) return bad_program("schedule ", i, " item ", k, ": section ", item.section, " does not exist, there are ", records.count(kSections));
      if (item.step >= records.num_steps()) return bad_program("schedule ", i, " item ", k, ": step ", item.step, " does not exist, there are ", records.num_steps());
    }
  }
  return Status::ok();
}

}  // namespace

Status validate_objects(const Program& p, const Records& records) {
  ECAD_TRY(check_buffers(p, records.constant_bytes()));
  ECAD_TRY(check_tensors(p));
  ECAD_TRY(check_ios(p, records));
  return check_items(records);
}

}  // namespace ecad
