/*
 * Interrupt handlers that do nothing but count, by processor and vector.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "time.h"

/* Counts this vector's interrupts from now on, and ends them; or leaves that to the hypervisor (AutoEOI). */
void count_interrupts(uint8_t vector);
void count_interrupts_without_end(uint8_t vector);
unsigned interrupts_counted(unsigned cpu, uint8_t vector);
/* The sum over all processors and vectors. */
unsigned interrupts_counted_total(void);
void interrupt_counts_clear(void);
/*
 * Waits until the count is reached, with interrupts on: the calling processor may be the one to be interrupted.
 * False if it was not in time.
 */
bool wait_for_count(unsigned cpu, uint8_t vector, unsigned count);
/* Gives interrupts that must not come the time in which they would. */
void wait_with_interrupts(uint64_t milliseconds);

/* How long anything may take: only a broken machine takes so long. */
#define PATIENCE_MILLISECONDS (10000 * patience())
