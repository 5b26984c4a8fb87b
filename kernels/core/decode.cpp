#include "decode.h"

#include <cmath>
#include <cstring>

#include "crc32c.h"
#include "sha256.h"
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

struct Table {
  const char* what;
  uint32_t count;
  uint32_t record_bytes;
  uint32_t limit;
  uint64_t at = 0;
};

enum TableId { kBuffers, kTensors, kArgs, kOps, kSections, kIos, kSchedules, kItems, kTables };

class Decoder {
 public:
  Decoder(const uint8_t* bytes, size_t nbytes, Program* program) : bytes_(bytes), nbytes_(nbytes), program_(*program) {}

  Status run() {
    ECAD_TRY(header());
    ECAD_TRY(layout());
    if (crc32c(bytes_ + kHeaderBytes, nbytes_ - kHeaderBytes) != crc_) return bad_program("checksum differs: the bytes are damaged");
    ECAD_TRY(buffers());
    ECAD_TRY(tensors());
    ECAD_TRY(ops());
    ECAD_TRY(sections());
    ECAD_TRY(ios());
    ECAD_TRY(schedules());
    program_.constants.assign(bytes_ + constants_at_, bytes_ + nbytes_);
    return layout_hash();
  }

 private:
  Status header() {
    if (nbytes_ < kHeaderBytes) return bad_program(nbytes_, " bytes are too few for a header of ", kHeaderBytes);
    if (std::memcmp(bytes_, "ECADPROG", 8) != 0) return bad_program("does not start with ECADPROG: not an ecadx program");
    Cursor c(bytes_ + 8);
    const uint32_t major = c.u32(), minor = c.u32();
    if (major != 1 || minor > 0) return bad_program("format version ", major, ".", minor, " is not known, this library reads 1.0: compile the program again");
    const uint64_t file_bytes = c.u64();
    if (file_bytes != nbytes_) return bad_program("says it has ", file_bytes, " bytes but there are ", nbytes_, ": cut short or followed by something");
    std::memcpy(program_.layout_hash.data(), bytes_ + 24, 32);
    c = Cursor(bytes_ + 56);
    program_.num_steps = c.u32();
    for (Table& t : tables_) t.count = c.u32();
    crc_ = c.u32();
    string_bytes_ = c.u64();
    constant_bytes_ = c.u64();
    program_.arena_bytes = c.u64();
    if (c.u64() != 0) return bad_program("a reserved header field is not 0");
    if (program_.num_steps == 0 || program_.num_steps > 0x7fffffffu) return bad_program("step count ", program_.num_steps, " is outside 1..2^31-1");
    if (program_.arena_bytes > kMaxBytes) return bad_program("arena of ", program_.arena_bytes, " bytes is over 2^48");
    return Status::ok();
  }

  // Places the tables, and checks that they and nothing else fill the file.
  Status layout() {
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

  Status pad(uint64_t* at, uint64_t align) {
    for (; *at % align != 0; ++*at) {
      if (*at >= nbytes_) return bad_program("ends inside padding");
      if (bytes_[*at] != 0) return bad_program("padding at byte ", *at, " is not 0");
    }
    if (*at > nbytes_) return bad_program("ends before its tables do");
    return Status::ok();
  }

  const uint8_t* record(TableId t, uint32_t i) const { return bytes_ + tables_[t].at + uint64_t{i} * tables_[t].record_bytes; }

  Status name(uint32_t at, uint32_t length, const char* what, uint32_t index, std::string* out) {
    if (length > kMaxName) return bad_program(what, " ", index, ": a name of ", length, " bytes is over ", kMaxName);
    if (uint64_t{at} + length > string_bytes_) return bad_program(what, " ", index, ": its name lies outside the strings");
    name_bytes_ += length;
    if (name_bytes_ > nbytes_) return bad_program("names are longer than the whole file");
    const std::string_view slice(reinterpret_cast<const char*>(bytes_ + strings_at_ + at), length);
    if (!is_utf8(slice)) return bad_program(what, " ", index, ": its name is not UTF-8");
    out->assign(slice);
    return Status::ok();
  }

  Status buffers() {
    program_.buffers.reserve(tables_[kBuffers].count);
    for (uint32_t i = 0; i < tables_[kBuffers].count; ++i) {
      Cursor c(record(kBuffers, i));
      Buffer b;
      const uint32_t kind = c.u32();
      if (kind > 3) return bad_program("buffer ", i, ": kind ", kind, " is not known");
      b.kind = static_cast<BufferKind>(kind);
      b.flags = c.u32();
      b.bytes = c.u64();
      b.offset = c.u64();
      const uint32_t at = c.u32(), length = c.u32();
      b.block = c.i32();
      b.component = c.i32();
      if (c.u64() != 0) return bad_program("buffer ", i, ": a reserved field is not 0");
      ECAD_TRY(name(at, length, "buffer", i, &b.name));
      b.persistent_index = kNoTensor;
      if (b.kind == BufferKind::kPersistent) {
        b.persistent_index = static_cast<uint32_t>(program_.persistent.size());
        program_.persistent.push_back(i);
      }
      program_.buffers.push_back(std::move(b));
    }
    return Status::ok();
  }

  Status tensors() {
    program_.tensors.reserve(tables_[kTensors].count);
    for (uint32_t i = 0; i < tables_[kTensors].count; ++i) {
      Cursor c(record(kTensors, i));
      Tensor t;
      t.buffer = c.u32();
      const uint32_t dtype = c.u32();
      t.rank = c.u32();
      if (c.u32() != 0) return bad_program("tensor ", i, ": a reserved field is not 0");
      for (auto& d : t.dims) d = c.i64();
      for (auto& s : t.strides) s = c.i64();
      t.offset = c.u64();
      t.step_stride = c.i64();
      if (t.buffer >= program_.buffers.size()) return bad_program("tensor ", i, ": buffer ", t.buffer, " does not exist, there are ", program_.buffers.size());
      if (dtype > 6) return bad_program("tensor ", i, ": dtype ", dtype, " is not known");
      if (t.rank < 1 || t.rank > 4) return bad_program("tensor ", i, ": rank ", t.rank, " is outside 1..4");
      t.dtype = static_cast<DType>(dtype);
      program_.tensors.push_back(t);
    }
    return Status::ok();
  }

  Status ops() {
    program_.ops.reserve(tables_[kOps].count);
    uint32_t next_arg = 0;
    for (uint32_t i = 0; i < tables_[kOps].count; ++i) {
      Cursor c(record(kOps, i));
      Op op;
      const uint32_t code = c.u32(), zero = c.u32(), first = c.u32();
      const uint32_t inputs = c.u16(), outputs = c.u16();
      op.block = c.i32();
      op.component = c.i32();
      const uint32_t at = c.u32(), length = c.u32();
      for (auto& a : op.attr) a = c.i32();
      for (auto& f : op.fattr) f = c.f64();
      if (zero != 0 || c.u64() != 0) return bad_program("op ", i, ": a reserved field is not 0");
      if (code < 1 || code > kLastOpcode) return bad_program("op ", i, ": opcode ", code, " is not known");
      op.code = static_cast<Opcode>(code);
      ECAD_TRY(name(at, length, "op", i, &op.name));
      if (op.block < -1 || op.component < -1) return bad_program("op ", i, ": block ", op.block, " or component ", op.component, " is below -1");
      for (double f : op.fattr) {
        if (!std::isfinite(f)) return bad_program("op ", i, ": a float attribute is not finite");
      }
      if (first != next_arg) return bad_program("op ", i, ": its args start at ", first, ", those before it end at ", next_arg);
      if (inputs + outputs > tables_[kArgs].count - next_arg) return bad_program("op ", i, ": ", inputs + outputs, " args run past the arg table");
      ECAD_TRY(args(i, next_arg, inputs, &op.in));
      ECAD_TRY(args(i, next_arg + inputs, outputs, &op.out));
      next_arg += inputs + outputs;
      op.section = 0;
      op.flops = op.bytes = 0;
      program_.ops.push_back(std::move(op));
    }
    if (next_arg != tables_[kArgs].count) return bad_program("ops use ", next_arg, " args, the table has ", tables_[kArgs].count);
    return Status::ok();
  }

  Status args(uint32_t op, uint32_t first, uint32_t count, std::vector<uint32_t>* out) {
    out->reserve(count);
    for (uint32_t k = 0; k < count; ++k) {
      const uint32_t tensor = Cursor(record(kArgs, first + k)).u32();
      if (tensor != kNoTensor && tensor >= program_.tensors.size()) return bad_program("op ", op, ": tensor ", tensor, " does not exist, there are ", program_.tensors.size());
      out->push_back(tensor);
    }
    return Status::ok();
  }

  Status sections() {
    program_.sections.reserve(tables_[kSections].count);
    uint32_t next = 0;
    for (uint32_t i = 0; i < tables_[kSections].count; ++i) {
      Cursor c(record(kSections, i));
      Section s;
      s.kind = c.u32();
      s.first_op = c.u32();
      s.num_ops = c.u32();
      const uint32_t at = c.u32(), length = c.u32();
      if (c.u32() != 0 || c.u64() != 0) return bad_program("section ", i, ": a reserved field is not 0");
      if (s.kind > 2) return bad_program("section ", i, ": kind ", s.kind, " is not known");
      if (s.first_op != next || s.num_ops > program_.ops.size() - next) return bad_program("section ", i, ": ops ", s.first_op, "+", s.num_ops, " do not follow op ", next, " of ", program_.ops.size());
      ECAD_TRY(name(at, length, "section", i, &s.name));
      for (uint32_t k = 0; k < s.num_ops; ++k) program_.ops[next + k].section = i;
      next += s.num_ops;
      program_.sections.push_back(std::move(s));
    }
    if (next != program_.ops.size()) return bad_program("sections hold ", next, " ops, the program has ", program_.ops.size());
    return Status::ok();
  }

  Status ios() {
    program_.ios.reserve(tables_[kIos].count);
    for (uint32_t i = 0; i < tables_[kIos].count; ++i) {
      Cursor c(record(kIos, i));
      Io io;
      const uint32_t at = c.u32(), length = c.u32();
      io.tensor = c.u32();
      const uint32_t direction = c.u32();
      if (length == 0 || length > kMaxIoName) return bad_program("io ", i, ": a name of ", length, " bytes is outside 1..", kMaxIoName);
      ECAD_TRY(name(at, length, "io", i, &io.name));
      if (io.name.find('\0') != std::string::npos) return bad_program("io ", i, ": its name holds a zero byte");
      if (direction < 1 || direction > 3) return bad_program("io ", i, " \"", io.name, "\": direction ", direction, " is not known");
      if (io.tensor >= program_.tensors.size()) return bad_program("io ", i, " \"", io.name, "\": tensor ", io.tensor, " does not exist");
      io.direction = static_cast<int32_t>(direction);
      program_.ios.push_back(std::move(io));
    }
    return Status::ok();
  }

  Status schedules() {
    program_.schedules.reserve(tables_[kSchedules].count);
    uint32_t next = 0;
    const uint32_t total = tables_[kItems].count;
    for (uint32_t i = 0; i < tables_[kSchedules].count; ++i) {
      Cursor c(record(kSchedules, i));
      const uint32_t first = c.u32(), count = c.u32(), at = c.u32(), length = c.u32();
      Schedule s;
      ECAD_TRY(name(at, length, "schedule", i, &s.name));
      if (first != next || count > total - next) return bad_program("schedule ", i, ": items ", first, "+", count, " do not follow item ", next, " of ", total);
      s.items.reserve(count);
      for (uint32_t k = 0; k < count; ++k) {
        Cursor item(record(kItems, next + k));
        const uint32_t section = item.u32(), step = item.u32();
        s.items.push_back({section, step});
      }
      next += count;
      program_.schedules.push_back(std::move(s));
    }
    if (next != total) return bad_program("schedules hold ", next, " items, the table has ", total);
    return Status::ok();
  }

  Status layout_hash() {
    Sha256 hash;
    uint8_t head[12];
    for (int i = 0; i < 8; ++i) head[i] = static_cast<uint8_t>(program_.arena_bytes >> (8 * i));
    for (int i = 0; i < 4; ++i) head[8 + i] = static_cast<uint8_t>(program_.num_steps >> (8 * i));
    hash.update(head, sizeof head);
    for (const uint32_t index : program_.persistent) {
      uint8_t copy[48];
      std::memcpy(copy, record(kBuffers, index), sizeof copy);
      std::memset(copy + 24, 0, 4);  // where the name lies is no part of the layout; the name is
      hash.update(copy, sizeof copy);
      hash.update(program_.buffers[index].name.data(), program_.buffers[index].name.size());
    }
    if (hash.finish() != program_.layout_hash) return bad_program("layout hash does not fit arena, steps and persistent buffers");
    return Status::ok();
  }

  const uint8_t* bytes_;
  size_t nbytes_;
  Program& program_;
  Table tables_[kTables] = {{"buffers", 0, 48, 1u << 20},  {"tensors", 0, 96, 1u << 20}, {"args", 0, 4, 1u << 22},       {"ops", 0, 96, 1u << 20},
                            {"sections", 0, 32, 1u << 16}, {"ios", 0, 16, 1u << 16},     {"schedules", 0, 16, 1u << 16}, {"items", 0, 8, 1u << 20}};
  uint32_t crc_ = 0;
  uint64_t string_bytes_ = 0, constant_bytes_ = 0, strings_at_ = 0, constants_at_ = 0, name_bytes_ = 0;
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

Status decode_tables(const uint8_t* bytes, size_t nbytes, Program* out) {
  ECAD_TRY(Decoder(bytes, nbytes, out).run());
  for (Op& op : out->ops) fill_operands(&op);
  return Status::ok();
}

Status decode_program(const uint8_t* bytes, size_t nbytes, Program* out) {
  ECAD_TRY(decode_tables(bytes, nbytes, out));
  ECAD_TRY(validate_objects(*out));
  for (size_t i = 0; i < out->ops.size(); ++i) ECAD_TRY(validate_op(*out, i));
  ECAD_TRY(validate_memory(*out));
  count_work(out);
  return Status::ok();
}

}  // namespace ecad
