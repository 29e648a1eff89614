/*
 * Start-up code that all boot protocols share: from 32-bit protected mode to long mode to C.
 *
 *   start32: paging off, flat segments, EAX = BOOT_..., EBX = what the loader left
 *   start64: long mode, our code identity-mapped, EDI = BOOT_..., RSI = what the loader left
 *
 * Nothing else of the loader's state is used: stack, GDT and page tables are the image's own from here on.
 */
#include "layout.h"

#define CR0_VALUE 0x80010033 /* PG, WP, NE, ET, MP, PE */
#define CR4_BITS 0x620       /* PAE; OSFXSR and OSXMMEXCPT, so that XMM registers can be moved */
#define MSR_EFER 0xc0000080
#define EFER_LONG_MODE 0x100

    .section .start, "ax"
    .code32
    .globl start32
start32:
    cli
    cld
    mov %eax, %edi
    mov %ebx, %esi
    lgdtl start_gdt_pointer
    mov %cr4, %eax
    or $CR4_BITS, %eax
    mov %eax, %cr4
    mov $page_tables, %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_LONG_MODE, %eax
    wrmsr
    mov $CR0_VALUE, %eax
    mov %eax, %cr0
    ljmpl $SELECTOR_CODE64, $start64

    .code64
    .globl start64
start64:
    cli
    cld
    lgdt start_gdt_pointer
    mov %cr4, %rax
    or $CR4_BITS, %rax
    mov %rax, %cr4
    mov $page_tables, %eax
    mov %rax, %cr3
    mov $CR0_VALUE, %eax
    mov %rax, %cr0
    mov $SELECTOR_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    xor %ebp, %ebp
    test %edi, %edi
    jz secondary

    mov $boot_stack + BOOT_STACK_SIZE, %esp
    test $BOOT_CLEAR_BSS, %edi
    jz 1f
    mov %edi, %edx
    mov $bss_begin, %edi
    mov $bss_end, %ecx
    sub %edi, %ecx
    shr $3, %ecx
    rep stosq
    mov %edx, %edi
1:  and $BOOT_PROTOCOL_MASK, %edi
    pushq $SELECTOR_CODE64
    pushq $runtime_start
    lretq

secondary:
    mov smp_starting, %rdi
    mov CPU_STACK_TOP(%rdi), %rsp
    call smp_secondary_start
    ud2

    .balign 8
    .globl start_gdt
start_gdt:
    .quad 0
    .quad 0x00af9b000000ffff /* SELECTOR_CODE64 */
    .quad 0x00cf93000000ffff /* SELECTOR_DATA */
    .quad 0x00cf9b000000ffff /* SELECTOR_CODE32 */
start_gdt_end:
    .globl start_gdt_pointer
start_gdt_pointer:
    .word start_gdt_end - start_gdt - 1
    .quad start_gdt

    .section .noinit, "aw", @nobits
    .balign 16
    .globl boot_stack
boot_stack:
    .skip BOOT_STACK_SIZE
