/*
 * Processors: their own state, the start of further processors, and running functions on them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"

#define CPUS_MAX 64

typedef void cpu_function(void *argument);

struct cpu {
    struct cpu *self; /* GS base points here, so this_cpu() is one load */
    void *stack_top;
    uint64_t *recovery; /* of catch_fault, or NULL */
    unsigned index;     /* 0 is the boot processor; the others follow in the MADT's order */
    uint32_t apic_id;   /* as the MADT has it */
    bool online;
    /* Work to do, set by smp_run and cleared when done. */
    cpu_function *function;
    void *argument;
    /* Whether the processor has begun that work. */
    bool begun;
    /* Number of wake-up interrupts that it has handled, now and before it last got work. */
    unsigned woken, woken_before;
    uint64_t gdt[8];
    uint32_t task_state[26];
};
_Static_assert(offsetof(struct cpu, stack_top) == CPU_STACK_TOP, "assembly relies on it");
_Static_assert(offsetof(struct cpu, recovery) == CPU_RECOVERY, "assembly relies on it");

extern struct cpu cpus[CPUS_MAX];
/* Number of running processors: 1 until smp_start_all. Processors with index i < cpu_count run. */
extern unsigned cpu_count;

static inline struct cpu *this_cpu(void)
{
    struct cpu *cpu;
    asm volatile("mov %%gs:0, %0" : "=r"(cpu));
    return cpu;
}

/* Sets up the boot processor's own structures, but not its APIC. */
void smp_initialize(void);
/* Starts every enabled processor of the MADT. Returns the number of running processors, including this one. */
unsigned smp_start_all(void);
/* Starts function(argument) on another processor, which must be idle. */
void smp_run(unsigned index, cpu_function *function, void *argument);
/* Waits until that processor is idle. Returns false at the time limit. */
bool smp_wait(unsigned index, uint64_t milliseconds);
/* Runs function(argument) on any processor, and waits for its end. Returns false as smp_wait does. */
bool smp_call(unsigned index, cpu_function *function, void *argument, uint64_t milliseconds);
/* Runs function(argument) on all processors at once, including this one. Returns false if one exceeds the time limit. */
bool smp_run_everywhere(cpu_function *function, void *argument, uint64_t milliseconds);
