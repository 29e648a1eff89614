/*
 * The TSC's frequency, from the hypervisor or CPUID, or measured against the PIT. The APIC's timer wakes halted processors.
 */
#include "time.h"

#include "apic.h"
#include "command_line.h"
#include "fault.h"
#include "interrupts.h"
#include "memory.h"

#define LEAF_TSC 0x15
#define LEAF_HYPERVISOR 0x40000000
#define LEAF_HYPERVISOR_INTERFACE 0x40000001
#define LEAF_HYPERV_FEATURES 0x40000003
#define LEAF_HYPERVISOR_FREQUENCIES 0x40000010
#define CPUID_1_ECX_HYPERVISOR (1u << 31)
#define HYPERV_INTERFACE 0x31237648 /* "Hv#1" */
#define HYPERV_FREQUENCY_MSRS (1u << 11)
#define MSR_HYPERV_TSC_FREQUENCY 0x40000022

#define PIT_CHANNEL2 0x42
#define PIT_COMMAND 0x43
#define PIT_CHANNEL2_ONE_SHOT 0xb0
#define PIT_HERTZ 1193182
#define PIT_COUNT 11932 /* 10 ms */
#define PIT_GATE_PORT 0x61
#define PIT_GATE 0x01
#define PIT_OUTPUT 0x20
/* Longer than the PIT's 10 ms on any processor, for machines without a PIT. */
#define PIT_PATIENCE 1000000000ULL

/* The fallback if the frequency cannot be determined. Only time limits depend on it. */
#define ASSUMED_HERTZ 2000000000ULL

/* One of the vectors that the runtime uses itself. */
#define VECTOR_TICK 0xf2
/* APICs count at 25 MHz to 1 GHz: 6.4 to 256 ms. */
#define TICK_COUNT 400000

static bool ticks;

static uint64_t frequency;
static const char *source;

static uint64_t from_processor(void)
{
    if (cpuid(0).eax < LEAF_TSC)
        return 0;
    struct cpuid leaf = cpuid(LEAF_TSC);
    return leaf.eax && leaf.ebx ? (uint64_t)leaf.ecx * leaf.ebx / leaf.eax : 0;
}

static uint64_t from_hypervisor(void)
{
    uint64_t hertz;
    if (!(cpuid(1).ecx & CPUID_1_ECX_HYPERVISOR))
        return 0;
    if (cpuid(LEAF_HYPERVISOR_INTERFACE).eax == HYPERV_INTERFACE)
        return cpuid(LEAF_HYPERV_FEATURES).eax & HYPERV_FREQUENCY_MSRS &&
                       rdmsr_safe(MSR_HYPERV_TSC_FREQUENCY, &hertz) == NO_FAULT
                   ? hertz
                   : 0;
    if (cpuid(LEAF_HYPERVISOR).eax >= LEAF_HYPERVISOR_FREQUENCIES)
        return cpuid(LEAF_HYPERVISOR_FREQUENCIES).eax * 1000ULL;
    return 0;
}

/* Counts TSC ticks while channel 2 of the PIT counts 10 ms down. Returns 0 if its output does not rise. */
static uint64_t from_pit(void)
{
    out8(PIT_GATE_PORT, PIT_GATE);
    out8(PIT_COMMAND, PIT_CHANNEL2_ONE_SHOT);
    out8(PIT_CHANNEL2, PIT_COUNT & 0xff);
    out8(PIT_CHANNEL2, PIT_COUNT >> 8);
    uint64_t begin = rdtsc();
    if (in8(PIT_GATE_PORT) & PIT_OUTPUT)
        return 0;
    while (!(in8(PIT_GATE_PORT) & PIT_OUTPUT))
        if (rdtsc() - begin > PIT_PATIENCE)
            return 0;
    return (rdtsc() - begin) * PIT_HERTZ / PIT_COUNT;
}

static uint64_t assumed(void)
{
    return ASSUMED_HERTZ;
}

uint64_t tsc_frequency(void)
{
    static const struct {
        const char *name;
        uint64_t (*find)(void);
    } sources[] = {
        {"CPUID leaf 0x15", from_processor},
        {"the hypervisor", from_hypervisor},
        {"the PIT", from_pit},
        {"an assumption", assumed},
    };
    for (unsigned i = 0; !frequency; i++) {
        source = sources[i].name;
        frequency = sources[i].find();
    }
    return frequency;
}

const char *tsc_frequency_source(void)
{
    tsc_frequency();
    return source;
}

uint64_t patience(void)
{
    static uint64_t times;
    if (!times) {
        times = command_line_number("patience", 1);
        if (!times)
            times = 1;
    }
    return times;
}

uint64_t deadline_after(uint64_t milliseconds)
{
    return rdtsc() + tsc_frequency() / 1000 * milliseconds;
}

void delay_microseconds(uint64_t microseconds)
{
    uint64_t begin = rdtsc(), ticks = tsc_frequency() / 1000000 * microseconds;
    while (rdtsc() - begin < ticks)
        relax();
}

static void on_tick(struct interrupt_frame *frame)
{
    (void)frame;
    apic_end_of_interrupt();
}

void ticks_start(void)
{
    interrupt_set_handler(VECTOR_TICK, on_tick);
    apic_write(APIC_TIMER_DIVIDE, APIC_TIMER_BY_16);
    apic_write(APIC_TIMER, VECTOR_TICK | APIC_TIMER_PERIODIC);
    apic_write(APIC_TIMER_INITIAL, TICK_COUNT);
    ticks = true;
}

void wait_a_while(void)
{
    if (ticks) {
        wait_for_interrupt();
        return;
    }
    interrupts_on();
    relax();
    interrupts_off();
}
