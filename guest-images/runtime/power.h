/*
 * Ends of an image: exit codes, power-off, reset.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* A port that ends the run. The exit code is the written value of 8, 16 or 32 bits. */
#define EXIT_PORT 0xf4

/* Exit codes that have the same meaning for all images. See guest-images/README.md. */
#define EXIT_PASSED 0
#define EXIT_FAILED 1
#define EXIT_UNEXPECTED_EXCEPTION 3
#define EXIT_USAGE 4
#define EXIT_IGNORED 5
#define EXIT_NO_MEMORY 6

/* Ends the run through the exit port, or by power-off if there is none. */
_Noreturn void machine_exit(uint32_t code);
/* Turns the machine off through ACPI; returns only if that had no effect. */
void machine_power_off(void);
/* Waits for a monitor that does not stop the processors immediately. */
void machine_wait_for_end(void);
/* Resets the machine through the FADT's reset register. Does nothing if the FADT has none. */
void machine_reset_by_acpi(void);
