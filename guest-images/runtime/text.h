/*
 * Text: formatting, parsing of numbers, comparison. Nothing here allocates memory or uses the console.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Formats as printf does and hands the pieces to `write`: %s %.*s %c %d %u %x %p %%, with `l` for 64 bits, a field width,
 * `-` for left and `0` for zero padding.
 */
void text_format(void (*write)(const char *text, size_t length), const char *format, va_list arguments);

size_t text_length(const char *text);
bool text_equal(const char *left, const char *right);

/* Reads a number (decimal, or hexadecimal after 0x; then perhaps K, M or G) that must be the whole text. */
bool text_to_number(const char *text, uint64_t *number);
