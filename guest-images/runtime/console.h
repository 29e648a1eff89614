/*
 * The console: the first serial port, or the debug port if there is none or the command line has `console=debug`.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define SERIAL_PORT 0x3f8
#define SERIAL_GSI 4

/* The serial port's registers, from SERIAL_PORT. */
#define SERIAL_DATA 0
#define SERIAL_INTERRUPT_ENABLE 1
#define SERIAL_FIFO_CONTROL 2
#define SERIAL_LINE_CONTROL 3
#define SERIAL_MODEM_CONTROL 4
#define SERIAL_LINE_STATUS 5

#define SERIAL_INTERRUPT_RECEIVED 0x01
#define SERIAL_STATUS_RECEIVED 0x01
#define SERIAL_STATUS_EMPTY 0x20

void console_initialize(void);
/* Switches the console to the debug port. Called when the command line is known. */
void console_use_debug_port(void);
void console_write(const char *text, size_t length);
/* Returns the next byte of input, or -1 if there is none. */
int console_read(void);

/* Prints formatted text without interruption by other processors' text. See text.h for the conversions. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Releases the lock even if it is held by a print that cannot continue. For the fault dump. */
void console_break_lock(void);
