/*
 * catch_fault: stores the position of its stack in this processor's `recovery`, so that fault.c can return here.
 */
#include "layout.h"

    .text
    .globl catch_fault, catch_fault_landing
catch_fault:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    sub $8, %rsp
    push %rdx                    /* recovery[1]: the struct fault */
    pushq %gs:CPU_RECOVERY       /* recovery[0]: the enclosing catch_fault's */
    mov %rsp, %gs:CPU_RECOVERY
    mov %rdi, %rax
    mov %rsi, %rdi
    call *%rax
    xor %eax, %eax
1:  popq %gs:CPU_RECOVERY
    add $16, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
catch_fault_landing:
    cld
    mov $1, %eax
    jmp 1b
