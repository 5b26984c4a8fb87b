// How kernels find their operands and say where they are.
//
// No kernel gets an address of an operand. It gets a Ref, and a Frame in device memory that the executor updates in stream order: the step
// index, and the table of buffer addresses. So a captured graph stays valid when a state is forked, a buffer is detached or the step moves on.
#pragma once
#include <cstdint>

namespace ecad::cuda {

// In pinned host memory. progress: op in the low half, step in the high half, of the kernel that began last. fault: 0, or what a kernel
// found wrong with its data (an id, a count): kind << 56 | op << 32 | the value's low 32 bits, and the step.
struct Breadcrumb {
  uint64_t progress;
  uint64_t fault;
  uint64_t fault_step;
};
enum class Fault : uint32_t { kNone = 0, kEmbeddingId = 1, kKeyCount = 2 };

// entries: for each persistent buffer the address before the section (2 i) and after it (2 i + 1), then addresses of tensor maps.
struct Frame {
  Breadcrumb* breadcrumb;
  int32_t step;
  int32_t pad;
  void* entries[1];  // as many as the program needs
};

// Where an operand lies: (entry < 0 ? offset : entries[entry] + offset) + step * step_bytes. Offsets are in bytes.
struct Ref {
  int64_t offset;
  int64_t step_bytes;
  int32_t entry;
  int32_t pad;
};
inline Ref fixed_ref(const void* address) { return {reinterpret_cast<int64_t>(address), 0, -1, 0}; }

// First member of every kernel's parameters.
struct Head {
  const Frame* frame;
  uint32_t op;  // index in the program
  uint32_t pad;
};

}  // namespace ecad::cuda
