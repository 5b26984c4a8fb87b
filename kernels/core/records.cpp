#include "records.h"

#include <cmath>
#include <cstring>

#include "crc32c.h"
#include "text.h"

namespace ecad {
namespace {

constexpr size_t kHeaderBytes = 128;
constexpr uint64_t kMaxBytes = uint64_t{1} << 48;
constexpr uint32_t kMaxName = 255, kMaxIoName = 63;

// Reads little-endian fields one after another; the caller has checked that they are there.
class Cursor {
 public:
  explicit Cursor(const uint8_t* p) : p_(p) {}
  uint16_t u16() { return static_cast<uint16_t>(take(2)); }
  uint32_t u32() { return static_cast<uint32_t>(take(4)); }
  uint64_t u64() { return take(8); }
  int32_t i32() { return static_cast<int32_t>(u32()); }
  int64_t i64() { return static_cast<int64_t>(u64()); }
  double f64() {
    const uint64_t u = u64();
    double d;
    std::memcpy(&d, &u, 8);
    return d;
  }

 private:
  uint64_t take(int n) {
    uint64_t v = 0;
    for (int i = 0; i < n; ++i) v |= static_cast<uint64_t>(p_[i]) << (8 * i);
    p_ += n;
    return v;
  }
  const uint8_t* p_;
};

// Optional operands that the writer left out at the end become absent ones, so that operand k is always at place k.
void fill_operands(Op* op) {
  const auto count = [op](int i) { return op->attr[static_cast<size_t>(i)] > 0 ? static_cast<size_t>(op->attr[static_cast<size_t>(i)]) : 0; };
  size_t in = op->in.size(), out = op->out.size();
  switch (op->code) {
    case Opcode::kLinear: in = count(0) + 2 * count(1); break;
    case Opcode::kAttention: in = 5; break;
    case Opcode::kChain: in = 1 + 2 * count(0) + 4; out = 2; break;
    case Opcode::kPatchEmbed: in = 4; break;
    case Opcode::kConv2d: in = 3; break;
    default: break;
  }
  constexpr size_t kMostOperands = 1u << 16;  // attributes are not checked yet; the op's rule refuses what is over
  if (in > op->in.size() && in <= kMostOperands && in <= 3 * op->in.size() + 8) op->in.resize(in, kNoTensor);
  if (out > op->out.size()) op->out.resize(out, kNoTensor);
}

}  // namespace

Status Records::open(const uint8_t* bytes, size_t nbytes) {
  bytes_ = bytes;
  nbytes_ = nbytes;
  ECAD_TRY(header());
  ECAD_TRY(places());
  if (crc32c(bytes_ + kHeaderBytes, nbytes_ - kHeaderBytes) != crc_) return bad_program("checksum differs: the bytes are damaged");
  return Status::ok();
}

Status Records::header() {
  if (nbytes_ < kHeaderBytes) return bad_program(nbytes_, " bytes are too few for a header of ", kHeaderBytes);
  if (std::memcmp(bytes_, "ECADPROG", 8) != 0) return bad_program("does not start with ECADPROG: not an ecadx program");
  Cursor c(bytes_ + 8);
  const uint32_t major = c.u32();
  minor_ = c.u32();
  if (major != 1 || minor_ > 1) return bad_program("format version ", major, ".", minor_, " is not known, this library reads 1.0 and 1.1: compile the program again, or use a newer library");
  const uint64_t file_bytes = c.u64();
  if (file_bytes != nbytes_) return bad_program("says it has ", file_bytes, " bytes but there are ", nbytes_, ": cut short or followed by something");
  c = Cursor(bytes_ + 56);
  num_steps_ = c.u32();
  for (Table& t : tables_) t.count = c.u32();
  crc_ = c.u32();
  string_bytes_ = c.u64();
  constant_bytes_ = c.u64();
  arena_bytes_ = c.u64();
  if (c.u64() != 0) return bad_program("a reserved header field is not 0");
  if (num_steps_ == 0 || num_steps_ > 0x7fffffffu) return bad_program("step count ", num_steps_, " is outside 1..2^31-1");
  if (arena_bytes_ > kMaxBytes) return bad_program("arena of ", arena_bytes_, " bytes is over 2^48");
  return Status::ok();
}

// Places the tables, and checks that they and nothing else fill the file.
Status Records::places() {
  uint64_t at = kHeaderBytes;
  for (Table& t : tables_) {
    if (t.count > t.limit) return bad_program(t.count, " ", t.what, " are over the limit of ", t.limit);
    ECAD_TRY(pad(&at, 8));
    t.at = at;
    at += uint64_t{t.count} * t.record_bytes;
    if (at > nbytes_) return bad_program(t.count, " ", t.what, " do not fit into ", nbytes_, " bytes");
  }
  if (string_bytes_ > (1u << 24)) return bad_program(string_bytes_, " string bytes are over 2^24");
  ECAD_TRY(pad(&at, 8));
  strings_at_ = at;
  at += string_bytes_;
  if (at > nbytes_) return bad_program(string_bytes_, " string bytes do not fit into ", nbytes_, " bytes");
  ECAD_TRY(pad(&at, 64));
  constants_at_ = at;
  if (constant_bytes_ != nbytes_ - at) return bad_program("says ", constant_bytes_, " constant bytes but ", nbytes_ - at, " follow the strings");
  return Status::ok();
}

Status Records::pad(uint64_t* at, uint64_t align) const {
  for (; *at % align != 0; ++*at) {
    if (*at >= nbytes_) return bad_program("ends inside padding");
    if (bytes_[*at] != 0) return bad_program("padding at byte ", *at, " is not 0");
  }
  if (*at > nbytes_) return bad_program("ends before its tables do");
  return Status::ok();
}

Status Records::name(uint32_t at, uint32_t length, const char* what, uint32_t index, std::string_view* out) const {
  if (length > kMaxName) return bad_program(what, " ", index, ": a name of ", length, " bytes is over ", kMaxName);
  if (uint64_t{at} + length > string_bytes_) return bad_program(what, " ", index, ": its name lies outside the strings");
  *out = strings().substr(at, length);
  if (!is_utf8(*out)) return bad_program(what, " ", index, ": its name is not UTF-8");
  return Status::ok();
}

Status Records::buffer(uint32_t i, Buffer* out) const {
  Cursor c(record(kBuffers, i));
  const uint32_t kind = c.u32(), flags = c.u32();
  if (kind > 3) return bad_program("buffer ", i, ": kind ", kind, " is not known");
  if (flags > 0xff) return bad_program("buffer ", i, ": flags ", flags, " are not known");
  out->kind = static_cast<BufferKind>(kind);
  out->flags = static_cast<uint8_t>(flags);
  out->bytes = c.u64();
  out->offset = c.u64();
  const uint32_t at = c.u32(), length = c.u32();
  out->block = c.i32();
  out->component = c.i32();
  if (c.u64() != 0) return bad_program("buffer ", i, ": a reserved field is not 0");
  std::string_view slice;
  ECAD_TRY(name(at, length, "buffer", i, &slice));
  out->name_data = slice.data();
  out->name_length = static_cast<uint8_t>(slice.size());
  return Status::ok();
}

Status Records::tensor(uint32_t i, Tensor* out) const {
  Cursor c(record(kTensors, i));
  out->buffer = c.u32();
  const uint32_t dtype = c.u32();
  out->rank = c.u32();
  if (c.u32() != 0) return bad_program("tensor ", i, ": a reserved field is not 0");
  for (auto& d : out->dims) d = c.i64();
  for (auto& s : out->strides) s = c.i64();
  out->offset = c.u64();
  out->step_stride = c.i64();
  if (out->buffer >= count(kBuffers)) return bad_program("tensor ", i, ": buffer ", out->buffer, " does not exist, there are ", count(kBuffers));
  if (dtype > 6) return bad_program("tensor ", i, ": dtype ", dtype, " is not known");
  if (out->rank < 1 || out->rank > 4) return bad_program("tensor ", i, ": rank ", out->rank, " is outside 1..4");
  out->dtype = static_cast<DType>(dtype);
  return Status::ok();
}

uint32_t Records::first_arg(uint32_t op) const { return Cursor(record(kOps, op) + 8).u32(); }

uint32_t Records::stored_args(uint32_t op) const {
  Cursor c(record(kOps, op) + 12);
  const uint32_t inputs = c.u16();
  return inputs + c.u16();
}

Status Records::op(uint32_t i, Op* out) const {
  Cursor c(record(kOps, i));
  const uint32_t code = c.u32(), zero = c.u32(), first = c.u32();
  const uint32_t inputs = c.u16(), outputs = c.u16();
  out->block = c.i32();
  out->component = c.i32();
  const uint32_t at = c.u32(), length = c.u32();
  for (auto& a : out->attr) a = c.i32();
  for (auto& f : out->fattr) f = c.f64();
  if (zero != 0 || c.u64() != 0) return bad_program("op ", i, ": a reserved field is not 0");
  if (code < 1 || code > kLastOpcode) return bad_program("op ", i, ": opcode ", code, " is not known");
  out->code = static_cast<Opcode>(code);
  ECAD_TRY(name(at, length, "op", i, &out->name));
  if (out->block < -1 || out->component < -1) return bad_program("op ", i, ": block ", out->block, " or component ", out->component, " is below -1");
  for (double f : out->fattr) {
    if (!std::isfinite(f)) return bad_program("op ", i, ": a float attribute is not finite");
  }
  if (first > count(kArgs) || inputs + outputs > count(kArgs) - first) return bad_program("op ", i, ": ", inputs + outputs, " args run past the arg table");
  ECAD_TRY(args(i, first, inputs, &out->in));
  ECAD_TRY(args(i, first + inputs, outputs, &out->out));
  fill_operands(out);
  out->section = 0;
  out->flops = out->bytes = 0;
  return Status::ok();
}

Status Records::args(uint32_t op, uint32_t first, uint32_t n, std::vector<uint32_t>* out) const {
  out->clear();
  out->reserve(n);
  for (uint32_t k = 0; k < n; ++k) {
    const uint32_t tensor = Cursor(record(kArgs, first + k)).u32();
    if (tensor != kNoTensor && tensor >= count(kTensors)) return bad_program("op ", op, ": tensor ", tensor, " does not exist, there are ", count(kTensors));
    out->push_back(tensor);
  }
  return Status::ok();
}

Status Records::section(uint32_t i, Section* out) const {
  Cursor c(record(kSections, i));
  out->kind = c.u32();
  out->first_op = c.u32();
  out->num_ops = c.u32();
  const uint32_t at = c.u32(), length = c.u32();
  if (c.u32() != 0 || c.u64() != 0) return bad_program("section ", i, ": a reserved field is not 0");
  if (out->kind > 2) return bad_program("section ", i, ": kind ", out->kind, " is not known");
  return name(at, length, "section", i, &out->name);
}

Status Records::io(uint32_t i, Io* out) const {
  Cursor c(record(kIos, i));
  const uint32_t at = c.u32(), length = c.u32();
  out->tensor = c.u32();
  const uint32_t direction = c.u32();
  if (length == 0 || length > kMaxIoName) return bad_program("io ", i, ": a name of ", length, " bytes is outside 1..", kMaxIoName);
  ECAD_TRY(name(at, length, "io", i, &out->name));
  if (out->name.find('\0') != std::string_view::npos) return bad_program("io ", i, ": its name holds a zero byte");
  if (direction < 1 || direction > 3) return bad_program("io ", i, " \"", out->name, "\": direction ", direction, " is not known");
  if (out->tensor >= count(kTensors)) return bad_program("io ", i, " \"", out->name, "\": tensor ", out->tensor, " does not exist");
  out->direction = static_cast<int32_t>(direction);
  return Status::ok();
}

Status Records::schedule(uint32_t i, ScheduleRange* out) const {
  Cursor c(record(kSchedules, i));
  out->first_item = c.u32();
  out->num_items = c.u32();
  const uint32_t at = c.u32(), length = c.u32();
  return name(at, length, "schedule", i, &out->name);
}

RunItem Records::item(uint32_t i) const {
  Cursor c(record(kItems, i));
  const uint32_t section = c.u32();
  return {section, c.u32()};
}

}  // namespace ecad
