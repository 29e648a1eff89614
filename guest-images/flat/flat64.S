/*
 * A flat long-mode binary: checks the state that `flat:...,mode=64` specifies, prints a line, and exits with code 64.
 */
#include "flat.h"

#define MSR_EFER 0xc0000080
#define EFER_LONG_MODE_ACTIVE 0x400

    .code64
    mov $MSR_EFER, %ecx
    rdmsr
    test $EFER_LONG_MODE_ACTIVE, %eax
    jz wrong
    push %rcx             /* there is a stack */
    pop %rdx
    cmp %rcx, %rdx
    jne wrong
    lea (%rip), %rsi      /* memory is identity-mapped, up to the last page below 4 GiB */
1:  mov $0xfffff000, %eax
    mov (%rax), %eax
    add $(message - 1b), %rsi
    call say
    END_WITH(64)
wrong:
    END_WITH(WRONG_MODE)
SAY(say, %rsi)
message:
    .asciz "flat64: long mode, 4 GiB mapped, stack set\n"
