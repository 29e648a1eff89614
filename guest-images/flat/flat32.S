/*
 * A flat protected-mode binary: checks the state that `flat:...,mode=32` specifies, prints a line, and exits with code 32.
 */
#include "flat.h"

    .code32
    mov %cr0, %eax
    test $1, %al
    jz wrong
    test %eax, %eax       /* paging is off */
    js wrong
    call 1f
1:  pop %esi              /* there is a stack, and segments are flat: code is read through DS */
    cmpb $0x5e, %cs:(%esi)
    jne wrong
    cmpb $0x5e, (%esi)
    jne wrong
    add $(message - 1b), %esi
    call say
    END_WITH(32)
wrong:
    END_WITH(WRONG_MODE)
SAY(say, %esi)
message:
    .asciz "flat32: protected mode, paging off, stack set\n"
