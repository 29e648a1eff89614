/*
 * Interrupt handlers that only count, by processor and vector.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "time.h"

/* Starts counting interrupts of this vector. The first also ends them; with the second, the hypervisor does (AutoEOI). */
void count_interrupts(uint8_t vector);
void count_interrupts_without_end(uint8_t vector);
unsigned interrupts_counted(unsigned cpu, uint8_t vector);
/* The sum over all processors and vectors. */
unsigned interrupts_counted_total(void);
void interrupt_counts_clear(void);
/*
 * Waits until the count is reached, with interrupts enabled, because the calling processor may be the target. Returns false
 * at the time limit.
 */
bool wait_for_count(unsigned cpu, uint8_t vector, unsigned count);
/* Waits with interrupts enabled, to detect interrupts that must not arrive. */
void wait_with_interrupts(uint64_t milliseconds);

/* Time limit of every wait. Only a broken machine takes this long. */
#define PATIENCE_MILLISECONDS (10000 * patience())
