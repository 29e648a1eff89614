/*
 * Accesses the registers of the local APIC by MSRs (x2APIC) or in a page of memory (xAPIC).
 */
#include "apic.h"

#include "acpi.h"
#include "command_line.h"
#include "cpu.h"
#include "interrupts.h"
#include "memory.h"
#include "text.h"

#define MSR_APIC_BASE 0x1b
#define APIC_BASE_ENABLE 0x800
#define APIC_BASE_X2APIC 0x400
#define MSR_X2APIC 0x800
#define MMIO_BASE 0xfee00000ULL

#define SPURIOUS_APIC_ENABLE 0x100
#define COMMAND_PENDING 0x1000

#define CPUID_1_ECX_X2APIC (1u << 21)

#define PIC_MASTER_MASK 0x21
#define PIC_SLAVE_MASK 0xa1

#define IOAPIC_SELECT 0x00
#define IOAPIC_WINDOW 0x10
#define IOAPIC_REDIRECTION(pin) (0x10 + 2 * (pin))
#define IOAPIC_LEVEL (1 << 15)

static bool x2apic;

bool apic_is_x2apic(void)
{
    return x2apic;
}

uint32_t apic_read(unsigned apic_register)
{
    return x2apic ? rdmsr(MSR_X2APIC + apic_register) : read32(MMIO_BASE + apic_register * 16);
}

void apic_write(unsigned apic_register, uint32_t value)
{
    if (x2apic)
        wrmsr(MSR_X2APIC + apic_register, value);
    else
        write32(MMIO_BASE + apic_register * 16, value);
}

static bool want_x2apic(void)
{
    const char *wanted = command_line_value("apic");
    return cpuid(1).ecx & CPUID_1_ECX_X2APIC && !(wanted && text_equal(wanted, "xapic"));
}

void apic_initialize(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE;

    /* All processors use the mode that the boot processor chose. */
    static bool decided;
    if (!decided) {
        x2apic = want_x2apic();
        decided = true;
        out8(PIC_MASTER_MASK, 0xff);
        out8(PIC_SLAVE_MASK, 0xff);
    }
    wrmsr(MSR_APIC_BASE, base);
    if (x2apic)
        wrmsr(MSR_APIC_BASE, base | APIC_BASE_X2APIC);
    apic_write(APIC_SPURIOUS, SPURIOUS_APIC_ENABLE | VECTOR_SPURIOUS);
    apic_write(APIC_LINT0, APIC_MASKED);
    apic_write(APIC_TASK_PRIORITY, 0);
}

uint32_t apic_id(void)
{
    return x2apic ? apic_read(APIC_ID) : apic_read(APIC_ID) >> 24;
}

void apic_end_of_interrupt(void)
{
    apic_write(APIC_END_OF_INTERRUPT, 0);
}

void apic_send(uint32_t destination, uint32_t command)
{
    if (x2apic) {
        /* x2APIC writes are not serializing: make earlier stores visible before the interrupt is sent. */
        asm volatile("mfence; lfence" : : : "memory");
        wrmsr(MSR_X2APIC + APIC_COMMAND_LOW, (uint64_t)destination << 32 | command);
        return;
    }
    apic_write(APIC_COMMAND_HIGH, destination << 24);
    apic_write(APIC_COMMAND_LOW, command);
    while (apic_read(APIC_COMMAND_LOW) & COMMAND_PENDING)
        relax();
}

static void ioapic_write(uint64_t base, uint32_t index, uint32_t value)
{
    write32(base + IOAPIC_SELECT, index);
    write32(base + IOAPIC_WINDOW, value);
}

static bool route(uint32_t gsi, uint32_t low, uint32_t apic_id)
{
    struct ioapic ioapic;
    if (!acpi_ioapic(&ioapic) || gsi < ioapic.first_gsi)
        return false;
    uint32_t pin = gsi - ioapic.first_gsi;
    ioapic_write(ioapic.address, IOAPIC_REDIRECTION(pin) + 1, apic_id << 24);
    ioapic_write(ioapic.address, IOAPIC_REDIRECTION(pin), low);
    return true;
}

bool ioapic_route(uint32_t gsi, uint8_t vector, uint32_t apic_id)
{
    return route(gsi, vector, apic_id);
}

bool ioapic_route_level(uint32_t gsi, uint8_t vector, uint32_t apic_id)
{
    return route(gsi, IOAPIC_LEVEL | vector, apic_id);
}
