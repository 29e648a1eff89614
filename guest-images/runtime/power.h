/*
 * How an image ends: exit codes, power-off, reset.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Takes a value of 8, 16 or 32 bits and ends the run with it as exit code. */
#define EXIT_PORT 0xf4

/* The exit codes that mean the same for every image; guest-images/README.md explains them. */
#define EXIT_PASSED 0
#define EXIT_FAILED 1
#define EXIT_UNEXPECTED_EXCEPTION 3
#define EXIT_USAGE 4
#define EXIT_IGNORED 5
#define EXIT_NO_MEMORY 6

/* Ends the run through the exit port; where there is none, by power-off. */
_Noreturn void machine_exit(uint32_t code);
/* Turns the machine off through ACPI; returns only if that had no effect. */
void machine_power_off(void);
/* Gives a monitor that stops its processors a little later the time to do it. */
void machine_wait_for_end(void);
/* Resets the machine through the FADT's reset register, or does nothing where it names none. */
void machine_reset_by_acpi(void);
