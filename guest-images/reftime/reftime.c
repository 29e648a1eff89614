/*
 * Checks the reference time: the MSR, the reference TSC page, and that all VPs read the same clock.
 *
 * To compare two clocks, one is read before and after the other. A host that is slow in between makes the bounds wider,
 * but never wrong.
 */
#include "counter.h"
#include "hyperv.h"
#include "runtime.h"

#define READINGS 100
#define HANDSHAKES 30
#define UNITS_PER_SECOND 10000000ULL
/* Long enough for a frequency of four digits. */
#define MEASURE_MILLISECONDS 50

/* HV_REFERENCE_TSC_PAGE. */
struct reference_page {
    volatile uint32_t sequence;
    uint32_t reserved;
    volatile uint64_t scale;
    volatile int64_t offset;
    uint64_t rest[PAGE_SIZE / 8 - 3];
};
static struct reference_page *page;

/*
 * Returns the largest difference between the page's and the MSR's time, in units of 100 ns. On the user engine, both are
 * computed by the same formula. KVM computes the MSR's time from nanoseconds: rounding can make a difference of one unit,
 * and another one was observed.
 */
static unsigned tolerance(void)
{
    return hyperv_is_kernel_engine() ? 2 : 0;
}

/* Reads the time from the page. Returns false if its sequence is 0, which tells the guest to use the MSR. */
static bool page_time(uint64_t *time)
{
    uint32_t sequence;
    do {
        sequence = page->sequence;
        if (sequence == 0)
            return false;
        *time = (uint64_t)(((unsigned __int128)rdtsc() * page->scale) >> 64) + page->offset;
    } while (page->sequence != sequence);
    return true;
}

static void monotonic_here(void *unused)
{
    unsigned steps_back = 0;
    uint64_t last = 0;
    (void)unused;
    for (unsigned i = 0; i < READINGS; i++) {
        uint64_t now = reference_time();
        steps_back += now < last;
        last = now;
    }
    CHECK_EQUAL_NAMED(steps_back, 0, "the MSR never steps back on VP %u", this_cpu()->index);
    CHECK_NAMED(WAIT_UNTIL(reference_time() > last, PATIENCE_MILLISECONDS), "the MSR advances on VP %u", this_cpu()->index);
    if (!page)
        return;
    uint64_t now;
    steps_back = 0;
    last = 0;
    for (unsigned i = 0; i < READINGS && page_time(&now); i++) {
        steps_back += now < last;
        last = now;
    }
    CHECK_EQUAL_NAMED(steps_back, 0, "the page's clock never steps back on VP %u", this_cpu()->index);
}

static void monotonic(void)
{
    on_each_vp(monotonic_here, NULL);
}

static void enable_page(void)
{
    uint64_t time;
    struct reference_page *memory = pages_allocate(1);
    memset(memory, 0xff, PAGE_SIZE);
    CHECK_EQUAL("the reference TSC page can be enabled",
                wrmsr_safe(HV_MSR_REFERENCE_TSC, (uint64_t)memory | HV_PAGE_ENABLE), NO_FAULT);
    page = memory;
    CHECK("the page's sequence is not 0xffffffff", page->sequence != UINT32_MAX);
    if (!page_time(&time)) {
        CHECK("if the page's sequence is 0, the MSR still has the time", reference_time() > 0);
        if (!hyperv_is_kernel_engine())
            CHECK("a page with sequence 0 has no scale and no offset", page->scale == 0 && page->offset == 0);
        return;
    }
    CHECK_EQUAL("the page's reserved field is zero", page->reserved, 0);
    CHECK("its scale is not zero", page->scale != 0);
}

static void agree_here(void *unused)
{
    unsigned vp = this_cpu()->index, behind = 0, ahead = 0;
    (void)unused;
    for (unsigned i = 0; i < READINGS; i++) {
        uint64_t before = reference_time(), between;
        if (!page_time(&between))
            return;
        uint64_t after = reference_time();
        behind += between + tolerance() < before;
        ahead += between > after + tolerance();
    }
    CHECK_EQUAL_NAMED(behind, 0, "the page's clock is not behind the MSR's on VP %u", vp);
    CHECK_EQUAL_NAMED(ahead, 0, "the page's clock is not ahead of the MSR's on VP %u", vp);
}

static void agree(void)
{
    uint64_t time;
    if (page && page_time(&time))
        on_each_vp(agree_here, NULL);
    else
        CHECK("the MSR has the time if the page is not valid", reference_time() > 0);
}

/* Two VPs read the clock in turns: each reads it only after the other has stored its reading here. */
static struct {
    unsigned partner;
    bool by_page;
    uint64_t time;
    unsigned turn, backward;
} handshake;

static uint64_t told_time(void)
{
    uint64_t time = 0;
    if (!handshake.by_page || !page_time(&time))
        time = reference_time();
    return time;
}

static void take_turns(unsigned self)
{
    for (unsigned round = 0; round < HANDSHAKES; round++) {
        if (!WAIT_UNTIL(atomic_load(&handshake.turn) % 2 == self, PATIENCE_MILLISECONDS))
            return;
        uint64_t time = told_time();
        handshake.backward += time < handshake.time;
        handshake.time = time;
        atomic_add(&handshake.turn, 1);
    }
}

static void partner(void *unused)
{
    (void)unused;
    take_turns(1);
}

static void across_vps(void)
{
    uint64_t time;
    for (unsigned vp = 1; vp < cpu_count; vp++)
        for (unsigned by_page = 0; by_page < 2; by_page++) {
            if (by_page && !(page && page_time(&time)))
                continue;
            memset(&handshake, 0, sizeof handshake);
            handshake.by_page = by_page;
            smp_run(vp, partner, NULL);
            take_turns(0);
            CHECK_NAMED(smp_wait(vp, PATIENCE_MILLISECONDS), "VPs 0 and %u finish taking turns", vp);
            CHECK_EQUAL_NAMED(handshake.turn, 2 * HANDSHAKES, "VPs 0 and %u read the %s in turn", vp,
                              by_page ? "page" : "MSR");
            CHECK_EQUAL_NAMED(handshake.backward, 0, "no reading of VPs 0 and %u is before the previous one by the %s", vp,
                              by_page ? "page" : "MSR");
        }
    if (cpu_count == 1)
        CHECK("a single VP's clock does not step back", reference_time() <= reference_time());
}

struct span {
    uint64_t least, most;
};

/* Returns bounds of the time between two instants, each of which was read before and after. */
static struct span span(const uint64_t begin[2], const uint64_t end[2])
{
    return (struct span){end[0] - begin[1], end[1] - begin[0]};
}

/* Checks a frequency in Hz to 1/500, from the ticks and the bounds (in units of 100 ns) of one span of time. */
static void check_frequency(const char *what, uint64_t hertz, uint64_t ticks, struct span units)
{
    unsigned __int128 measured = (unsigned __int128)ticks * UNITS_PER_SECOND;
    unsigned __int128 least = (unsigned __int128)hertz * units.least, most = (unsigned __int128)hertz * (units.most + 2);
    CHECK_NAMED(measured * 501 >= least * 500, "%s: %lu Hz is not too high", what, hertz);
    CHECK_NAMED(measured * 500 <= most * 501, "%s: %lu Hz is not too low", what, hertz);
}

static void frequencies(void)
{
    if (!hyperv_has(HV_ACCESS_FREQUENCIES)) {
        uint64_t value;
        CHECK_EQUAL("frequencies are not offered", rdmsr_safe(HV_MSR_TSC_FREQUENCY, &value), VECTOR_GENERAL_PROTECTION);
        return;
    }
    uint64_t tsc_hertz = rdmsr(HV_MSR_TSC_FREQUENCY), apic_hertz = rdmsr(HV_MSR_APIC_FREQUENCY);
    uint64_t begin[2], end[2];

    begin[0] = reference_time();
    uint64_t tsc = rdtsc();
    begin[1] = reference_time();
    delay_microseconds(MEASURE_MILLISECONDS * 1000);
    end[0] = reference_time();
    uint64_t ticks = rdtsc() - tsc;
    end[1] = reference_time();
    check_frequency("TSC_FREQUENCY", tsc_hertz, ticks, span(begin, end));

    /* The APIC's timer is masked and counts one tick per cycle of its clock. */
    apic_write(APIC_TIMER, APIC_MASKED | VECTOR_SPURIOUS);
    apic_write(APIC_TIMER_DIVIDE, 0xb);
    begin[0] = reference_time();
    apic_write(APIC_TIMER_INITIAL, UINT32_MAX);
    begin[1] = reference_time();
    delay_microseconds(MEASURE_MILLISECONDS * 1000);
    end[0] = reference_time();
    ticks = UINT32_MAX - apic_read(APIC_TIMER_CURRENT);
    end[1] = reference_time();
    apic_write(APIC_TIMER_INITIAL, 0);
    if (CHECK("the APIC's timer has counted and has not reached 0", ticks != 0 && ticks != UINT32_MAX))
        check_frequency("APIC_FREQUENCY", apic_hertz, ticks, span(begin, end));

    uint64_t time;
    if (page && page_time(&time)) {
        /* The scale is the number of units of 100 ns per tick, times 2^64. */
        unsigned __int128 one = (unsigned __int128)page->scale * tsc_hertz;
        uint64_t units = one >> 64;
        CHECK_NAMED(units >= 9980000 && units <= 10020000, "the page's scale converts one second of TSC_FREQUENCY ticks to one second: %lu units",
                    units);
    }
}

/* Disables the page and enables it at another address: the clock continues. */
static void page_again(void)
{
    uint64_t before = reference_time(), time;
    if (!page)
        return;
    bool was_valid = page_time(&time);
    wrmsr(HV_MSR_REFERENCE_TSC, 0);
    struct reference_page *second = pages_allocate_zeroed(1);
    wrmsr(HV_MSR_REFERENCE_TSC, (uint64_t)second | HV_PAGE_ENABLE);
    page = second;
    CHECK("the page is still valid after it moved", page_time(&time) == was_valid);
    CHECK("the page's clock continues after the move", !was_valid || time >= before);
    CHECK("the MSR continues after the move", reference_time() >= before);
    agree();
}

int main(void)
{
    static const struct test tests[] = {
        {"monotonic", monotonic}, {"page", enable_page}, {"agree", agree},     {"monotonic-by-page", monotonic},
        {"across-vps", across_vps}, {"frequencies", frequencies}, {"page-again", page_again},
    };
    smp_start_all();
    if (!hyperv_has(HV_ACCESS_REFERENCE_COUNTER) || !hyperv_has(HV_ACCESS_REFERENCE_TSC)) {
        CHECK("this image needs a machine with AccessPartitionReferenceCounter and AccessPartitionReferenceTsc", false);
        return EXIT_FAILED;
    }
    return RUN_CHECKS(tests);
}
