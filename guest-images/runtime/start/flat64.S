/*
 * A plain binary that starts at its first byte in long mode.
 */
#include "layout.h"

    .section .start, "ax"
    .code64
    .globl flat_start
flat_start:
    mov $BOOT_FLAT64 | BOOT_CLEAR_BSS, %edi
    jmp start64
