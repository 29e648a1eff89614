/*
 * A bzImage (Linux x86 boot protocol 2.15): a boot sector with the setup header, a short real-mode
 * setup code, and the image as protected-mode kernel with its 32-bit entry at 0 and its 64-bit entry at 0x200.
 *
 * A loader that enters at the 64- or 32-bit entry never runs the setup code. A loader that starts in real mode
 * (QEMU's firmware) does, and the setup code makes the zero page with the BIOS's memory map.
 */
#include "layout.h"

#define BOOT_PROTOCOL_VERSION 0x020f
#define LOADED_HIGH 0x01
#define XLF_KERNEL_64 0x01
#define COMMAND_LINE_LIMIT 2047

#define HEADER_OFFSET 0x1f1
#define E820_COUNT 0x1e8
#define E820_TABLE 0x2d0
#define E820_ENTRY_SIZE 20
#define E820_LIMIT 128
#define SMAP 0x534d4150
/* The zero page is in the setup code's own segment, after the code. */
#define ZERO_PAGE 0x1000

    .section .setup, "awx"
    .code16
setup:
    .ascii "This is a guest image of Viridian; it needs a boot loader."
    .org HEADER_OFFSET
    .byte 1               /* setup_sects, not counting the boot sector */
    .word 0
    .long bzimage_paragraphs
    .word 0, 0, 0
    .word 0xaa55
    .byte 0xeb, header_end - (1f) /* jump */
1:  .ascii "HdrS"
    .word BOOT_PROTOCOL_VERSION
    .long 0
    .word 0, 0
    .byte 0, LOADED_HIGH
    .word 0
    .long image_begin     /* code32_start */
    .long 0, 0            /* ramdisk */
    .long 0
    .word 0
    .byte 0, 0
    .long 0               /* cmd_line_ptr */
    .long 0x7fffffff      /* initrd_addr_max */
    .long 0x1000          /* kernel_alignment */
    .byte 0, 12           /* not relocatable; min_alignment */
    .word XLF_KERNEL_64
    .long COMMAND_LINE_LIMIT
    .long 0
    .quad 0
    .long 0, 0            /* no payload inside */
    .quad 0
    .quad image_begin     /* pref_address */
    .long bzimage_init_size
    .long 0, 0
header_end:

/* Real mode, DS = the segment of `setup`. Labels are used as offsets from it, for CS differs by 0x20. */
    cli
    mov %ds, %ax
    mov %ax, %es
    mov %ax, %ss
    mov $0xfff0, %sp
    cld
    mov $ZERO_PAGE, %di
    xor %ax, %ax
    mov $0x800, %cx
    rep stosw
    mov $HEADER_OFFSET, %si
    mov $(ZERO_PAGE + HEADER_OFFSET), %di
    mov $(header_end - setup - HEADER_OFFSET), %cx
    rep movsb

    sti
    xor %ebx, %ebx
    mov $(ZERO_PAGE + E820_TABLE), %di
1:  mov $0xe820, %eax
    mov $E820_ENTRY_SIZE, %ecx
    mov $SMAP, %edx
    int $0x15
    jc 2f
    add $E820_ENTRY_SIZE, %di
    incb (ZERO_PAGE + E820_COUNT)
    cmpb $E820_LIMIT, (ZERO_PAGE + E820_COUNT)
    je 2f
    test %ebx, %ebx
    jnz 1b
2:  cli
    xor %esi, %esi
    mov %ds, %si
    shl $4, %esi
    lea (setup_gdt - setup)(%esi), %eax
    mov %eax, (setup_gdt_pointer - setup + 2)
    add $ZERO_PAGE, %esi
    lgdtl (setup_gdt_pointer - setup)
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    mov $0x18, %ax        /* the boot protocol's __BOOT_DS */
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    ljmpl $0x10, $bzimage_start32

    .balign 8
setup_gdt:
    .quad 0, 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
setup_gdt_pointer:
    .word . - setup_gdt - 1
    .long 0
    .org 0x400

    .section .start, "ax"
    .code32
bzimage_start32:
    mov $BOOT_LINUX32 | BOOT_CLEAR_BSS, %eax
    mov %esi, %ebx
    jmp start32
    .org 0x200
    .code64
    mov $BOOT_LINUX64 | BOOT_CLEAR_BSS, %edi
    jmp start64
