/*
 * A guest that powers off when the power button is pressed, as an operating system does: it enables the event, and gets an
 * SCI for each press. With `hold=1`, it ends the interrupt of the first press only after it has seen the second press in the
 * status register.
 */
#include "exits.h"

#include "runtime.h"

#define SCI_VECTOR 0x45

/* Offsets in the FADT, and its flag that there is no fixed-feature button. */
#define FADT_SCI 46
#define FADT_PM1A_EVENT 56
#define FADT_PM1_EVENT_LENGTH 88
#define FADT_FLAGS 112
#define FADT_NO_FIXED_BUTTON (1 << 4)

#define POWER_BUTTON 0x100

static uint16_t status_port;
static volatile unsigned presses;
static bool holds;

static void on_sci(struct interrupt_frame *frame)
{
    (void)frame;
    if (in16(status_port) & POWER_BUTTON) {
        out16(status_port, POWER_BUTTON);
        presses++;
        if (holds && presses == 1) {
            print("in the handler\n");
            while (!(in16(status_port) & POWER_BUTTON))
                relax();
        }
    }
    apic_end_of_interrupt();
}

void button(const char *unused)
{
    (void)unused;
    const uint8_t *fadt = (const uint8_t *)acpi_find("FACP");
    uint16_t sci;
    uint32_t port, flags;
    if (!fadt)
        machine_exit(EXIT_FAILED);
    memcpy(&sci, fadt + FADT_SCI, sizeof sci);
    memcpy(&port, fadt + FADT_PM1A_EVENT, sizeof port);
    memcpy(&flags, fadt + FADT_FLAGS, sizeof flags);
    if (flags & FADT_NO_FIXED_BUTTON) {
        print("the FADT has no power button\n");
        machine_exit(EXIT_FAILED);
    }
    status_port = port;
    holds = command_line_number("hold", 0);
    apic_initialize();
    interrupt_set_handler(SCI_VECTOR, on_sci);
    if (!ioapic_route_level(acpi_gsi_of_irq(sci), SCI_VECTOR, apic_id()))
        machine_exit(EXIT_FAILED);
    out16(status_port + fadt[FADT_PM1_EVENT_LENGTH] / 2, POWER_BUTTON);
    uint64_t wanted = command_line_number("presses", 1);
    for (unsigned told = 0; told < wanted;) {
        print("waiting for the button\n");
        while (presses == told)
            wait_for_interrupt();
        told++;
        print("pressed %u\n", told);
    }
    machine_power_off();
}
