/*
 * Exceptions that a test expects, in single instructions or in whole functions. They are reported and do not end the image.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "interrupts.h"

#define NO_FAULT (-1)

/*
 * Registers an instruction that may fault, and the address at which to continue if it does. The vector is then in ESI, so
 * the statement needs a "+S" operand that is initialized to NO_FAULT.
 */
#define MAY_FAULT(instruction, landing)                                                                                \
    ".pushsection .fixups, \"a\"; .long " instruction ", " landing "; .popsection\n"

/* Reads an MSR; returns NO_FAULT or the exception's vector. */
static inline int rdmsr_safe(uint32_t msr, uint64_t *value)
{
    uint32_t low = 0, high = 0;
    int vector = NO_FAULT;
    asm volatile("1: rdmsr\n2:\n" MAY_FAULT("1b", "2b") : "+S"(vector), "+a"(low), "+d"(high) : "c"(msr) : "memory");
    *value = (uint64_t)high << 32 | low;
    return vector;
}

/* Writes an MSR; returns NO_FAULT or the exception's vector. */
static inline int wrmsr_safe(uint32_t msr, uint64_t value)
{
    int vector = NO_FAULT;
    asm volatile("1: wrmsr\n2:\n" MAY_FAULT("1b", "2b")
                 : "+S"(vector)
                 : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                 : "memory");
    return vector;
}

/* Reads memory that may not be mapped; returns NO_FAULT or the exception's vector. */
static inline int read64_safe(uint64_t address, uint64_t *value)
{
    int vector = NO_FAULT;
    uint64_t read = 0;
    asm volatile("1: mov %2, %1\n2:\n" MAY_FAULT("1b", "2b")
                 : "+S"(vector), "+r"(read)
                 : "m"(*(volatile uint64_t *)address)
                 : "memory");
    *value = read;
    return vector;
}

/* Writes memory that may not be mapped or not writable; returns NO_FAULT or the exception's vector. */
static inline int write64_safe(uint64_t address, uint64_t value)
{
    int vector = NO_FAULT;
    asm volatile("1: mov %1, (%2)\n2:\n" MAY_FAULT("1b", "2b") : "+S"(vector) : "r"(value), "r"(address) : "memory");
    return vector;
}

struct fault {
    uint64_t vector, error_code, rip, address;
};

/* Calls function(argument). Returns true if an exception ended it, and describes that in `fault`. Calls may be nested. */
bool catch_fault(void (*function)(void *argument), void *argument, struct fault *fault);

/* For the dispatcher: makes execution continue after an expected exception. Returns false if it is unexpected. */
bool fault_recover(struct interrupt_frame *frame);
