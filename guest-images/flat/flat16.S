/*
 * A flat real-mode binary: checks that it runs as `flat:...,mode=16` promises, says so, and ends with code 16.
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
    call 1f               /* and it is where the code says it is */
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
