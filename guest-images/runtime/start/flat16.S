/*
 * A plain binary that starts at its first byte in real mode with CS base 0.
 */
#include "layout.h"

    .section .start, "ax"
    .code16
    .globl flat_start
flat_start:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl start_gdt_pointer
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $SELECTOR_CODE32, $1f

    .code32
1:  mov $SELECTOR_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $BOOT_FLAT16 | BOOT_CLEAR_BSS, %eax
    jmp start32
