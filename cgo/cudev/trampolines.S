//go:build cuda && linux && amd64

// One trampoline per driver function. The first call asks ecad_driver_resolve for the address and keeps it; two threads that ask at once get and keep
// the same. Arguments stay where the caller put them: integer registers and xmm0-7 are saved around the question, the stack is as it was.

#define ECAD_SYMBOL(name)                                   \
  .pushsection .data.rel.ecad_driver,"aw",@progbits;        \
  .balign 8;                                                \
  .Lslot_##name: .quad 0;                                   \
  .popsection;                                              \
  .pushsection .text;                                       \
  .balign 16;                                               \
  .globl name;                                              \
  .hidden name;                                             \
  .type name, @function;                                    \
  name:                                                     \
  movq .Lslot_##name(%rip), %rax;                           \
  testq %rax, %rax;                                         \
  jz 1f;                                                    \
  jmpq *%rax;                                               \
  1:                                                        \
  movl $((.Lslot_##name - ecad_driver_slots) / 8), %eax;    \
  jmp ecad_driver_first_call;                               \
  .size name, . - name;                                     \
  .popsection;

  .pushsection .data.rel.ecad_driver,"aw",@progbits
  .balign 8
ecad_driver_slots:
  .popsection

#include "symbols.inc"

  .text
  .balign 16
  .type ecad_driver_first_call, @function
ecad_driver_first_call:          // eax: index; rsp is 8 below a multiple of 16
  .cfi_startproc
  pushq %rdi
  .cfi_adjust_cfa_offset 8
  pushq %rsi
  .cfi_adjust_cfa_offset 8
  pushq %rdx
  .cfi_adjust_cfa_offset 8
  pushq %rcx
  .cfi_adjust_cfa_offset 8
  pushq %r8
  .cfi_adjust_cfa_offset 8
  pushq %r9
  .cfi_adjust_cfa_offset 8
  subq $152, %rsp                // xmm0-7, the index, and what makes it a multiple of 16
  .cfi_adjust_cfa_offset 152
  movups %xmm0, 0(%rsp)
  movups %xmm1, 16(%rsp)
  movups %xmm2, 32(%rsp)
  movups %xmm3, 48(%rsp)
  movups %xmm4, 64(%rsp)
  movups %xmm5, 80(%rsp)
  movups %xmm6, 96(%rsp)
  movups %xmm7, 112(%rsp)
  movl %eax, 128(%rsp)
  movl %eax, %edi
  call ecad_driver_resolve@PLT
  movl 128(%rsp), %ecx
  leaq ecad_driver_slots(%rip), %rdx
  movq %rax, (%rdx,%rcx,8)
  movups 0(%rsp), %xmm0
  movups 16(%rsp), %xmm1
  movups 32(%rsp), %xmm2
  movups 48(%rsp), %xmm3
  movups 64(%rsp), %xmm4
  movups 80(%rsp), %xmm5
  movups 96(%rsp), %xmm6
  movups 112(%rsp), %xmm7
  addq $152, %rsp
  .cfi_adjust_cfa_offset -152
  popq %r9
  .cfi_adjust_cfa_offset -8
  popq %r8
  .cfi_adjust_cfa_offset -8
  popq %rcx
  .cfi_adjust_cfa_offset -8
  popq %rdx
  .cfi_adjust_cfa_offset -8
  popq %rsi
  .cfi_adjust_cfa_offset -8
  popq %rdi
  .cfi_adjust_cfa_offset -8
  jmpq *%rax
  .cfi_endproc
  .size ecad_driver_first_call, . - ecad_driver_first_call

  .section .note.GNU-stack,"",@progbits
