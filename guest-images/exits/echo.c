/*
 * Prints what is typed on the console, until the line "quit".
 */
#include "exits.h"
#include "runtime.h"

#define VECTOR_SERIAL 0x50
#define LINE_MAX 64

static char line[LINE_MAX];
static unsigned line_length;

/* Processes one byte. Returns true when the line "quit" is complete. */
static bool take(char byte)
{
    console_write(&byte, 1);
    if (byte != '\n' && byte != '\r') {
        if (line_length < LINE_MAX)
            line[line_length++] = byte;
        return false;
    }
    bool is_quit = line_length == 4 && memcmp(line, "quit", 4) == 0;
    line_length = 0;
    return is_quit;
}

/* Processes all received bytes. Returns true when the line "quit" is complete. */
static bool take_all(void)
{
    for (int byte; (byte = console_read()) >= 0;)
        if (take(byte))
            return true;
    return false;
}

static void on_serial(struct interrupt_frame *frame)
{
    (void)frame;
    apic_end_of_interrupt();
}

/* The interrupt only wakes the processor: it is raised for the first byte, and all bytes are read before the next halt. */
static void echo_by_interrupt(void)
{
    apic_initialize();
    interrupt_set_handler(VECTOR_SERIAL, on_serial);
    if (!ioapic_route(acpi_gsi_of_irq(SERIAL_GSI), VECTOR_SERIAL, apic_id())) {
        print("no IOAPIC, so no serial interrupt\n");
        machine_exit(EXIT_FAILED);
    }
    out8(SERIAL_PORT + SERIAL_INTERRUPT_ENABLE, SERIAL_INTERRUPT_RECEIVED);
    print("echoing by interrupt\n");
    while (!take_all())
        wait_for_interrupt();
}

void echo(const char *how)
{
    if (text_equal(how, "interrupt")) {
        echo_by_interrupt();
    } else {
        print("echoing by polling\n");
        while (!take_all())
            relax();
    }
    print("quitting\n");
    machine_power_off();
}
