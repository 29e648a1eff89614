/*
 * The first code of a further processor: copied to TRAMPOLINE_ADDRESS, entered by SIPI in real mode, it
 * switches to protected mode and continues as on the boot processor. smp.c sets the processor in `smp_starting`.
 */
#include "layout.h"

#define RELOCATED(label) (TRAMPOLINE_ADDRESS + (label) - trampoline_begin)

    .section .rodata.trampoline, "a"
    .code16
    .globl trampoline_begin, trampoline_end
trampoline_begin:
    cli
    mov %cs, %ax
    mov %ax, %ds
    lgdtl (trampoline_gdt_pointer - trampoline_begin)
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $SELECTOR_CODE32, $RELOCATED(1f)

    .code32
1:  mov $SELECTOR_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $BOOT_SECONDARY, %eax
    mov $start32, %edx
    jmp *%edx

trampoline_gdt_pointer:
    .word 31
    .long start_gdt
trampoline_end:
