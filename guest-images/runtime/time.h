/*
 * Time by the TSC: its frequency, delays, and waiting for something with an end to the patience.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cpu.h"

/* Ticks a second, found out at the first call; `tsc_frequency_source` then says how. */
uint64_t tsc_frequency(void);
const char *tsc_frequency_source(void);

/* Has an interrupt come to this processor now and then, so that `wait_a_while` may halt. Comes after apic_initialize. */
void ticks_start(void);
/* Waits with interrupts on, until one comes or for a moment; they are off before and afterwards. */
void wait_a_while(void);

/* How many times slower than usual the host is, as the command line says by `patience`: what limits of time are multiplied by. */
uint64_t patience(void);

/* The TSC's value that many milliseconds from now. */
uint64_t deadline_after(uint64_t milliseconds);
void delay_microseconds(uint64_t microseconds);

/* Spins until the condition holds; false if it does not within the given milliseconds. */
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
