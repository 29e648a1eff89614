/*
 * Words of the command line: `name` enables something, `name=value` has a value.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define COMMAND_LINE_VALUE_MAX 64

/* Returns the value of the last `name=value`, "" for `name` alone, or NULL if neither exists. Valid until the next call. */
const char *command_line_value(const char *name);
bool command_line_has(const char *name);
/* Returns the value as a number, or `otherwise` if there is none. Exits with EXIT_USAGE if the value is not a number. */
uint64_t command_line_number(const char *name, uint64_t otherwise);
