/*
 * Finds the ACPI tables, and reads the few fields of the MADT, FADT and DSDT that images need.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct acpi_header {
    char signature[4];
    uint32_t length;
    uint8_t revision, checksum;
    char oem[6], oem_table[8];
    uint32_t oem_revision, creator, creator_revision;
} __attribute__((packed));

/* Returns the RSDP's address, from the boot protocol or by a search, or 0 if there is none. */
uint64_t acpi_rsdp(void);
/* Returns the n-th table in the XSDT (or RSDT), or NULL if there are fewer. */
const struct acpi_header *acpi_table(unsigned index);
/* Returns the table with that signature, or NULL. The DSDT is found through the FADT ("FACP"). */
const struct acpi_header *acpi_find(const char *signature);
bool acpi_checksum_is_valid(const void *table, uint32_t length);

struct processor {
    uint32_t apic_id, acpi_id;
};

/* The n-th enabled processor of the MADT. */
bool acpi_processor(unsigned index, struct processor *processor);
unsigned acpi_processor_count(void);

struct ioapic {
    uint64_t address;
    uint32_t first_gsi;
};

/* The MADT's first IOAPIC. */
bool acpi_ioapic(struct ioapic *ioapic);
/* The global system interrupt of an ISA IRQ. */
uint32_t acpi_gsi_of_irq(uint8_t irq);

/* The registers of the FADT that turn the machine off and reset it. A port is 0 if the FADT does not define it. */
struct acpi_power {
    uint16_t control_port;       /* PM1a control, 16 bits */
    uint64_t sleep_control;      /* 8 bits; replaces control_port on a hardware-reduced machine */
    bool sleep_control_is_a_port; /* whether sleep_control is a port or a memory address */
    uint8_t power_off_type;      /* SLP_TYP of \_S5 */
    uint16_t reset_port;
    uint8_t reset_value;
};

struct acpi_power acpi_power(void);
