/*
 * Page tables that identity-map the first 4 GiB with 2 MiB pages, written by the assembler:
 * filling 2,048 entries at run time would take half of the instructions of a small image.
 */
#define TABLE 0x07    /* present, writable, user; the leaf entry restricts access */
#define LARGE 0x83    /* present, writable, 2 MiB */
#define UNCACHED 0x18 /* PWT, PCD */
#define LARGE_PAGE 0x200000
#define FIRST_DEVICE_PAGE 0xfec00000 /* IOAPIC, local APIC and firmware are above this address */

    .section .data.page_tables, "aw"
    .balign 4096
    .globl page_tables
page_tables:
    .quad directory_pointers + TABLE
    .fill 511, 8, 0
directory_pointers:
    .quad directories + TABLE
    .quad directories + 0x1000 + TABLE
    .quad directories + 0x2000 + TABLE
    .quad directories + 0x3000 + TABLE
    .fill 508, 8, 0
directories:
    .set address, 0
    .rept 2048
    .if address < FIRST_DEVICE_PAGE
    .quad address + LARGE
    .else
    .quad address + LARGE + UNCACHED
    .endif
    .set address, address + LARGE_PAGE
    .endr
