/*
 * Ends in every way in which a guest can end, or does not end. The command line selects how.
 *
 *   exit=N [width=8|16|32]              N to the exit port
 *   poweroff                            ACPI power-off
 *   reset=i8042|acpi|port92|cf9         a reset in one of four ways
 *   triple                              a triple fault
 *   fault=divide|opcode|protection|page|interrupt   an unexpected exception or interrupt
 *   halt, halt=interrupts               halts for ever, interrupts off or on
 *   loop                                spins for ever
 *   spew=BYTES                          prints that many bytes of numbered lines, then powers off
 *   echo, echo=interrupt                prints what is typed, until the line "quit"
 *   button [presses=N]                  powers off when the power button was pressed N times (1)
 */
#include "exits.h"

#include "runtime.h"

#define I8042_COMMAND 0x64
#define I8042_PULSE_RESET 0xfe
#define SYSTEM_CONTROL_A 0x92
#define RESET_CONTROL 0xcf9

#define SPEW_LINE 64
#define UNHANDLED_VECTOR 0x80
#define NON_CANONICAL_ADDRESS 0x800000000000ULL
/* Not mapped: the image maps the first 4 GiB. */
#define UNMAPPED_ADDRESS 0x7f0000000000ULL

static void unknown_value(const char *name, const char *value)
{
    print("%s=%s is not one of the values in exits.c\n", name, value);
    machine_exit(EXIT_USAGE);
}

static void exit_with(const char *unused)
{
    (void)unused;
    uint64_t code = command_line_number("exit", 0);
    uint64_t width = command_line_number("width", 32);
    if (width == 8)
        out8(EXIT_PORT, code);
    else if (width == 16)
        out16(EXIT_PORT, code);
    else if (width == 32)
        out32(EXIT_PORT, code);
    else
        unknown_value("width", command_line_value("width"));
}

static void power_off(const char *unused)
{
    (void)unused;
    machine_power_off();
}

static void reset(const char *how)
{
    if (text_equal(how, "i8042")) {
        out8(I8042_COMMAND, I8042_PULSE_RESET);
    } else if (text_equal(how, "acpi")) {
        machine_reset_by_acpi();
    } else if (text_equal(how, "port92")) {
        out8(SYSTEM_CONTROL_A, in8(SYSTEM_CONTROL_A) | 0x01);
    } else if (text_equal(how, "cf9")) {
        out8(RESET_CONTROL, 0x02);
        out8(RESET_CONTROL, 0x06);
    } else {
        unknown_value("reset", how);
    }
    machine_wait_for_end();
}

static void triple(const char *unused)
{
    (void)unused;
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) nothing = {0, 0};
    asm volatile("lidt %0; ud2" : : "m"(nothing));
}

static void fault(const char *kind)
{
    if (text_equal(kind, "divide")) {
        asm volatile("divb %b1" : : "a"(1), "q"(0) : "cc");
    } else if (text_equal(kind, "opcode")) {
        asm volatile("ud2");
    } else if (text_equal(kind, "protection")) {
        read64(NON_CANONICAL_ADDRESS);
    } else if (text_equal(kind, "page")) {
        read64(UNMAPPED_ADDRESS);
    } else if (text_equal(kind, "interrupt")) {
        apic_initialize();
        interrupt_set_handler(UNHANDLED_VECTOR, NULL); /* makes the gate */
        apic_send(0, APIC_FIXED | APIC_ASSERT | APIC_TO_SELF | UNHANDLED_VECTOR);
        wait_for_interrupt();
    } else {
        unknown_value("fault", kind);
    }
}

static void halt(const char *how)
{
    if (text_equal(how, "interrupts")) {
        apic_initialize(); /* masks interrupts that a firmware left enabled */
        for (;;)
            wait_for_interrupt();
    }
    if (*how)
        unknown_value("halt", how);
    halt_forever();
}

static void loop(const char *unused)
{
    (void)unused;
    for (;;)
        relax();
}

/* Lines of 64 bytes that begin with their own offset; the last may be cut short. */
static void spew(const char *unused)
{
    (void)unused;
    uint64_t size = command_line_number("spew", 0);
    uint64_t at = 0;
    for (; size - at >= SPEW_LINE; at += SPEW_LINE)
        print("%016lx abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST\n", at);
    print("%.*s", (int)(size - at), "---------------------------------------------------------------");
    machine_power_off();
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(const char *value);
    } ends[] = {
        {"exit", exit_with}, {"poweroff", power_off}, {"reset", reset}, {"triple", triple}, {"fault", fault},
        {"halt", halt},      {"loop", loop},          {"spew", spew},   {"echo", echo},
        {"button", button},
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(ends); i++) {
        const char *value = command_line_value(ends[i].name);
        if (!value)
            continue;
        char copy[COMMAND_LINE_VALUE_MAX];
        memcpy(copy, value, sizeof copy);
        ends[i].run(copy);
        print("the machine continues after %s\n", ends[i].name);
        return EXIT_IGNORED;
    }
    print("the command line has no word of exits.c\n");
    return EXIT_USAGE;
}
