/*
 * Checks in protected mode that the PICs and the interval timer are in the state in which a PC's firmware leaves them, and
 * that writing a count is enough to get an interrupt. Loaded at 0x100000. Exits with 0, or with the number of the first
 * check that failed.
 */
#include "flat.h"

#define BASE 0x100000
#define AT(label) (BASE + (label) - flat_begin)
#define CHECK(number) mov $(number), %cl; jne failed
#define OUT(port, value) mov $(value), %al; out %al, $(port)

    .code32
    in $0x21, %al         /* everything except the second PIC is masked */
    cmp $0xfb, %al
    CHECK(1)
    in $0xa1, %al
    cmp $0xff, %al
    CHECK(2)
    OUT(0x43, 0xe2)       /* the first channel's status: two bytes, mode 2, binary */
    in $0x40, %al
    and $0x3f, %al
    cmp $0x34, %al
    CHECK(3)
    OUT(0x43, 0x00)       /* the counter must change */
    in $0x40, %al
    mov %al, %bl
    in $0x40, %al
    mov %al, %bh
    mov $1000000, %edx
1:  OUT(0x43, 0x00)
    in $0x40, %al
    mov %al, %cl
    in $0x40, %al
    mov %al, %ch
    cmp %bx, %cx
    jne 2f
    dec %edx
    jnz 1b
    test %edx, %edx
    sete %al
    cmp $0, %al
    CHECK(4)

2:  lgdtl AT(gdt_pointer)
    ljmp $0x08, $AT(3f)
3:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %ss
    movl $AT(wrong), %eax
    mov $AT(idt), %edi
    mov $33, %ecx
4:  movw %ax, (%edi)
    movl $0x00080000, %edx
    movw %dx, 4(%edi)
    movw $0x08, 2(%edi)
    movw $0x8e00, 4(%edi)
    movl %eax, %edx
    shr $16, %edx
    movw %dx, 6(%edi)
    add $8, %edi
    dec %ecx
    jnz 4b
    movl $AT(tick), %eax
    movw %ax, AT(idt) + 32 * 8
    shr $16, %eax
    movw %ax, AT(idt) + 32 * 8 + 6
    lidtl AT(idt_pointer)
    OUT(0x20, 0x11)       /* the PICs' vectors start at 0x20 and 0x28, and only IRQ 0 is enabled */
    OUT(0x21, 0x20)
    OUT(0x21, 4)
    OUT(0x21, 1)
    OUT(0xa0, 0x11)
    OUT(0xa1, 0x28)
    OUT(0xa1, 2)
    OUT(0xa1, 1)
    OUT(0xa1, 0xff)
    OUT(0x21, 0xfe)
    OUT(0x40, 0xa9)       /* a count of 1 ms, without setting a mode first */
    OUT(0x40, 0x04)
    sti
5:  hlt
    jmp 5b
tick:
    END_WITH(0)
wrong:
    mov $9, %cl
failed:
    mov %cl, %al
    out %al, $EXIT_PORT
9:  hlt
    jmp 9b

    .balign 8
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
    .word 23
    .long AT(gdt)
idt_pointer:
    .word 33 * 8 - 1
    .long AT(idt)
    .balign 8
idt:
    .skip 33 * 8
