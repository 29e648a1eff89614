/*
 * A flat real-mode binary: checks the state that `flat:...,mode=16` specifies, prints a line, and exits with code 16.
 */
#include "flat.h"

    .code16
    mov %cr0, %eax
    test $1, %al
    jnz wrong
    mov %cs, %ax
    test %ax, %ax
    jnz wrong
    mov $0x5aa5, %ax
    push %ax              /* there is a stack */
    pop %bx
    cmp %ax, %bx
    jne wrong
    call 1f               /* the code is at its address */
1:  pop %si
    cmp $(1b - flat_begin + 0x7c00), %si
    jne wrong
    add $(message - 1b), %si
    call say
    END_WITH(16)
wrong:
    END_WITH(WRONG_MODE)
SAY(say, %si)
message:
    .asciz "flat16: real mode, CS base 0, stack set\n"
