/*
 * A plain binary that starts at its first byte in flat 32-bit protected mode.
 */
#include "layout.h"

    .section .start, "ax"
    .code32
    .globl flat_start
flat_start:
    mov $BOOT_FLAT32 | BOOT_CLEAR_BSS, %eax
    jmp start32
