/*
 * Describes the machine, without using any device.
 */
#include "greeting.h"

#include "acpi.h"
#include "boot_info.h"
#include "console.h"
#include "cpu.h"

#define CPUID_1_ECX_HYPERVISOR (1u << 31)
#define LEAF_HYPERVISOR 0x40000000
#define LEAF_HYPERVISOR_INTERFACE 0x40000001
#define HYPERV_INTERFACE 0x31237648 /* "Hv#1" */
#define LEAF_BRAND 0x80000002
#define BRAND_LEAVES 3
#define RANGES_SHOWN 8

static void report_boot(void)
{
    const char *command_line = boot_info.command_line;
    print("  boot protocol  %s\n", boot_protocol_name());
    print("  command line   %s\n", command_line[0] ? command_line : "(none)");
}

static void report_processors(void)
{
    struct cpuid brand[BRAND_LEAVES + 1] = {0};
    bool has_brand = cpuid(0x80000000).eax >= LEAF_BRAND + BRAND_LEAVES - 1;
    for (unsigned i = 0; has_brand && i < BRAND_LEAVES; i++)
        brand[i] = cpuid(LEAF_BRAND + i);
    const char *name = (const char *)brand;
    while (*name == ' ')
        name++;

    unsigned count = acpi_processor_count();
    if (count)
        print("  processors     %u, %s\n", count, *name ? name : "of no name");
    else
        print("  processors     no MADT lists any, %s\n", *name ? name : "of no name");
}

static void report_hypervisor(void)
{
    if (!(cpuid(1).ecx & CPUID_1_ECX_HYPERVISOR)) {
        print("  hypervisor     none to be seen\n");
        return;
    }
    struct cpuid vendor = cpuid(LEAF_HYPERVISOR);
    uint32_t name[] = {vendor.ebx, vendor.ecx, vendor.edx, 0};
    uint32_t interface[] = {vendor.eax > LEAF_HYPERVISOR ? cpuid(LEAF_HYPERVISOR_INTERFACE).eax : 0, 0};
    bool is_hyperv = interface[0] == HYPERV_INTERFACE;
    print("  hypervisor     \"%s\"%s%s%s, leaves to 0x%x\n", (const char *)name, is_hyperv ? ", interface \"" : "",
          is_hyperv ? (const char *)interface : ", not Hyper-V's interface", is_hyperv ? "\"" : "", vendor.eax);
}

static void report_memory(void)
{
    uint64_t usable = 0;
    for (unsigned i = 0; i < boot_info.memory_count; i++)
        if (boot_info.memory[i].kind == MEMORY_USABLE)
            usable += boot_info.memory[i].length;
    if (!boot_info.memory_count) {
        print("  memory         not told by this boot protocol\n");
        return;
    }
    print("  memory         %lu KiB usable\n", usable >> 10);
    for (unsigned i = 0; i < boot_info.memory_count && i < RANGES_SHOWN; i++) {
        const struct memory_range *range = &boot_info.memory[i];
        print("    %09lx-%09lx %s\n", range->start, range->start + range->length - 1, memory_kind_name(range->kind));
    }
    if (boot_info.memory_count > RANGES_SHOWN)
        print("    and %u more ranges\n", boot_info.memory_count - RANGES_SHOWN);
    for (unsigned i = 0; i < boot_info.module_count; i++)
        print("  module         %lu bytes at 0x%lx\n", boot_info.modules[i].length, boot_info.modules[i].start);
}

static void report_tables(void)
{
    const struct acpi_header *table;
    if (!acpi_rsdp()) {
        print("  ACPI           no RSDP\n");
        return;
    }
    print("  ACPI           ");
    for (unsigned i = 0; (table = acpi_table(i)); i++)
        print("%.*s ", 4, table->signature);
    print("(RSDP at 0x%lx)\n", acpi_rsdp());
}

void greet(void)
{
    print("Hello from a Viridian guest.\n");
    report_boot();
    report_processors();
    report_hypervisor();
    report_memory();
    report_tables();
}
