/*
 * A boot sector in real mode: uses BIOS calls and the BIOS data area. Prints a line by interrupt 0x10 and exits with 0, or
 * with the number of the first check that failed.
 */
#include "flat.h"

#define CHECK(number) mov $(number), %cl; jne failed

    .code16
    call 1f
1:  pop %si
    add $(message - 1b), %si
    cld
say:
    lodsb
    test %al, %al
    jz words
    mov $0x0e, %ah
    xor %bx, %bx
    int $0x10
    jmp say
words:
    int $0x11
    cmp $0x0222, %ax      /* coprocessor, colour display, one serial port */
    CHECK(1)
    int $0x12
    cmp $639, %ax
    CHECK(2)
    mov $0x0201, %ax      /* read a sector: there is no disk */
    clc
    int $0x13
    sbb %bx, %bx
    cmp $-1, %bx
    CHECK(3)
    cmp $0x86, %ah
    CHECK(4)
    mov $1, %ah           /* the status of the keyboard */
    int $0x16
    CHECK(5)
    xor %ah, %ah          /* the number of timer ticks */
    int $0x1a
    cmp 0x46c, %dx
    CHECK(6)
    cmpw $0x9fc0, 0x40e   /* the extended data area, and its size in KiB */
    CHECK(7)
    mov $0x9fc0, %ax
    mov %ax, %es
    cmpb $1, %es:0
    CHECK(8)
    /* A tick, in the way of the interval timer's interrupt. */
    mov 0x46c, %bx
    inc %bx
    int $0x08
    cmp 0x46c, %bx
    CHECK(9)
    int $0x19             /* there is no disk to boot from, so this resets the machine */
    mov $10, %cl
failed:
    mov %cl, %al
    out %al, $EXIT_PORT
9:  hlt
    jmp 9b
message:
    .asciz "bios16: printed by interrupt 0x10\r\n"
