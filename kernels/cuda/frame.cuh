// Device side of frame.h: where operands are, and what a kernel tells the host.
#pragma once
#include "frame.h"
#include "ptx.cuh"

namespace ecad::cuda {

// An operand's address at this step.
template <class T>
ECAD_DEVICE T* resolve(const Frame* frame, const Ref& ref) {
  const uint64_t base = ref.entry < 0 ? 0 : ptx::ld_global<uint64_t>(reinterpret_cast<const uint64_t*>(&frame->entries[0]) + ref.entry);
  const int64_t step = ref.step_bytes == 0 ? 0 : static_cast<int64_t>(ptx::ld_global<int32_t>(&frame->step)) * ref.step_bytes;
  return reinterpret_cast<T*>(base + static_cast<uint64_t>(ref.offset + step));
}

ECAD_DEVICE uint64_t* breadcrumb_of(const Frame* frame) {
  return reinterpret_cast<uint64_t*>(ptx::ld_global<uint64_t>(reinterpret_cast<const uint64_t*>(&frame->breadcrumb)));
}

// First thing in every kernel: leaves the op and step where the host finds them when the device has failed.
ECAD_DEVICE void enter(const Head& head) {
  if (ptx::thread_id() != 0 || ptx::block_x() != 0 || ptx::block_y() != 0 || ptx::block_z() != 0) return;
  const uint64_t step = static_cast<uint32_t>(ptx::ld_global<int32_t>(&head.frame->step));
  ptx::st_system(breadcrumb_of(head.frame), step << 32 | head.op);
}

// Reports data that the op cannot work on; the host sees it when it next waits. The kernel goes on with something harmless.
ECAD_DEVICE void fault(const Head& head, Fault kind, int32_t value) {
  ptx::st_system(breadcrumb_of(head.frame) + 2, static_cast<uint64_t>(ptx::ld_global<int32_t>(&head.frame->step)));
  ptx::st_system(breadcrumb_of(head.frame) + 1, static_cast<uint64_t>(kind) << 56 | static_cast<uint64_t>(head.op) << 32 | static_cast<uint32_t>(value));
}

}  // namespace ecad::cuda
