/*
 * The local APIC (by x2APIC MSRs if the processor has them), and the first IOAPIC.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Local APIC registers, numbered as x2APIC numbers them (the MMIO offset divided by 16). */
#define APIC_ID 0x02
#define APIC_VERSION 0x03
#define APIC_TASK_PRIORITY 0x08
#define APIC_END_OF_INTERRUPT 0x0b
#define APIC_SPURIOUS 0x0f
#define APIC_IN_SERVICE 0x10
#define APIC_REQUEST 0x20
#define APIC_COMMAND_LOW 0x30
#define APIC_COMMAND_HIGH 0x31
#define APIC_TIMER 0x32
#define APIC_TIMER_PERIODIC 0x20000
#define APIC_LINT0 0x35
#define APIC_LINT1 0x36
#define APIC_TIMER_INITIAL 0x38
#define APIC_TIMER_CURRENT 0x39
#define APIC_TIMER_DIVIDE 0x3e
#define APIC_TIMER_BY_16 0x3
#define APIC_MASKED 0x10000

/* Fields of an interrupt command. */
#define APIC_FIXED 0x000
#define APIC_NMI 0x400
#define APIC_INIT 0x500
#define APIC_STARTUP 0x600
#define APIC_ASSERT 0x4000
#define APIC_TO_SELF 0x40000
#define APIC_TO_ALL 0x80000
#define APIC_TO_OTHERS 0xc0000

/*
 * Enables this processor's APIC and masks the 8259s. The mode is x2APIC unless the processor lacks it or the command
 * line has `apic=xapic`. Must be called before interrupts are enabled.
 */
void apic_initialize(void);
bool apic_is_x2apic(void);
uint32_t apic_id(void);
uint32_t apic_read(unsigned apic_register);
void apic_write(unsigned apic_register, uint32_t value);
void apic_end_of_interrupt(void);
/* Sends an interrupt command, and returns when the APIC has accepted it. */
void apic_send(uint32_t destination, uint32_t command);

/*
 * Routes an edge-triggered global system interrupt to a processor. acpi_gsi_of_irq returns the number for an ISA IRQ.
 * Returns false if there is no IOAPIC.
 */
bool ioapic_route(uint32_t gsi, uint8_t vector, uint32_t apic_id);
/* The same for a level-triggered interrupt. */
bool ioapic_route_level(uint32_t gsi, uint8_t vector, uint32_t apic_id);
