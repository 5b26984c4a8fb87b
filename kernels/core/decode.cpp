#include "decode.h"

#include <cstring>

#include "sha256.h"
#include "text.h"

namespace ecad {
namespace {

// The part of a program that checks look things up in.
Status read_objects(const Records& records, Program* out) {
  out->num_steps = records.num_steps();
  out->arena_bytes = records.arena_bytes();
  std::memcpy(out->layout_hash.data(), records.layout_hash(), out->layout_hash.size());
  out->buffers.resize(records.count(kBuffers));
  uint32_t persistent = 0;
  for (uint32_t i = 0; i < out->buffers.size(); ++i) {
    Buffer& b = out->buffers[i];
    ECAD_TRY(records.buffer(i, &b));
    b.persistent_index = b.kind == BufferKind::kPersistent ? persistent++ : kNoTensor;
  }
  out->tensors.resize(records.count(kTensors));
  for (uint32_t i = 0; i < out->tensors.size(); ++i) ECAD_TRY(records.tensor(i, &out->tensors[i]));
  return Status::ok();
}

// Adds up the names, which may share bytes: all of them together are no longer than the file.
class NameBytes {
 public:
  explicit NameBytes(uint64_t most) : most_(most) {}
  Status add(std::string_view name) {
    total_ += name.size();
    return total_ <= most_ ? Status::ok() : bad_program("names are longer than the whole file");
  }

 private:
  uint64_t most_, total_ = 0;
};

Status check_ops(const Records& records, NameBytes* names) {
  uint32_t next = 0;
  Op op;
  for (uint32_t i = 0; i < records.count(kOps); ++i) {
    if (records.first_arg(i) != next) return bad_program("op ", i, ": its args start at ", records.first_arg(i), ", those before it end at ", next);
    ECAD_TRY(records.op(i, &op));
    ECAD_TRY(names->add(op.name));
    next += records.stored_args(i);
  }
  if (next != records.count(kArgs)) return bad_program("ops use ", next, " args, the table has ", records.count(kArgs));
  return Status::ok();
}

Status check_sections(const Records& records, NameBytes* names) {
  uint32_t next = 0;
  const uint32_t ops = records.count(kOps);
  for (uint32_t i = 0; i < records.count(kSections); ++i) {
    Section s;
    ECAD_TRY(records.section(i, &s));
    ECAD_TRY(names->add(s.name));
    if (s.first_op != next || s.num_ops > ops - next) return bad_program("section ", i, ": ops ", s.first_op, "+", s.num_ops, " do not follow op ", next, " of ", ops);
    next += s.num_ops;
  }
  if (next != ops) return bad_program("sections hold ", next, " ops, the program has ", ops);
  return Status::ok();
}

Status check_schedules(const Records& records, NameBytes* names) {
  uint32_t next = 0;
  const uint32_t items = records.count(kItems);
  for (uint32_t i = 0; i < records.count(kSchedules); ++i) {
    ScheduleRange s;
    ECAD_TRY(records.schedule(i, &s));
    ECAD_TRY(names->add(s.name));
    if (s.first_item != next || s.num_items > items - next) return bad_program("schedule ", i, ": items ", s.first_item, "+", s.num_items, " do not follow item ", next, " of ", items);
    next += s.num_items;
  }
  if (next != items) return bad_program("schedules hold ", next, " items, the table has ", items);
  return Status::ok();
}

Status check_form(const Program& p, const Records& records, uint64_t nbytes) {
  NameBytes names(nbytes);
  for (const Buffer& b : p.buffers) ECAD_TRY(names.add(b.name()));
  ECAD_TRY(check_ops(records, &names));
  ECAD_TRY(check_sections(records, &names));
  for (uint32_t i = 0; i < records.count(kIos); ++i) {
    Io io;
    ECAD_TRY(records.io(i, &io));
    ECAD_TRY(names.add(io.name));
  }
  return check_schedules(records, &names);
}

Status check_layout_hash(const Program& p, const Records& records) {
  Sha256 hash;
  uint8_t head[12];
  for (int i = 0; i < 8; ++i) head[i] = static_cast<uint8_t>(p.arena_bytes >> (8 * i));
  for (int i = 0; i < 4; ++i) head[8 + i] = static_cast<uint8_t>(p.num_steps >> (8 * i));
  hash.update(head, sizeof head);
  for (uint32_t i = 0; i < p.buffers.size(); ++i) {
    if (p.buffers[i].kind != BufferKind::kPersistent) continue;
    uint8_t copy[48];
    std::memcpy(copy, records.record(kBuffers, i), sizeof copy);
    std::memset(copy + 24, 0, 4);  // where the name lies is no part of the layout; the name is
    hash.update(copy, sizeof copy);
    hash.update(p.buffers[i].name().data(), p.buffers[i].name().size());
  }
  if (hash.finish() != p.layout_hash) return bad_program("layout hash does not fit arena, steps and persistent buffers");
  return Status::ok();
}

Status check(const Records& records, uint64_t nbytes, Program* p) {
  ECAD_TRY(read_objects(records, p));
  ECAD_TRY(check_form(*p, records, nbytes));
  ECAD_TRY(check_layout_hash(*p, records));
  ECAD_TRY(validate_objects(*p, records));
  Op op;
  uint32_t minor = 0;
  for (uint32_t i = 0; i < records.count(kOps); ++i) {
    ECAD_TRY(records.op(i, &op));
    ECAD_TRY(validate_op(*p, i, op));
    if (op.code == Opcode::kQkNormRope) minor = 1;
  }
  if (records.minor_version() != minor) return bad_program("says version 1.", records.minor_version(), ", its ops are of 1.", minor);
  return validate_memory(*p, records);
}

// Makes the rest of a program that passed every check, with names of its own.
Status keep(const Records& records, Program* p) {
  const std::string_view from = records.strings();
  p->strings.assign(from.begin(), from.end());
  const auto own = [&](std::string_view name) { return std::string_view(p->strings.data() + (name.data() - from.data()), name.size()); };
  for (uint32_t i = 0; i < p->buffers.size(); ++i) {
    Buffer& b = p->buffers[i];
    b.name_data = own(b.name()).data();
    if (b.kind == BufferKind::kPersistent) p->persistent.push_back(i);
  }
  p->ops.resize(records.count(kOps));
  for (uint32_t i = 0; i < p->ops.size(); ++i) {
    ECAD_TRY(records.op(i, &p->ops[i]));
    p->ops[i].name = own(p->ops[i].name);
  }
  p->sections.resize(records.count(kSections));
  for (uint32_t i = 0; i < p->sections.size(); ++i) {
    Section& s = p->sections[i];
    ECAD_TRY(records.section(i, &s));
    s.name = own(s.name);
    for (uint32_t op = s.first_op; op < s.first_op + s.num_ops; ++op) p->ops[op].section = i;
  }
  p->ios.resize(records.count(kIos));
  for (uint32_t i = 0; i < p->ios.size(); ++i) {
    ECAD_TRY(records.io(i, &p->ios[i]));
    p->ios[i].name = own(p->ios[i].name);
  }
  p->schedules.resize(records.count(kSchedules));
  for (uint32_t i = 0; i < p->schedules.size(); ++i) {
    ScheduleRange range;
    ECAD_TRY(records.schedule(i, &range));
    p->schedules[i].name = own(range.name);
    p->schedules[i].items.reserve(range.num_items);
    for (uint32_t k = 0; k < range.num_items; ++k) p->schedules[i].items.push_back(records.item(range.first_item + k));
  }
  p->constants.assign(records.constants(), records.constants() + records.constant_bytes());
  return Status::ok();
}

}  // namespace

Status check_program(const uint8_t* bytes, size_t nbytes, Program* out) {
  Records records;
  ECAD_TRY(records.open(bytes, nbytes));
  return check(records, nbytes, out);
}

Status decode_program(const uint8_t* bytes, size_t nbytes, Program* out) {
  Records records;
  ECAD_TRY(records.open(bytes, nbytes));
  ECAD_TRY(check(records, nbytes, out));
  ECAD_TRY(keep(records, out));
  count_work(out);
  return Status::ok();
}

}  // namespace ecad
