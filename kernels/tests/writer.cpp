#include "writer.h"

#include <algorithm>
#include <cstring>

#include "../core/crc32c.h"
#include "../core/sha256.h"

namespace writer {
namespace {

class Out {
 public:
  std::vector<uint8_t> b;
  void raw(const void* p, size_t n) { b.insert(b.end(), static_cast<const uint8_t*>(p), static_cast<const uint8_t*>(p) + n); }
  void u16(uint32_t v) { little(v, 2); }
  void u32(uint64_t v) { little(v, 4); }
  void i32(int32_t v) { little(static_cast<uint32_t>(v), 4); }
  void u64(uint64_t v) { little(v, 8); }
  void i64(int64_t v) { little(static_cast<uint64_t>(v), 8); }
  void f64(double v) { raw(&v, 8); }
  void pad(size_t align) { while (b.size() % align) b.push_back(0); }

 private:
  void little(uint64_t v, int n) { for (int i = 0; i < n; ++i) b.push_back(static_cast<uint8_t>(v >> (8 * i))); }
};

uint32_t get32(const std::vector<uint8_t>& b, size_t at) {
  uint32_t v = 0;
  for (size_t i = 0; i < 4; ++i) v |= static_cast<uint32_t>(b[at + i]) << (8 * i);
  return v;
}

void put32(std::vector<uint8_t>* b, size_t at, uint32_t v) {
  for (size_t i = 0; i < 4; ++i) (*b)[at + i] = static_cast<uint8_t>(v >> (8 * i));
}

size_t aligned(size_t n, size_t a) { return (n + a - 1) / a * a; }

int64_t product(const Dims& dims) {
  int64_t n = 1;
  for (int64_t d : dims) n *= d;
  return n;
}

}  // namespace

uint64_t element_bytes(uint32_t dtype) {
  static constexpr uint64_t kBytes[] = {0, 4, 2, 2, 8, 4, 1};
  return dtype < 7 ? kBytes[dtype] : 0;
}

uint32_t Program::add_buffer(uint32_t kind, uint64_t bytes, const std::string& name, uint32_t flags) {
  BufferRecord b{kind, flags, bytes, 0, name};
  if (kind == kArena) {
    b.offset = arena_bytes;
    arena_bytes += aligned(bytes, 64);
  }
  buffers.push_back(b);
  return static_cast<uint32_t>(buffers.size() - 1);
}

uint32_t Program::add_tensor(uint32_t buffer, uint32_t dtype, const Dims& dims, const Dims& strides, uint64_t offset, int64_t step_stride) {
  TensorRecord t{buffer, dtype, static_cast<uint32_t>(dims.size()), {1, 1, 1, 1}, {0, 0, 0, 0}, offset, step_stride};
  int64_t stride = 1;
  for (size_t d = dims.size(); d-- > 0;) {
    t.dims[d] = dims[d];
    t.strides[d] = strides.empty() ? stride : strides[d];
    stride *= dims[d];
  }
  tensors.push_back(t);
  return static_cast<uint32_t>(tensors.size() - 1);
}

uint32_t Program::arena(uint32_t dtype, const Dims& dims) {
  return add_tensor(add_buffer(kArena, static_cast<uint64_t>(product(dims)) * element_bytes(dtype), ""), dtype, dims);
}

uint32_t Program::persistent(const std::string& name, uint32_t dtype, const Dims& dims, uint32_t flags) {
  return add_tensor(add_buffer(kPersistent, static_cast<uint64_t>(product(dims)) * element_bytes(dtype), name, flags), dtype, dims);
}

uint32_t Program::constant(uint32_t dtype, const Dims& dims, const void* data) {
  const uint64_t bytes = static_cast<uint64_t>(product(dims)) * element_bytes(dtype);
  const uint32_t buffer = add_buffer(kConstant, bytes, "");
  constants.resize(aligned(constants.size(), 64));
  buffers[buffer].offset = constants.size();
  const auto* p = static_cast<const uint8_t*>(data);
  constants.insert(constants.end(), p, p + bytes);
  return add_tensor(buffer, dtype, dims);
}

uint32_t Program::weight(const std::string& name, const Dims& dims) { return add_tensor(add_buffer(kWeight, 0, name), kAny, dims); }

uint32_t Program::view(uint32_t of, const Dims& dims, const Dims& strides, uint64_t offset, int64_t step_stride) {
  return add_tensor(tensors[of].buffer, tensors[of].dtype, dims, strides, offset, step_stride);
}

uint32_t Program::section(uint32_t kind, const std::string& name) {
  sections.push_back({kind, 0, name});
  return static_cast<uint32_t>(sections.size() - 1);
}

OpRecord& Program::op(uint32_t code, const std::vector<uint32_t>& in, const std::vector<uint32_t>& out, std::initializer_list<int32_t> attr,
                      std::initializer_list<double> fattr, const std::string& name) {
  if (sections.empty()) section(1, "step");
  OpRecord o{code, in, out, -1, -1, name};
  std::copy(attr.begin(), attr.end(), o.attr);
  std::copy(fattr.begin(), fattr.end(), o.fattr);
  ops.push_back(o);
  ++sections.back().ops;
  return ops.back();
}

void Program::io(const std::string& name, uint32_t tensor, uint32_t direction) { ios.push_back({name, tensor, direction}); }
void Program::schedule(const std::string& name, const std::vector<std::pair<uint32_t, uint32_t>>& items) { schedules.push_back({name, items}); }

std::vector<uint8_t> Program::bytes() const {
  Out out;
  std::string strings;
  const auto name = [&](const std::string& s) {
    out.u32(strings.size());
    out.u32(s.size());
    strings += s;
  };
  size_t args = 0, items = 0;
  for (const auto& o : ops) args += o.in.size() + o.out.size();
  for (const auto& s : schedules) items += s.items.size();
  out.b.resize(128);
  for (const auto& b : buffers) {
    out.u32(b.kind); out.u32(b.flags); out.u64(b.bytes); out.u64(b.offset);
    name(b.name);
    out.i32(b.block); out.i32(b.component); out.u64(0);
  }
  for (const auto& t : tensors) {
    out.u32(t.buffer); out.u32(t.dtype); out.u32(t.rank); out.u32(0);
    for (int64_t d : t.dims) out.i64(d);
    for (int64_t s : t.strides) out.i64(s);
    out.u64(t.offset); out.i64(t.step_stride);
  }
  for (const auto& o : ops) {
    for (uint32_t t : o.in) out.u32(t);
    for (uint32_t t : o.out) out.u32(t);
  }
  out.pad(8);
  size_t first = 0;
  for (const auto& o : ops) {
    out.u32(o.code); out.u32(0); out.u32(first);
    out.u16(static_cast<uint32_t>(o.in.size())); out.u16(static_cast<uint32_t>(o.out.size()));
    out.i32(o.block); out.i32(o.component);
    name(o.name);
    for (int32_t a : o.attr) out.i32(a);
    for (double f : o.fattr) out.f64(f);
    out.u64(0);
    first += o.in.size() + o.out.size();
  }
  first = 0;
  for (const auto& s : sections) {
    out.u32(s.kind); out.u32(first); out.u32(s.ops);
    name(s.name);
    out.u32(0); out.u64(0);
    first += s.ops;
  }
  for (const auto& i : ios) { name(i.name); out.u32(i.tensor); out.u32(i.direction); }
  first = 0;
  for (const auto& s : schedules) {
    out.u32(first); out.u32(s.items.size());
    name(s.name);
    first += s.items.size();
  }
  for (const auto& s : schedules) {
    for (const auto& i : s.items) { out.u32(i.first); out.u32(i.second); }
  }
  out.pad(8);
  out.raw(strings.data(), strings.size());
  out.pad(64);
  out.raw(constants.data(), constants.size());

  Out head;
  head.raw("ECADPROG", 8);
  head.u32(1); head.u32(std::any_of(ops.begin(), ops.end(), [](const OpRecord& o) { return o.code == kQkNormRope; }) ? 1 : 0); head.u64(out.b.size());
  head.b.resize(56);
  head.u32(steps);
  for (size_t n : {buffers.size(), tensors.size(), args, ops.size(), sections.size(), ios.size(), schedules.size(), items}) head.u32(n);
  head.u32(0); head.u64(strings.size()); head.u64(constants.size()); head.u64(arena_bytes); head.u64(0);
  std::copy(head.b.begin(), head.b.end(), out.b.begin());
  seal(&out.b);
  return out.b;
}

void seal(std::vector<uint8_t>* bytes) {
  std::vector<uint8_t>& b = *bytes;
  if (b.size() < 128) return;
  static constexpr size_t kRecord[8] = {48, 96, 4, 96, 32, 16, 16, 8};
  size_t at = 128;
  for (size_t t = 0; t < 8; ++t) at = aligned(at, 8) + size_t{get32(b, 60 + 4 * t)} * kRecord[t];
  const size_t strings = aligned(at, 8), count = get32(b, 60);
  ecad::Sha256 hash;
  hash.update(b.data() + 112, 8);
  hash.update(b.data() + 56, 4);
  for (size_t i = 0; i < count && 128 + 48 * (i + 1) <= b.size(); ++i) {
    const uint8_t* record = b.data() + 128 + 48 * i;
    if (get32(b, 128 + 48 * i) != kPersistent) continue;
    uint8_t copy[48];
    std::memcpy(copy, record, 48);
    std::memset(copy + 24, 0, 4);
    hash.update(copy, 48);
    const size_t name = strings + get32(b, 128 + 48 * i + 24), length = get32(b, 128 + 48 * i + 28);
    if (name <= b.size() && length <= b.size() - name) hash.update(b.data() + name, length);
  }
  const auto digest = hash.finish();
  std::copy(digest.begin(), digest.end(), b.begin() + 24);
  put32(&b, 92, ecad::crc32c(b.data() + 128, b.size() - 128));
}

}  // namespace writer
