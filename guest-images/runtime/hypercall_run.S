/*
 * hypercall_run64 and hypercall_run32: load every register from a struct hypercall_registers, call the hypercall page, and
 * store them again. They run under catch_fault, which restores the stack after a fault.
 */
#include "layout.h"

#define XMM 128

    .macro save
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    push %rdi
    movups XMM(%rdi), %xmm0
    movups XMM+16(%rdi), %xmm1
    movups XMM+32(%rdi), %xmm2
    movups XMM+48(%rdi), %xmm3
    movups XMM+64(%rdi), %xmm4
    movups XMM+80(%rdi), %xmm5
    .endm

    .macro restore
    movups %xmm0, XMM(%rdi)
    movups %xmm1, XMM+16(%rdi)
    movups %xmm2, XMM+32(%rdi)
    movups %xmm3, XMM+48(%rdi)
    movups %xmm4, XMM+64(%rdi)
    movups %xmm5, XMM+80(%rdi)
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
    .endm

    .section .text.hypercall_run, "ax"
    .globl hypercall_run64, hypercall_run32
hypercall_run64:
    save
    mov (%rdi), %rax
    mov 8(%rdi), %rbx
    mov 16(%rdi), %rcx
    mov 24(%rdi), %rdx
    mov 32(%rdi), %rsi
    mov 48(%rdi), %rbp
    mov 56(%rdi), %r8
    mov 64(%rdi), %r9
    mov 72(%rdi), %r10
    mov 80(%rdi), %r11
    mov 88(%rdi), %r12
    mov 96(%rdi), %r13
    mov 104(%rdi), %r14
    mov 112(%rdi), %r15
    mov 40(%rdi), %rdi
    call *hypercall_entry
    xchg %rdi, (%rsp)
    mov %rax, (%rdi)
    mov %rbx, 8(%rdi)
    mov %rcx, 16(%rdi)
    mov %rdx, 24(%rdi)
    mov %rsi, 32(%rdi)
    mov %rbp, 48(%rdi)
    mov %r8, 56(%rdi)
    mov %r9, 64(%rdi)
    mov %r10, 72(%rdi)
    mov %r11, 80(%rdi)
    mov %r12, 88(%rdi)
    mov %r13, 96(%rdi)
    mov %r14, 104(%rdi)
    mov %r15, 112(%rdi)
    pop 40(%rdi)
    restore

hypercall_run32:
    save
    pushq $SELECTOR_CODE32
    pushq $1f
    lretq
    .code32
1:  mov (%edi), %eax
    mov 8(%edi), %ebx
    mov 16(%edi), %ecx
    mov 24(%edi), %edx
    mov 32(%edi), %esi
    mov 48(%edi), %ebp
    mov 40(%edi), %edi
    call *hypercall_entry
    xchg %edi, (%esp)
    mov %eax, (%edi)
    mov %ebx, 8(%edi)
    mov %ecx, 16(%edi)
    mov %edx, 24(%edi)
    mov %esi, 32(%edi)
    mov %ebp, 48(%edi)
    mov (%esp), %eax
    mov %eax, 40(%edi)
    ljmp $SELECTOR_CODE64, $2f
    .code64
2:  mov %edi, %edi
    add $8, %rsp
    restore
