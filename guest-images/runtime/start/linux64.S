/*
 * The Linux 64-bit boot protocol as an ELF "vmlinux" has it: the entry point in long mode, RSI points to the zero page.
 */
#include "layout.h"

    .section .start, "ax"
    .code64
    .globl linux_start
linux_start:
    mov $BOOT_LINUX64, %edi
    jmp start64
