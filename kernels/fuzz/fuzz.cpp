#include "fuzz.h"

namespace fuzz {

bool small(ecad_program* program) {
  constexpr uint64_t kMostBytes = 1 << 18, kMostWork = 1 << 21;
  ecad_program_info info{};
  info.struct_size = sizeof info;
  promise(ecad_program_query(program, &info, nullptr) == ECAD_OK, "a loaded program can be queried");
  if (info.arena_bytes > kMostBytes || info.persistent_bytes > kMostBytes || info.num_ops > 256 || info.num_schedules > 16) return false;
  uint64_t work = 0;
  for (uint32_t i = 0; i < info.num_ops; ++i) {
    ecad_op_info op{};
    op.struct_size = sizeof op;
    promise(ecad_program_op(program, i, &op, nullptr) == ECAD_OK, "every op can be queried");
    if (op.flops > kMostWork || op.bytes > kMostWork) return false;
    work += op.flops + op.bytes;
  }
  for (uint32_t i = 0; i < info.num_schedules; ++i) {
    size_t count = 0;
    promise(ecad_program_schedule(program, i, nullptr, 0, &count, nullptr) == ECAD_OK, "every schedule can be queried");
    if (count > 64) return false;
  }
  return work <= kMostWork / 16;
}

}  // namespace fuzz
