/*
 * Reads ACPI tables in place. Only tables below 4 GiB are found, because only that is mapped.
 */
#include "acpi.h"

#include <stddef.h>

#include "boot_info.h"
#include "memory.h"

#define RSDP_REVISION 15
#define RSDP_RSDT 16
#define RSDP_XSDT 24
#define SEARCH_BEGIN 0xe0000ULL
#define SEARCH_END 0x100000ULL
#define MAPPED_END 0x100000000ULL

#define MADT_ENTRIES 44
#define MADT_LOCAL_APIC 0
#define MADT_IOAPIC 1
#define MADT_OVERRIDE 2
#define MADT_LOCAL_X2APIC 9
#define MADT_ENABLED 1

#define FADT_DSDT 40
#define FADT_CONTROL_PORT 64
#define FADT_FLAGS 112
#define FADT_FLAG_RESET (1u << 10)
#define FADT_FLAG_REDUCED (1u << 20)
#define FADT_RESET_REGISTER 116
#define FADT_RESET_VALUE 128
#define FADT_X_DSDT 140
#define FADT_X_CONTROL 172
#define FADT_SLEEP_CONTROL 244
#define SPACE_PORT 1

/* AML: NameOp "_S5_" PackageOp PkgLength NumElements element... */
#define AML_PACKAGE 0x12
#define AML_BYTE 0x0a
#define AML_ONE 0x01

/* Reads a field of a table. Fields are not aligned. A field that an old revision lacks reads as 0. */
static uint64_t field(const void *table, uint32_t length, uint32_t offset, uint32_t size)
{
    uint64_t value = 0;
    if (offset + size <= length)
        memcpy(&value, (const char *)table + offset, size);
    return value;
}

static uint64_t table_field(const struct acpi_header *table, uint32_t offset, uint32_t size)
{
    return field(table, table->length, offset, size);
}

uint64_t acpi_rsdp(void)
{
    if (boot_info.rsdp)
        return boot_info.rsdp;
    for (uint64_t at = SEARCH_BEGIN; at < SEARCH_END; at += 16)
        if (read64(at) == *(const uint64_t *)"RSD PTR ")
            return boot_info.rsdp = at;
    return 0;
}

const struct acpi_header *acpi_table(unsigned index)
{
    uint64_t rsdp = acpi_rsdp();
    if (!rsdp)
        return NULL;
    uint64_t root = *(const uint8_t *)(rsdp + RSDP_REVISION) >= 2 ? read64(rsdp + RSDP_XSDT) : 0;
    unsigned entry_size = root ? 8 : 4;
    if (!root)
        root = read32(rsdp + RSDP_RSDT);
    if (!root || root >= MAPPED_END)
        return NULL;
    return (const void *)table_field((const void *)root, sizeof(struct acpi_header) + index * entry_size, entry_size);
}

const struct acpi_header *acpi_find(const char *signature)
{
    const struct acpi_header *table;
    if (memcmp(signature, "DSDT", 4) == 0) {
        const struct acpi_header *fadt = acpi_find("FACP");
        if (!fadt)
            return NULL;
        uint64_t dsdt = table_field(fadt, FADT_X_DSDT, 8);
        return (const void *)(dsdt ? dsdt : table_field(fadt, FADT_DSDT, 4));
    }
    for (unsigned i = 0; (table = acpi_table(i)); i++)
        if (memcmp(table->signature, signature, 4) == 0)
            return table;
    return NULL;
}

bool acpi_checksum_is_valid(const void *table, uint32_t length)
{
    uint8_t sum = 0;
    for (uint32_t i = 0; i < length; i++)
        sum += ((const uint8_t *)table)[i];
    return sum == 0;
}

/* Returns the MADT entry after `after` (NULL: the first one), or NULL. An entry has a type, a length, and fields. */
static const uint8_t *madt_next(const uint8_t *after)
{
    static const struct acpi_header *madt;
    if (!madt)
        madt = acpi_find("APIC");
    if (!madt)
        return NULL;
    const uint8_t *entry = after ? after + after[1] : (const uint8_t *)madt + MADT_ENTRIES;
    const uint8_t *end = (const uint8_t *)madt + madt->length;
    return entry + 2 <= end && entry[1] >= 2 && entry + entry[1] <= end ? entry : NULL;
}

static bool read_processor(const uint8_t *entry, struct processor *processor)
{
    uint8_t length = entry[1];
    if (entry[0] == MADT_LOCAL_APIC && field(entry, length, 4, 4) & MADT_ENABLED)
        *processor = (struct processor){entry[3], entry[2]};
    else if (entry[0] == MADT_LOCAL_X2APIC && field(entry, length, 8, 4) & MADT_ENABLED)
        *processor = (struct processor){field(entry, length, 4, 4), field(entry, length, 12, 4)};
    else
        return false;
    return true;
}

bool acpi_processor(unsigned index, struct processor *processor)
{
    for (const uint8_t *entry = madt_next(NULL); entry; entry = madt_next(entry))
        if (read_processor(entry, processor) && index-- == 0)
            return true;
    return false;
}

unsigned acpi_processor_count(void)
{
    struct processor processor;
    unsigned count = 0;
    for (const uint8_t *entry = madt_next(NULL); entry; entry = madt_next(entry))
        count += read_processor(entry, &processor);
    return count;
}

bool acpi_ioapic(struct ioapic *ioapic)
{
    for (const uint8_t *entry = madt_next(NULL); entry; entry = madt_next(entry))
        if (entry[0] == MADT_IOAPIC) {
            *ioapic = (struct ioapic){field(entry, entry[1], 4, 4), field(entry, entry[1], 8, 4)};
            return true;
        }
    return false;
}

uint32_t acpi_gsi_of_irq(uint8_t irq)
{
    for (const uint8_t *entry = madt_next(NULL); entry; entry = madt_next(entry))
        if (entry[0] == MADT_OVERRIDE && entry[3] == irq)
            return field(entry, entry[1], 4, 4);
    return irq;
}

/* Returns the first element of the DSDT's \_S5 package. Finding one byte does not justify an AML interpreter. */
static bool find_power_off_type(uint8_t *type)
{
    const struct acpi_header *dsdt = acpi_find("DSDT");
    if (!dsdt)
        return false;
    const uint8_t *end = (const uint8_t *)dsdt + dsdt->length - 8;
    for (const uint8_t *at = (const uint8_t *)(dsdt + 1); at < end; at++) {
        if (at[0] != '_' || at[1] != 'S' || at[2] != '5' || at[3] != '_' || at[4] != AML_PACKAGE)
            continue;
        const uint8_t *element = at + 5 + 1 + (at[5] >> 6) + 1;
        if (*element == AML_BYTE)
            *type = element[1];
        else if (*element <= AML_ONE)
            *type = *element;
        else
            return false;
        return true;
    }
    return false;
}

struct acpi_power acpi_power(void)
{
    struct acpi_power power = {0};
    const struct acpi_header *fadt = acpi_find("FACP");
    if (!fadt)
        return power;
    uint32_t flags = table_field(fadt, FADT_FLAGS, 4);
    if (flags & FADT_FLAG_RESET && table_field(fadt, FADT_RESET_REGISTER, 1) == SPACE_PORT) {
        power.reset_port = table_field(fadt, FADT_RESET_REGISTER + 4, 2);
        power.reset_value = table_field(fadt, FADT_RESET_VALUE, 1);
    }
    if (!find_power_off_type(&power.power_off_type))
        return power;
    if (flags & FADT_FLAG_REDUCED) {
        power.sleep_control = table_field(fadt, FADT_SLEEP_CONTROL + 4, 8);
        power.sleep_control_is_a_port = table_field(fadt, FADT_SLEEP_CONTROL, 1) == SPACE_PORT;
        return power;
    }
    power.control_port = table_field(fadt, FADT_CONTROL_PORT, 4);
    if (!power.control_port)
        power.control_port = table_field(fadt, FADT_X_CONTROL + 4, 2);
    return power;
}
