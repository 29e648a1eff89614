/*
 * Ends a run. Each request is made once; if execution continues, the machine has ignored it.
 */
#include "power.h"

#include "acpi.h"
#include "cpu.h"
#include "time.h"

/* A monitor may need a moment to stop the processors. */
#define MOMENT_MICROSECONDS 500000

#define SLEEP_ENABLE 0x2000
#define SLEEP_TYPE_SHIFT 10
/* The same for the 8-bit register of a hardware-reduced machine. */
#define REDUCED_SLEEP_ENABLE 0x20
#define REDUCED_SLEEP_TYPE_SHIFT 2

void machine_exit(uint32_t code)
{
    out32(EXIT_PORT, code);
    machine_power_off();
    halt_forever();
}

void machine_wait_for_end(void)
{
    delay_microseconds(MOMENT_MICROSECONDS);
}

void machine_power_off(void)
{
    struct acpi_power power = acpi_power();
    uint8_t reduced = power.power_off_type << REDUCED_SLEEP_TYPE_SHIFT | REDUCED_SLEEP_ENABLE;

    if (power.control_port)
        out16(power.control_port, power.power_off_type << SLEEP_TYPE_SHIFT | SLEEP_ENABLE);
    else if (power.sleep_control && power.sleep_control_is_a_port)
        out8(power.sleep_control, reduced);
    else if (power.sleep_control)
        *(volatile uint8_t *)power.sleep_control = reduced;
    machine_wait_for_end();
}

void machine_reset_by_acpi(void)
{
    struct acpi_power power = acpi_power();
    if (power.reset_port)
        out8(power.reset_port, power.reset_value);
}
