/*
 * PVH (the x86/HVM direct boot ABI): an ELF note names a 32-bit entry point, EBX points to hvm_start_info.
 */
#include "layout.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18

    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 8, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_start

    .section .start, "ax"
    .code32
    .globl pvh_start
pvh_start:
    mov $BOOT_PVH, %eax
    jmp start32
