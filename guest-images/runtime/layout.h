/*
 * Constants that assembly and C share: boot protocols, selectors, and fixed addresses.
 */
#pragma once

/* The boot protocol. The start-up stub passes it in EDI, and boot_info.c reads what the loader passed. */
#define BOOT_SECONDARY 0 /* not a boot protocol: a processor that the image itself started */
#define BOOT_PVH 1
#define BOOT_LINUX64 2
#define BOOT_LINUX32 3
#define BOOT_MULTIBOOT 4
#define BOOT_FLAT16 5
#define BOOT_FLAT32 6
#define BOOT_FLAT64 7
#define BOOT_PROTOCOL_MASK 0xff
/* Set by stubs of formats that cannot describe zeroed memory after the file: the image must clear its own .bss. */
#define BOOT_CLEAR_BSS 0x100

/* The start address of further processors: a page of conventional memory that is free once the loader's data was copied. */
#define TRAMPOLINE_ADDRESS 0x8000

#define BOOT_STACK_SIZE 0x4000

/* Segment selectors; the start-up GDT has the first three, each processor's own GDT has all. */
#define SELECTOR_CODE64 0x08
#define SELECTOR_DATA 0x10
#define SELECTOR_CODE32 0x18
#define SELECTOR_USER_DATA 0x23
#define SELECTOR_USER_CODE64 0x2b
#define SELECTOR_TASK 0x30

/* Offsets in `struct cpu` that assembly uses; smp.h asserts them. */
#define CPU_STACK_TOP 8
#define CPU_RECOVERY 16
