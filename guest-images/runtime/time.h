/*
 * Time by the TSC: its frequency, delays, and waiting with a time limit.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cpu.h"

/* Returns the number of ticks per second. The first call determines it; `tsc_frequency_source` then names the source. */
uint64_t tsc_frequency(void);
const char *tsc_frequency_source(void);

/* Starts periodic interrupts of this processor, so that `wait_a_while` may halt. Must be called after apic_initialize. */
void ticks_start(void);
/* Waits for a moment or until an interrupt, with interrupts enabled. They are disabled before and afterwards. */
void wait_a_while(void);

/* Returns the factor for time limits, from `patience=N` on the command line: how many times slower than usual the host is. */
uint64_t patience(void);

/* Returns the TSC's value in this number of milliseconds. */
uint64_t deadline_after(uint64_t milliseconds);
void delay_microseconds(uint64_t microseconds);

/* Spins until the condition holds. The value is false if the time limit in milliseconds is reached first. */
#define WAIT_UNTIL(condition, milliseconds)                                                                            \
    ({                                                                                                                 \
        bool holds_ = (condition);                                                                                     \
        if (!holds_) {                                                                                                 \
            uint64_t give_up_at_ = deadline_after(milliseconds);                                                       \
            while (!(holds_ = (condition)) && rdtsc() < give_up_at_)                                                   \
                relax();                                                                                               \
        }                                                                                                              \
        holds_;                                                                                                        \
    })
