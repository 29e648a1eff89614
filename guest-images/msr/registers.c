/*
 * Registers without pages: SINTs, timers, clocks, the registers of the APIC, and others.
 */
#include "msr.h"

#define VECTOR_ICR 0x60
#define VECTOR_LOW_PRIORITY 0x61

#define CRASH_VALUE(index) (0x1111111111111111ULL * ((index) + 1))

static void check_write(uint32_t number, const char *name, uint64_t value)
{
    CHECK_EQUAL_NAMED(wrmsr_safe(number, value), NO_FAULT, "%s accepts 0x%lx on VP %u", name, value, this_cpu()->index);
    CHECK_EQUAL_NAMED(msr_value(number), value, "%s reads 0x%lx on VP %u", name, value, this_cpu()->index);
}

static void check_refused(uint32_t number, const char *name, uint64_t value)
{
    uint64_t before = msr_value(number);
    CHECK_EQUAL_NAMED(wrmsr_safe(number, value), VECTOR_GENERAL_PROTECTION, "%s refuses 0x%lx on VP %u", name, value,
                      this_cpu()->index);
    CHECK_EQUAL_NAMED(msr_value(number), before, "%s is unchanged by 0x%lx on VP %u", name, value, this_cpu()->index);
}

static void sints_here(void *unused)
{
    static const uint64_t allowed[] = {
        HV_SINT_MASKED | 0x50,
        0x10,
        0xff,
        0x51 | HV_SINT_AUTO_EOI,
        HV_SINT_MASKED | HV_SINT_AUTO_EOI | 0x52,
        HV_SINT_MASKED | 5, /* a vector that is never raised does not matter */
    };
    (void)unused;
    for (unsigned sint = 0; sint < HV_SINTS; sint++) {
        uint32_t number = HV_MSR_SINT(sint);
        for (unsigned i = 0; i < ARRAY_LENGTH(allowed); i++)
            check_write(number, "a SINT", allowed[i]);
        if (hyperv_has(HV_SINT_POLLING_MODE))
            check_write(number, "a SINT", HV_SINT_POLLING | 0x53);
        check_refused(number, "a SINT", 0);
        check_refused(number, "a SINT", HV_FIRST_VECTOR - 1);
        check_refused(number, "a SINT", HV_SINT_AUTO_EOI | 3);
        check_write(number, "a SINT", HV_SINT_MASKED);
    }
    check_write(HV_MSR_SCONTROL, "SCONTROL", 0);
    check_write(HV_MSR_SCONTROL, "SCONTROL", 1);
    for (uint64_t value = 0; value < 3; value++) {
        CHECK_EQUAL_NAMED(wrmsr_safe(HV_MSR_EOM, value), NO_FAULT, "EOM accepts %lu on VP %u", value, this_cpu()->index);
        CHECK_EQUAL("EOM reads 0", msr_value(HV_MSR_EOM), 0);
    }
}

void sints(void)
{
    if (!hyperv_has(HV_ACCESS_SYNIC))
        return;
    on_each_vp(sints_here, NULL);
}

static void timers_here(void *unused)
{
    (void)unused;
    for (unsigned timer = 0; timer < HV_TIMERS; timer++) {
        uint32_t config = HV_MSR_STIMER_CONFIG(timer), count = HV_MSR_STIMER_COUNT(timer);
        check_write(config, "a timer's configuration", HV_TIMER_SINT(3));
        check_write(config, "a timer's configuration", HV_TIMER_SINT(15) | HV_TIMER_PERIODIC | HV_TIMER_LAZY);
        check_write(config, "a timer's configuration", HV_TIMER_SINT(4) | HV_TIMER_PERIODIC | HV_TIMER_ENABLE);
        CHECK_EQUAL_NAMED(msr_value(count), 0, "the count of timer %u is 0", timer);
        check_write(config, "a timer's configuration", HV_TIMER_SINT(0));
        check_write(count, "a timer's count", UINT64_MAX);
        check_write(count, "a timer's count", 12345);
        CHECK_EQUAL("writing a count does not enable a timer without AutoEnable", msr_value(config), 0);
        check_write(count, "a timer's count", 0);
        if (hyperv_has(HV_DIRECT_TIMERS)) {
            check_write(config, "a timer's configuration", HV_TIMER_DIRECT | HV_TIMER_VECTOR(0x70));
            check_write(config, "a timer's configuration", HV_TIMER_DIRECT | HV_TIMER_VECTOR(0xff) | HV_TIMER_PERIODIC);
        } else {
            check_refused(config, "a timer's configuration", HV_TIMER_DIRECT | HV_TIMER_VECTOR(0x70));
        }
        check_write(config, "a timer's configuration", HV_TIMER_SINT(2) | HV_TIMER_AUTO_ENABLE);
        wrmsr(count, UINT64_MAX);
        CHECK_EQUAL("writing a count enables a timer with AutoEnable", msr_value(config), HV_TIMER_SINT(2) | HV_TIMER_AUTO_ENABLE | HV_TIMER_ENABLE);
        wrmsr(count, 0);
        CHECK_EQUAL("writing count 0 disables a timer", msr_value(config), HV_TIMER_SINT(2) | HV_TIMER_AUTO_ENABLE);
        wrmsr(config, 0);
        if (hyperv_is_kernel_engine()) {
            /* KVM preserves reserved bits, and accepts any vector. */
            CHECK_EQUAL("KVM accepts reserved bits of a timer", wrmsr_safe(config, 1ULL << 40), NO_FAULT);
            wrmsr(config, 0);
            continue;
        }
        for (unsigned bit = 0; bit < 64; bit++)
            if (HV_TIMER_RESERVED >> bit & 1 && (bit < 24 || bit % 8 == 7))
                check_refused(config, "a timer's configuration", 1ULL << bit);
        check_refused(config, "a timer's configuration", HV_TIMER_ENABLE | HV_TIMER_DIRECT | HV_TIMER_VECTOR(15));
        CHECK_EQUAL("writing an enabled timer with SINT 0 does not fault", wrmsr_safe(config, HV_TIMER_ENABLE), NO_FAULT);
        CHECK_EQUAL("a timer with SINT 0 is disabled at once", msr_value(config), 0);
        wrmsr(config, HV_TIMER_AUTO_ENABLE);
        wrmsr(count, UINT64_MAX);
        CHECK_EQUAL("a timer with SINT 0 and AutoEnable is disabled at once", msr_value(config), HV_TIMER_AUTO_ENABLE);
        wrmsr(config, 0);
        wrmsr(count, 0);
    }
}

void timers(void)
{
    if (!hyperv_has(HV_ACCESS_TIMERS))
        return;
    on_each_vp(timers_here, NULL);
}

static uint32_t vp_indices[CPUS_MAX];

static void clocks_here(void *unused)
{
    unsigned cpu = this_cpu()->index;
    (void)unused;
    vp_indices[cpu] = hyperv_vp_index();
    if (hyperv_has(HV_ACCESS_VP_RUNTIME)) {
        uint64_t before = msr_value(HV_MSR_VP_RUNTIME);
        /* The host may account CPU time only at its timer tick. */
        CHECK_NAMED(WAIT_UNTIL(rdmsr(HV_MSR_VP_RUNTIME) > before, PATIENCE_MILLISECONDS),
                    "VP_RUNTIME grows while VP %u runs", cpu);
    }
    if (hyperv_has(HV_ACCESS_REFERENCE_COUNTER)) {
        uint64_t before = msr_value(HV_MSR_TIME_REF_COUNT);
        CHECK_NAMED(WAIT_UNTIL(reference_time() > before, PATIENCE_MILLISECONDS), "TIME_REF_COUNT grows on VP %u", cpu);
    }
}

static void read_frequencies(void *argument)
{
    uint64_t *frequencies = argument;
    frequencies[0] = msr_value(HV_MSR_TSC_FREQUENCY);
    frequencies[1] = msr_value(HV_MSR_APIC_FREQUENCY);
}

void clocks(void)
{
    on_each_vp(clocks_here, NULL);
    for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
        CHECK_NAMED(vp_indices[cpu] < cpu_count, "VP_INDEX of VP %u is below the number of VPs", cpu);
        for (unsigned other = 0; other < cpu; other++)
            CHECK_NAMED(vp_indices[cpu] != vp_indices[other], "VPs %u and %u have different indices", other, cpu);
    }
    if (!hyperv_has(HV_ACCESS_FREQUENCIES))
        return;
    uint64_t first[2];
    read_frequencies(first);
    CHECK_NAMED(first[0] > 100000000 && first[0] < 20000000000, "the TSC's %lu Hz are plausible", first[0]);
    CHECK_NAMED(first[1] > 1000000 && first[1] < 20000000000, "the APIC timer's %lu Hz are plausible", first[1]);
    for (unsigned cpu = 1; cpu < cpu_count; cpu++) {
        uint64_t there[2];
        smp_call(cpu, read_frequencies, there, PATIENCE_MILLISECONDS);
        CHECK_EQUAL_NAMED(there[0], first[0], "VP %u has the same TSC frequency", cpu);
        CHECK_EQUAL_NAMED(there[1], first[1], "VP %u has the same APIC frequency", cpu);
    }
}

static unsigned handled;

/* Handles an interrupt and ends it by the EOI MSR. */
static void end_by_msr(struct interrupt_frame *frame)
{
    (void)frame;
    wrmsr(HV_MSR_EOI, 0);
    atomic_add(&handled, 1);
}

static bool in_service(uint8_t vector)
{
    return apic_read(APIC_IN_SERVICE + vector / 32) >> vector % 32 & 1;
}

static void apic_here(void *unused)
{
    unsigned cpu = this_cpu()->index;
    (void)unused;
    /* Only whole priority classes: on AMD processors, the sub-class is lost in CR8. */
    for (uint32_t priority = 0; priority < 0x100; priority += 0x30) {
        wrmsr(HV_MSR_TPR, priority);
        CHECK_EQUAL_NAMED(apic_read(APIC_TASK_PRIORITY), priority, "writing TPR 0x%x sets the APIC's on VP %u", priority, cpu);
        apic_write(APIC_TASK_PRIORITY, priority ^ 0xf0);
        CHECK_EQUAL_NAMED(msr_value(HV_MSR_TPR), priority ^ 0xf0, "TPR reads the APIC's 0x%x on VP %u",
                          priority ^ 0xf0, cpu);
    }
    wrmsr(HV_MSR_TPR, 0);
    CHECK_EQUAL("EOI with nothing in service does nothing", wrmsr_safe(HV_MSR_EOI, 0), NO_FAULT);
    if (!hyperv_is_kernel_engine()) {
        check_refused(HV_MSR_TPR, "TPR", 0x100);
        check_refused(HV_MSR_TPR, "TPR", 1ULL << 63);
        CHECK_EQUAL("EOI refuses reserved bits", wrmsr_safe(HV_MSR_EOI, 1ULL << 32), VECTOR_GENERAL_PROTECTION);
    }

    /* ICR has the layout of the xAPIC. With a shorthand, the layout of the x2APIC is the same. */
    uint64_t to_self = apic_is_x2apic() ? APIC_TO_SELF : (uint64_t)apic_id() << 56;
    to_self |= APIC_FIXED | APIC_ASSERT;
    for (unsigned round = 0; round < 3; round++) {
        unsigned before = atomic_load(&handled);
        CHECK_EQUAL_NAMED(wrmsr_safe(HV_MSR_ICR, to_self | VECTOR_ICR), NO_FAULT, "VP %u sends an interrupt by ICR", cpu);
        interrupts_on();
        CHECK_NAMED(WAIT_UNTIL(atomic_load(&handled) == before + 1, PATIENCE_MILLISECONDS),
                    "interrupt %u arrives on VP %u, so EOI has ended the one before", round, cpu);
        interrupts_off();
        CHECK_NAMED(!in_service(VECTOR_ICR), "no interrupt is in service after EOI on VP %u", cpu);
    }
    CHECK_EQUAL_NAMED((uint32_t)msr_value(HV_MSR_ICR) & 0xff, VECTOR_ICR, "ICR reads as written on VP %u", cpu);

    /* TPR blocks interrupts of lower priority. */
    unsigned before = interrupts_counted(cpu, VECTOR_LOW_PRIORITY);
    wrmsr(HV_MSR_TPR, 0xf0);
    wrmsr(HV_MSR_ICR, to_self | VECTOR_LOW_PRIORITY);
    wait_with_interrupts(1);
    CHECK_EQUAL_NAMED(interrupts_counted(cpu, VECTOR_LOW_PRIORITY), before, "TPR blocks an interrupt on VP %u", cpu);
    wrmsr(HV_MSR_TPR, 0);
    CHECK_NAMED(wait_for_count(cpu, VECTOR_LOW_PRIORITY, before + 1), "a blocked interrupt is delivered when TPR allows it, on VP %u", cpu);
}

static void end_many_by_msr(void *stop)
{
    interrupts_on();
    while (!atomic_load((unsigned *)stop))
        apic_send(apic_id(), APIC_FIXED | APIC_ASSERT | VECTOR_ICR);
    interrupts_off();
}

/* Ending an interrupt must not lose interrupts that other VPs send at the same time. */
static void end_while_others_send(unsigned cpu)
{
    unsigned stop = 0, lost = 0;
    smp_run(cpu, end_many_by_msr, &stop);
    for (unsigned round = 0; round < 500 && !lost; round++) {
        unsigned counted = interrupts_counted(cpu, VECTOR_LOW_PRIORITY);
        apic_send(cpus[cpu].apic_id, APIC_FIXED | APIC_ASSERT | VECTOR_LOW_PRIORITY);
        lost += !wait_for_count(cpu, VECTOR_LOW_PRIORITY, counted + 1);
    }
    CHECK_EQUAL_NAMED(lost, 0, "no interrupt is lost while VP %u ends others by EOI", cpu);
    atomic_store(&stop, 1);
    CHECK_NAMED(smp_wait(cpu, PATIENCE_MILLISECONDS), "VP %u finishes ending interrupts", cpu);
}

void apic(void)
{
    if (!hyperv_has(HV_ACCESS_APIC))
        return;
    interrupt_set_handler(VECTOR_ICR, end_by_msr);
    count_interrupts(VECTOR_LOW_PRIORITY);
    on_each_vp(apic_here, NULL);
    if (cpu_count > 1)
        end_while_others_send(1);
}

static void write_crash_parameters(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < HV_CRASH_PARAMETERS; i++)
        check_write(HV_MSR_CRASH_PARAMETER(i), "a crash parameter", CRASH_VALUE(i));
}

static void reenlightenment(void)
{
    check_write(HV_MSR_REENLIGHTENMENT_CONTROL, "REENLIGHTENMENT_CONTROL", 0xee | 1 << 16);
    check_write(HV_MSR_REENLIGHTENMENT_CONTROL, "REENLIGHTENMENT_CONTROL", 0);
    check_write(HV_MSR_TSC_EMULATION_CONTROL, "TSC_EMULATION_CONTROL", 1);
    check_write(HV_MSR_TSC_EMULATION_CONTROL, "TSC_EMULATION_CONTROL", 0);
    CHECK_EQUAL("the TSC is not being emulated", msr_value(HV_MSR_TSC_EMULATION_STATUS), 0);
    CHECK_EQUAL("TSC_EMULATION_STATUS can be cleared", wrmsr_safe(HV_MSR_TSC_EMULATION_STATUS, 0), NO_FAULT);
    check_refused(HV_MSR_TSC_EMULATION_STATUS, "TSC_EMULATION_STATUS", 1);
    if (hyperv_is_kernel_engine())
        return;
    check_refused(HV_MSR_REENLIGHTENMENT_CONTROL, "REENLIGHTENMENT_CONTROL", 1 << 8);
    check_refused(HV_MSR_REENLIGHTENMENT_CONTROL, "REENLIGHTENMENT_CONTROL", 1 << 17);
    check_refused(HV_MSR_REENLIGHTENMENT_CONTROL, "REENLIGHTENMENT_CONTROL", 1 << 16 | 15);
    check_refused(HV_MSR_TSC_EMULATION_CONTROL, "TSC_EMULATION_CONTROL", 2);
}

static void read_last_crash_parameter(void *value)
{
    *(uint64_t *)value = msr_value(HV_MSR_CRASH_PARAMETER(HV_CRASH_PARAMETERS - 1));
}

void others(void)
{
    if (hyperv_has(HV_ACCESS_RESET))
        CHECK_EQUAL("writing 0 to RESET does not reset", wrmsr_safe(HV_MSR_RESET, 0), NO_FAULT);
    if (hyperv_has(HV_CRASH_MSRS)) {
        on_each_vp(write_crash_parameters, NULL);
        for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
            uint64_t value = 0;
            smp_call(cpu, read_last_crash_parameter, &value, PATIENCE_MILLISECONDS);
            CHECK_EQUAL_NAMED(value, CRASH_VALUE(HV_CRASH_PARAMETERS - 1), "VP %u shares the crash parameters", cpu);
        }
        CHECK_EQUAL("CRASH_CTL can be written without a report", wrmsr_safe(HV_MSR_CRASH_CONTROL, 0), NO_FAULT);
        CHECK_EQUAL("CRASH_CTL still reads as the supported features", msr_value(HV_MSR_CRASH_CONTROL),
                    HV_CRASH_NOTIFY | HV_CRASH_MESSAGE);
    }
    if (hyperv_has(HV_ACCESS_REENLIGHTENMENT))
        reenlightenment();
    if (hyperv_has(HV_ACCESS_TSC_INVARIANT)) {
        check_write(HV_MSR_TSC_INVARIANT_CONTROL, "TSC_INVARIANT_CONTROL", 1);
        check_refused(HV_MSR_TSC_INVARIANT_CONTROL, "TSC_INVARIANT_CONTROL", 2);
    }
}
