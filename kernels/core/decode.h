// Program bytes to a Program (kernels/PROGRAM.md). Bytes are untrusted: everything is checked before it is used, and memory stays
// within a small multiple of the bytes given.
#pragma once
#include "program.h"
#include "status.h"

namespace ecad {

// Header, tables, names, checksum, layout hash: what a program is by its form. Tensors and ops may still be nonsense.
Status decode_tables(const uint8_t* bytes, size_t nbytes, Program* out);

// Buffers, tensors, ios, schedules.
Status validate_objects(const Program&);
// Every op's operands and attributes by its opcode's rule.
Status validate_op(const Program&, size_t op);
// Which bytes ops read and write: aliasing, whole writes, live ranges.
Status validate_memory(const Program&);

// All of the above; fills in flops and bytes.
Status decode_program(const uint8_t* bytes, size_t nbytes, Program* out);

// Flops (a multiply-add counts 2) and operand bytes, each saturating at 2^64-1. A weight counts as 4 bytes per element until its stored
// dtype is known (program_load corrects it).
void count_work(Program*);
uint64_t op_bytes(const Program&, const Op&, const uint32_t* weight_element_bytes);

}  // namespace ecad
