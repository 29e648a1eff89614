/*
 * Checks in protected mode that memory below 1 MiB and the ports of a PC have what kernels older than ACPI expect. Exits
 * with 0, or with the number of the first check that failed.
 */
#include "flat.h"

#define CHECK(number) mov $(number), %cl; jne failed

    .code32
    cmpw $639, 0x413      /* conventional memory in KiB, and the segment after it */
    CHECK(1)
    cmpw $0x9fc0, 0x40e
    CHECK(2)
    cmpw $0x3f8, 0x400    /* COM1 */
    CHECK(3)
    cmpw $0x3d4, 0x463    /* the display's controller */
    CHECK(4)

    /* The MP table's pointer and the table: signatures and checksums. */
    mov $0xf0000, %esi
    cmpl $0x5f504d5f, (%esi)
    CHECK(5)
    mov $16, %edx
    call sum
    CHECK(6)
    mov 4(%esi), %esi
    cmpl $0x504d4350, (%esi)
    CHECK(7)
    movzwl 4(%esi), %edx
    call sum
    CHECK(8)

    /* The cursor and the text memory can be read back. */
    mov $0x3d4, %edx
    mov $0x0e, %al
    out %al, %dx
    inc %edx
    mov $0x07, %al
    out %al, %dx
    in %dx, %al
    cmp $0x07, %al
    CHECK(9)
    movw $0x0741, 0xb8000
    cmpw $0x0741, 0xb8000
    CHECK(10)

    /* The clock's memory: 640 KiB, no diskette. */
    mov $0x15, %al
    call cmos
    cmp $0x80, %al
    CHECK(11)
    mov $0x10, %al
    call cmos
    cmp $0, %al
    CHECK(12)
    xor %ecx, %ecx
failed:
    mov %cl, %al
    out %al, $EXIT_PORT
9:  hlt
    jmp 9b

/* Sets ZF if the EDX bytes at ESI add up to zero. */
sum:
    xor %al, %al
1:  add -1(%esi,%edx), %al
    dec %edx
    jnz 1b
    test %al, %al
    ret

/* Reads a byte of the clock's memory. */
cmos:
    out %al, $0x70
    in $0x71, %al
    ret
