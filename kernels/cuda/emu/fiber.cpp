#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace ecad::cuda::emu {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = 256 << 10;  // redzones make frames several times larger
#else
constexpr size_t kStackBytes = 64 << 10;
#endif
constexpr size_t kPage = 4096;

struct Stack {
  char* lowest;
  void* fake = nullptr;  // AddressSanitizer's: making one costs far more than a switch
};

// Stacks are mapped once, with an unreachable page below each, and reused by index.
Stack* stack_of(size_t index) {
  static std::deque<Stack> stacks;
  while (stacks.size() <= index) {
    void* p = mmap(nullptr, kStackBytes + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(p, kPage, PROT_NONE) != 0) {
      std::fprintf(stderr, "emulator: no memory for the stacks of a block's threads\n");
      std::abort();
    }
    stacks.push_back({static_cast<char*>(p) + kPage});
  }
  return &stacks[index];
}

Fiber *from_fiber = nullptr, *to_fiber = nullptr;  // of the switch under way

}  // namespace

#if defined(__x86_64__)
// Saves what the System V ABI calls preserved, swaps stack pointers, restores. The vector unit's control words are the same everywhere.
extern "C" void ecad_emu_swap(void** save, void* load);
asm(R"(
.text
.globl ecad_emu_swap
.hidden ecad_emu_swap
.type ecad_emu_swap, @function
ecad_emu_swap:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size ecad_emu_swap, .-ecad_emu_swap
)");

namespace {
void prepare(Fiber* f, size_t, void (*entry)()) {
  auto top = reinterpret_cast<uintptr_t>(f->stack + f->stack_bytes) & ~uintptr_t{15};
  void** sp = reinterpret_cast<void**>(top) - 2;  // on entry the stack is 8 bytes off a multiple of 16, as after a call
  *sp = reinterpret_cast<void*>(entry);
  sp -= 6;
  for (int i = 0; i < 6; ++i) sp[i] = nullptr;
  f->sp = sp;
}
void swap(Fiber* from, Fiber* to) { ecad_emu_swap(&from->sp, to->sp); }
}  // namespace
#else
namespace {
ucontext_t* context_of(size_t index) {  // 0: the caller's
  static std::vector<ucontext_t*> all;
  while (all.size() <= index) all.push_back(new ucontext_t());
  return all[index];
}
void prepare(Fiber* f, size_t index, void (*entry)()) {
  ucontext_t* c = context_of(index + 1);
  getcontext(c);
  c->uc_stack.ss_sp = f->stack;
  c->uc_stack.ss_size = f->stack_bytes;
  c->uc_link = nullptr;
  makecontext(c, entry, 0);
  f->sp = c;
}
void swap(Fiber* from, Fiber* to) {
  if (!from->sp) from->sp = context_of(0);
  swapcontext(static_cast<ucontext_t*>(from->sp), static_cast<ucontext_t*>(to->sp));
}
}  // namespace
#endif

void start_fiber(Fiber* f, size_t index, void (*entry)()) {
  Stack* stack = stack_of(index);
  f->stack = stack->lowest;
  f->stack_bytes = kStackBytes;
  f->fake_stack = &stack->fake;
#if defined(__SANITIZE_ADDRESS__)
  if (f->abandoned) __asan_unpoison_memory_region(f->stack, f->stack_bytes);
#endif
  f->abandoned = false;
  prepare(f, index, entry);
}

void enter_fiber() {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(*to_fiber->fake_stack, &bottom, &bytes);
  if (from_fiber && !from_fiber->stack) {  // the first switch tells the caller's stack
    from_fiber->stack = static_cast<char*>(const_cast<void*>(bottom));
    from_fiber->stack_bytes = bytes;
  }
#endif
}

void switch_fiber(Fiber* from, Fiber* to) {
  from_fiber = from;
  to_fiber = to;
#if defined(__SANITIZE_ADDRESS__)
  static void* fake_of_caller = nullptr;
  if (from->fake_stack == nullptr) from->fake_stack = &fake_of_caller;
  __sanitizer_start_switch_fiber(from->fake_stack, to->stack, to->stack_bytes);
#endif
  swap(from, to);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(*from->fake_stack, nullptr, nullptr);
#endif
}

void leave_fiber(Fiber* from, Fiber* to) {
  from_fiber = from;
  to_fiber = to;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(from->fake_stack, to->stack, to->stack_bytes);  // kept for the next that starts on this stack
#endif
  swap(from, to);
  std::abort();  // nothing switches back to a flow that was left
}

}  // namespace ecad::cuda::emu
