/*
 * Multiboot 1: a header in the first 8 KiB, a 32-bit entry point, EBX points to the multiboot information.
 * Used directly for an ELF file, and by multiboot_addresses.S for a plain binary, whose header must have its addresses.
 */
#include "layout.h"

#define MULTIBOOT_MAGIC 0x1badb002
#define PAGE_ALIGN_MODULES 0x1
#define WANT_MEMORY_MAP 0x2
#define HAS_ADDRESSES 0x10000

#ifdef MULTIBOOT_ADDRESSES
#define FLAGS (PAGE_ALIGN_MODULES | WANT_MEMORY_MAP | HAS_ADDRESSES)
#else
#define FLAGS (PAGE_ALIGN_MODULES | WANT_MEMORY_MAP)
#endif

    .section .start, "ax"
    .balign 4
multiboot_header:
    .long MULTIBOOT_MAGIC, FLAGS, -(MULTIBOOT_MAGIC + FLAGS)
#ifdef MULTIBOOT_ADDRESSES
    .long multiboot_header, image_begin, data_end, bss_end, multiboot_start
#endif

    .code32
    .globl multiboot_start
multiboot_start:
    mov $BOOT_MULTIBOOT, %eax
    jmp start32
