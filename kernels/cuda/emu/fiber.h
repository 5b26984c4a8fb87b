// Cooperative threads of execution on stacks of their own, switched by hand: what the emulator runs CUDA threads on.
#pragma once
#include <cstddef>

namespace ecad::cuda::emu {

// A suspended or running flow. The zero state is the flow of the thread that calls switch_fiber first.
struct Fiber {
  void* sp = nullptr;        // saved stack pointer (or ucontext_t*)
  void** fake_stack = nullptr;  // where AddressSanitizer's is kept while another flow runs
  char* stack = nullptr;     // lowest byte; null: the caller's own stack
  size_t stack_bytes = 0;
  bool abandoned = false;    // was left in the middle: its frames are still poisoned
};

// Gives the fiber a stack (kept for the process) and lets its next switch call entry(), which must not return.
void start_fiber(Fiber*, size_t index, void (*entry)());
void switch_fiber(Fiber* from, Fiber* to);
[[noreturn]] void leave_fiber(Fiber* from, Fiber* to);  // from never runs again, unless started anew
void enter_fiber();                                     // first call in an entry function

}  // namespace ecad::cuda::emu
