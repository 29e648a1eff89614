/*
 * Reads the Hyper-V interface from CPUID.
 */
#include "hyperv.h"

#include "boot_info.h"
#include "check.h"
#include "command_line.h"
#include "console.h"
#include "pages.h"
#include "power.h"
#include "smp.h"
#include "text.h"

/* Longer than any test takes on a busy host that emulates ring 0. */
#define EACH_VP_MILLISECONDS 30000

#define INTERFACE 0x31237648 /* "Hv#1" */

bool hyperv_is_there(void)
{
    return cpuid(1).ecx & CPUID_HYPERVISOR_PRESENT && cpuid(HV_LEAF_INTERFACE).eax == INTERFACE;
}

uint32_t hyperv_word(unsigned word)
{
    static uint32_t words[HV_WORDS];
    static bool known;

    if (!known) {
        struct cpuid features = cpuid(HV_LEAF_FEATURES);
        words[HV_WORD_REGISTERS] = features.eax;
        words[HV_WORD_CALLS] = features.ebx;
        words[HV_WORD_FEATURES] = features.edx;
        words[HV_WORD_HINTS] = cpuid(HV_LEAF_HINTS).eax;
        known = true;
    }
    return words[word];
}

bool hyperv_has(enum hv_feature feature)
{
    return hyperv_word(feature / 32) >> feature % 32 & 1;
}

bool hyperv_is_kernel_engine(void)
{
    const char *engine = command_line_value("engine");
    if (!engine)
        return hyperv_has(HV_USE_FLUSHES);
    if (!text_equal(engine, "user") && !text_equal(engine, "kernel")) {
        print("engine=%s: the value is neither user nor kernel\n", engine);
        machine_exit(EXIT_USAGE);
    }
    return text_equal(engine, "kernel");
}

uint64_t memory_end(void)
{
    uint64_t end = 0;
    for (unsigned i = 0; i < boot_info.memory_count; i++) {
        const struct memory_range *range = &boot_info.memory[i];
        if (range->kind == MEMORY_USABLE && range->start + range->length > end)
            end = range->start + range->length;
    }
    return end;
}

uint64_t page_of_nothing(void)
{
    /* Above 4 GiB and all memory, below the 36 bits that every processor with long mode has. */
    uint64_t end = memory_end();
    return (end > 0x800000000ULL ? end : 0x800000000ULL) + 16 * PAGE_SIZE;
}

void on_each_vp(void (*function)(void *argument), void *argument)
{
    for (unsigned cpu = 0; cpu < cpu_count; cpu++)
        if (!smp_call(cpu, function, argument, EACH_VP_MILLISECONDS))
            CHECK_NAMED(false, "VP %u finishes within the time limit", cpu);
}
