// Program bytes to a Program (kernels/PROGRAM.md). Bytes are untrusted: they are checked completely where they lie before a program is made
// of them, and what the checks allocate is at most as large as the bytes (tests: kernels/tests/hostile.cpp).
#pragma once
#include "program.h"
#include "records.h"
#include "status.h"

namespace ecad {

// Buffers and tensors (of the program), ios and schedules (of the records).
Status validate_objects(const Program&, const Records&);
// An op's operands and attributes by its opcode's rule.
Status validate_op(const Program&, size_t index, const Op&);
// Which bytes ops read and write: aliasing, whole writes, live ranges.
Status validate_memory(const Program&, const Records&);

// Checks everything. What *out then holds is only part of a program: buffers and tensors, whose names view the caller's bytes.
Status check_program(const uint8_t* bytes, size_t nbytes, Program* out);
// Checks, then makes the program; fills in flops and bytes. *out keeps nothing of the caller's bytes.
Status decode_program(const uint8_t* bytes, size_t nbytes, Program* out);

// Flops (a multiply-add counts 2) and operand bytes, each saturating at 2^64-1. A weight counts as 4 bytes per element until its stored
// dtype is known (program_load corrects it).
void count_work(Program*);
uint64_t op_bytes(const Program&, const Op&, const uint32_t* weight_element_bytes);

}  // namespace ecad
