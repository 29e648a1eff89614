/*
 * Processors: what each one owns, how the further ones are started, and how to run a function on one.
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
    /* Whether it has begun with that work. */
    bool begun;
    /* The interrupts that it took to wake up, and how many those were before it was last given work. */
    unsigned woken, woken_before;
    uint64_t gdt[8];
    uint32_t task_state[26];
};
_Static_assert(offsetof(struct cpu, stack_top) == CPU_STACK_TOP, "assembly relies on it");
_Static_assert(offsetof(struct cpu, recovery) == CPU_RECOVERY, "assembly relies on it");

extern struct cpu cpus[CPUS_MAX];
/* How many processors run: 1 until smp_start_all. Index i < cpu_count is online. */
extern unsigned cpu_count;

static inline struct cpu *this_cpu(void)
{
    struct cpu *cpu;
    asm volatile("mov %%gs:0, %0" : "=r"(cpu));
    return cpu;
}

/* Sets up the boot processor's own structures; its APIC is left alone. */
void smp_initialize(void);
/* Starts every enabled processor of the MADT; returns how many processors run then, this one included. */
unsigned smp_start_all(void);
/* Starts function(argument) on another processor, which must be idle. */
void smp_run(unsigned index, cpu_function *function, void *argument);
/* Waits until that processor is idle; false if it is not after the given time. */
bool smp_wait(unsigned index, uint64_t milliseconds);
/* Runs function(argument) on that processor, the calling one or another, and waits for its end; false as smp_wait. */
bool smp_call(unsigned index, cpu_function *function, void *argument, uint64_t milliseconds);
/* Runs function(argument) on all processors at once, this one included; false if one is not done in the given time. */
bool smp_run_everywhere(cpu_function *function, void *argument, uint64_t milliseconds);
