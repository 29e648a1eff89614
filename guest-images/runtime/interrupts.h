/*
 * The IDT, and the handlers of vectors.
 *
 * Unexpected exceptions end the image with a dump and EXIT_UNEXPECTED_EXCEPTION. So do interrupts without a
 * handler, spurious ones excepted.
 */
#pragma once

#include <stdint.h>

#define VECTOR_DIVIDE 0
#define VECTOR_NMI 2
#define VECTOR_BREAKPOINT 3
#define VECTOR_INVALID_OPCODE 6
#define VECTOR_DOUBLE_FAULT 8
#define VECTOR_GENERAL_PROTECTION 13
#define VECTOR_PAGE_FAULT 14
#define VECTOR_MACHINE_CHECK 18
#define FIRST_INTERRUPT_VECTOR 32
#define VECTOR_COUNT 256

/* Vectors that the runtime uses itself. Images may use 0x30 to 0xef. */
#define VECTOR_WAKE 0xf0
#define VECTOR_SPURIOUS 0xff

/* The stack when vectors.S calls the dispatcher. */
struct interrupt_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    uint64_t vector, error_code;
    uint64_t rip, cs, rflags, rsp, ss;
};

/* Runs with interrupts disabled, and ends the interrupt itself (apic_end_of_interrupt) unless it is AutoEOI. Must not print. */
typedef void interrupt_handler(struct interrupt_frame *frame);

void interrupts_initialize(void);
/* Makes this processor use the IDT. */
void interrupts_load(void);
/* Sets or, with NULL, removes the handler of a vector, exceptions included. */
void interrupt_set_handler(uint8_t vector, interrupt_handler *handler);
