// The C functions about programs: checking, loading, and what they tell of themselves.
#include "api.h"
#include "decode.h"

namespace {

using ecad::Status;
using ecad::text;
using namespace ecad::api;

Status describe_program(const ecad::Program& p, ecad_program_info* inout) {
  ecad_program_info info{};
  info.num_ops = static_cast<uint32_t>(p.ops.size());
  info.num_sections = static_cast<uint32_t>(p.sections.size());
  info.num_schedules = static_cast<uint32_t>(p.schedules.size());
  info.num_steps = p.num_steps;
  info.num_ios = static_cast<uint32_t>(p.ios.size());
  info.arena_bytes = p.arena_bytes;
  for (const uint32_t b : p.persistent) {
    info.persistent_bytes += p.buffers[b].bytes;
    if (p.buffers[b].flags & 1u) info.slot_bytes += p.buffers[b].bytes;
  }
  info.constant_bytes = p.constants.size();
  std::copy(p.layout_hash.begin(), p.layout_hash.end(), info.layout_hash);
  return write_struct(info, "program info", inout);
}

Status query_program(const ecad_program* program, ecad_program_info* inout) {
  if (program == nullptr || inout == nullptr) return invalid("program query: an argument is NULL");
  return describe_program(program->impl->program(), inout);
}

Status load_program(ecad_device* device, ecad_weights* weights, const void* bytes, size_t nbytes, ecad_program** out) {
  if (out == nullptr) return invalid("program: out is NULL");
  *out = nullptr;
  if (device == nullptr || bytes == nullptr) return invalid("program: an argument is NULL");
  if (weights != nullptr && weights->impl->device() != device->impl) return invalid("program: the weights belong to another device");
  if (device->impl->on_thread()) return invalid("program: an on_item callback cannot load a program on its own device");
  auto handle = std::make_unique<ecad_program>();
  ECAD_TRY(ecad::LoadedProgram::load(device->impl, weights != nullptr ? weights->impl : nullptr, static_cast<const uint8_t*>(bytes), nbytes, &handle->impl));
  *out = handle.release();
  return Status::ok();
}

Status query_io(const ecad_program* program, uint32_t index, ecad_io_info* inout) {
  if (program == nullptr || inout == nullptr) return invalid("program io: an argument is NULL");
  const ecad::Program& p = program->impl->program();
  if (index >= p.ios.size()) return invalid(text("program io: ", index, " does not exist, there are ", p.ios.size()));
  const ecad::Io& io = p.ios[index];
  const ecad::Tensor& t = p.tensors[io.tensor];
  ecad_io_info info{};
  info.dtype = static_cast<int32_t>(t.dtype);
  info.rank = static_cast<int32_t>(t.rank);
  info.direction = io.direction;
  std::copy(t.dims.begin(), t.dims.end(), info.dims);
  info.nbytes = p.buffers[t.buffer].bytes;
  put_line(io.name, info.name, sizeof info.name);
  return write_struct(info, "io info", inout);
}

Status query_op(const ecad_program* program, uint32_t index, ecad_op_info* inout) {
  if (program == nullptr || inout == nullptr) return invalid("program op: an argument is NULL");
  const ecad::Program& p = program->impl->program();
  if (index >= p.ops.size()) return invalid(text("program op: ", index, " does not exist, there are ", p.ops.size()));
  const ecad::Op& op = p.ops[index];
  ecad_op_info info{};
  info.opcode = static_cast<int32_t>(op.code);
  info.block = op.block;
  info.component = op.component;
  info.section = static_cast<int32_t>(op.section);
  info.flops = op.flops;
  info.bytes = op.bytes;
  put_line(op.name, info.name, sizeof info.name);
  return write_struct(info, "op info", inout);
}

Status query_section(const ecad_program* program, uint32_t index, ecad_section_info* inout) {
  if (program == nullptr || inout == nullptr) return invalid("program section: an argument is NULL");
  const auto& sections = program->impl->program().sections;
  if (index >= sections.size()) return invalid(text("program section: ", index, " does not exist, there are ", sections.size()));
  ecad_section_info info{};
  info.kind = sections[index].kind;
  info.first_op = sections[index].first_op;
  info.num_ops = sections[index].num_ops;
  put_line(sections[index].name, info.name, sizeof info.name);
  return write_struct(info, "section info", inout);
}

Status describe_schedule(const ecad_program* program, uint32_t index, ecad_schedule_info* inout) {
  if (program == nullptr || inout == nullptr) return invalid("program schedule: an argument is NULL");
  const ecad::Program& p = program->impl->program();
  if (index >= p.schedules.size()) return invalid(text("program schedule: ", index, " does not exist, there are ", p.schedules.size()));
  ecad_schedule_info info{};
  info.num_items = static_cast<uint32_t>(p.schedules[index].items.size());
  for (const ecad::RunItem& item : p.schedules[index].items) {
    const ecad::Section& s = p.sections[item.section];
    info.num_op_times += s.num_ops;
    for (uint32_t op = s.first_op; op < s.first_op + s.num_ops; ++op) info.flops += p.ops[op].flops;
  }
  put_line(p.schedules[index].name, info.name, sizeof info.name);
  return write_struct(info, "schedule info", inout);
}

Status query_schedule(const ecad_program* program, uint32_t index, ecad_run_item* items, size_t cap, size_t* count) {
  if (program == nullptr || count == nullptr || (items == nullptr && cap > 0)) return invalid("program schedule: an argument is NULL");
  const auto& schedules = program->impl->program().schedules;
  if (index >= schedules.size()) return invalid(text("program schedule: ", index, " does not exist, there are ", schedules.size()));
  const auto& from = schedules[index].items;
  for (size_t i = 0; i < std::min(cap, from.size()); ++i) items[i] = {from[i].section, from[i].step};
  *count = from.size();
  return Status::ok();
}

}  // namespace

extern "C" {

ecad_status ecad_program_check(const void* bytes, size_t nbytes, ecad_error* err) {
  return guarded(err, [&] {
    if (bytes == nullptr) return invalid("program: bytes is NULL");
    ecad::Program program;
    return ecad::check_program(static_cast<const uint8_t*>(bytes), nbytes, &program);
  });
}

ecad_status ecad_program_inspect(const void* bytes, size_t nbytes, ecad_program_info* inout, ecad_error* err) {
  return guarded(err, [&] {
    if (bytes == nullptr || inout == nullptr) return invalid("program inspect: an argument is NULL");
    ecad::Program program;
    ECAD_TRY(ecad::decode_program(static_cast<const uint8_t*>(bytes), nbytes, &program));
    return describe_program(program, inout);
  });
}

ecad_status ecad_program_load(ecad_device* device, ecad_weights* weights, const void* bytes, size_t nbytes, ecad_program** out, ecad_error* err) {
  return guarded(err, [&] { return load_program(device, weights, bytes, nbytes, out); });
}

ecad_status ecad_program_open(ecad_device* device, ecad_weights* weights, const char* path, ecad_program** out, ecad_error* err) {
  return guarded(err, [&] {
    if (out == nullptr) return invalid("program: out is NULL");
    *out = nullptr;
    if (path == nullptr) return invalid("program: path is NULL");
    ecad::MappedFile file;
    ECAD_TRY(file.open(path, "program", ECAD_BAD_PROGRAM));
    const Status status = load_program(device, weights, file.data(), file.size(), out);
    if (status.is_ok()) return status;
    return Status(status.code(), text(path, ": ", status.message())).at_op(status.op()).with_device_code(status.device_code());
  });
}

ecad_status ecad_program_query(const ecad_program* program, ecad_program_info* inout, ecad_error* err) {
  return guarded(err, [&] { return query_program(program, inout); });
}

ecad_status ecad_program_io(const ecad_program* program, uint32_t index, ecad_io_info* inout, ecad_error* err) {
  return guarded(err, [&] { return query_io(program, index, inout); });
}

ecad_status ecad_program_op(const ecad_program* program, uint32_t index, ecad_op_info* inout, ecad_error* err) {
  return guarded(err, [&] { return query_op(program, index, inout); });
}

ecad_status ecad_program_section(const ecad_program* program, uint32_t index, ecad_section_info* inout, ecad_error* err) {
  return guarded(err, [&] { return query_section(program, index, inout); });
}

ecad_status ecad_program_schedule_query(const ecad_program* program, uint32_t index, ecad_schedule_info* inout, ecad_error* err) {
  return guarded(err, [&] { return describe_schedule(program, index, inout); });
}

ecad_status ecad_program_schedule(const ecad_program* program, uint32_t index, ecad_run_item* items, size_t cap, size_t* count, ecad_error* err) {
  return guarded(err, [&] { return query_schedule(program, index, items, cap, count); });
}

void ecad_program_release(ecad_program* program) { delete program; }

}  // extern "C"
