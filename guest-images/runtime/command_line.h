/*
 * The command line as words: `name` switches something on, `name=value` says how.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define COMMAND_LINE_VALUE_MAX 64

/* The value of the last `name=value`; "" for a bare `name`; NULL where neither is there. Valid until the next call. */
const char *command_line_value(const char *name);
bool command_line_has(const char *name);
/* The value as a number, or `otherwise` where the name is not there; what is no number ends the image: EXIT_USAGE. */
uint64_t command_line_number(const char *name, uint64_t otherwise);
