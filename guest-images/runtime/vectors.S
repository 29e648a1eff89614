/*
 * The 256 interrupt entry points of 16 bytes each, which call the dispatcher and return from the interrupt.
 */
#define STUB_SIZE 16

    .text
    .balign STUB_SIZE
    .globl interrupt_stubs
interrupt_stubs:
    .set vector, 0
    .rept 256
    .balign STUB_SIZE
    /* Vectors for which the processor pushes an error code. For the others, the stub pushes a zero. */
    .if !((vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30))
    pushq $0
    .endif
    pushq $vector
    jmp interrupt_common
    .set vector, vector + 1
    .endr

interrupt_common:
    push %rax
    push %rbx
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %rbp
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    cld
    mov %rsp, %rdi
    call interrupt_dispatch
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rbp
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rbx
    pop %rax
    add $16, %rsp
    iretq
