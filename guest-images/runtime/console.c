/*
 * The two back ends of the console, and its lock.
 *
 * An empty transmitter takes as many bytes as its FIFO holds, so the status is read once for sixteen: every
 * port access is an exit to the monitor.
 */
#include "console.h"

#include <stdarg.h>

#include "cpu.h"
#include "memory.h"
#include "text.h"

#define DEBUG_PORT 0xe9
#define FIFO_BYTES 16
#define NO_DEVICE 0xff

#define DIVISOR_LATCH 0x80
#define EIGHT_BITS 0x03
#define FIFO_ENABLE 0x01 /* does not clear the FIFO: there may be input already */
#define DTR_RTS_OUT2 0x0b

static struct spinlock lock;
static bool use_debug_port;

void console_initialize(void)
{
    if (in8(SERIAL_PORT + SERIAL_LINE_STATUS) == NO_DEVICE) {
        use_debug_port = true;
        return;
    }
    out8(SERIAL_PORT + SERIAL_INTERRUPT_ENABLE, 0);
    out8(SERIAL_PORT + SERIAL_LINE_CONTROL, DIVISOR_LATCH | EIGHT_BITS);
    out8(SERIAL_PORT + SERIAL_DATA, 1); /* 115,200 baud */
    out8(SERIAL_PORT + SERIAL_INTERRUPT_ENABLE, 0);
    out8(SERIAL_PORT + SERIAL_LINE_CONTROL, EIGHT_BITS);
    out8(SERIAL_PORT + SERIAL_FIFO_CONTROL, FIFO_ENABLE);
    out8(SERIAL_PORT + SERIAL_MODEM_CONTROL, DTR_RTS_OUT2);
}

void console_use_debug_port(void)
{
    use_debug_port = true;
}

/* Returns the number of bytes that the serial port accepts without another read of its status: 1 to `wanted`. */
static size_t serial_room(size_t wanted)
{
    static size_t room;

    if (room == 0) {
        while (!(in8(SERIAL_PORT + SERIAL_LINE_STATUS) & SERIAL_STATUS_EMPTY))
            relax();
        room = FIFO_BYTES;
    }
    size_t granted = wanted < room ? wanted : room;
    room -= granted;
    return granted;
}

void console_write(const char *text, size_t length)
{
    uint16_t port = use_debug_port ? DEBUG_PORT : SERIAL_PORT + SERIAL_DATA;

    while (length) {
        size_t chunk = use_debug_port ? length : serial_room(length);
        length -= chunk;
        for (const char *end = text + chunk; text < end; text++)
            out8(port, *text);
    }
}

int console_read(void)
{
    uint8_t status = in8(SERIAL_PORT + SERIAL_LINE_STATUS);
    if (status == NO_DEVICE || !(status & SERIAL_STATUS_RECEIVED))
        return -1;
    return in8(SERIAL_PORT + SERIAL_DATA);
}

void print(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    spinlock_take(&lock);
    text_format(console_write, format, arguments);
    spinlock_release(&lock);
    va_end(arguments);
}

void console_break_lock(void)
{
    spinlock_release(&lock);
}
