/*
 * The pages of SIMP, SIEFP, VP_ASSIST_PAGE and REFERENCE_TSC.
 *
 * They are overlays, except for the last two on the kernel engine: KVM writes these to guest memory, whose previous content
 * is lost. The content of the page of REFERENCE_TSC is checked by the image reftime.
 */
#include "msr.h"

#define PATTERN 0xa5a5a5a5a5a5a5a5ULL

static const struct page_msr {
    uint32_t number;
    const char *name;
    enum hv_feature needs;
    bool is_per_vp, is_kvms;
} page_msrs[] = {
    {HV_MSR_SIMP, "SIMP", HV_ACCESS_SYNIC, true, false},
    {HV_MSR_SIEFP, "SIEFP", HV_ACCESS_SYNIC, true, false},
    {HV_MSR_VP_ASSIST_PAGE, "VP_ASSIST_PAGE", HV_ACCESS_APIC, true, true},
    {HV_MSR_REFERENCE_TSC, "REFERENCE_TSC", HV_ACCESS_REFERENCE_TSC, false, true},
};

static bool is_overlay(const struct page_msr *msr)
{
    return !(hyperv_is_kernel_engine() && msr->is_kvms);
}

static void fill(uint64_t *page)
{
    memset(page, PATTERN & 0xff, PAGE_SIZE);
}

/* Checks that the words of a range have this value. Checks only some: each takes microseconds on a host that emulates. */
static bool holds(const uint64_t *page, unsigned from, unsigned to, uint64_t value)
{
    for (unsigned i = from; i < to; i += 7)
        if (page[i] != value)
            return false;
    return page[to - 1] == value;
}

static void check_zeroed(const struct page_msr *msr, uint64_t *page, const char *when)
{
    unsigned cpu = this_cpu()->index;
    if (msr->number == HV_MSR_REFERENCE_TSC)
        CHECK_NAMED(!is_overlay(msr) || holds(page, 3, PAGE_SIZE / 8, 0),
                    "%s: behind its fields there are zeros %s", msr->name, when);
    else if (!is_overlay(msr))
        CHECK_NAMED(*(uint32_t *)page == 0, "%s: KVM clears the part that it uses %s, on VP %u", msr->name, when, cpu);
    else
        CHECK_NAMED(holds(page, 0, PAGE_SIZE / 8, 0), "%s shows a page of zeros %s, on VP %u", msr->name, when, cpu);
}

/* On one VP, with two pages of its own. */
static void overlay(const struct page_msr *msr)
{
    unsigned cpu = this_cpu()->index;
    uint64_t *first = pages_allocate(1), *second = pages_allocate(1);
    uint64_t enabled = (uint64_t)first | HV_PAGE_ENABLE;

    fill(first);
    fill(second);
    CHECK_EQUAL_NAMED(wrmsr_safe(msr->number, (uint64_t)first), NO_FAULT, "%s accepts an address on VP %u", msr->name, cpu);
    CHECK_EQUAL_NAMED(msr_value(msr->number), (uint64_t)first, "%s keeps its address on VP %u", msr->name, cpu);
    CHECK_NAMED(holds(first, 0, PAGE_SIZE / 8, PATTERN), "%s covers nothing before it is enabled, on VP %u", msr->name,
                cpu);

    CHECK_EQUAL_NAMED(wrmsr_safe(msr->number, enabled), NO_FAULT, "%s can be enabled on VP %u", msr->name, cpu);
    CHECK_EQUAL_NAMED(msr_value(msr->number), enabled, "%s reads as enabled on VP %u", msr->name, cpu);
    check_zeroed(msr, first, "when it is enabled");

    CHECK_EQUAL_NAMED(wrmsr_safe(msr->number, enabled | 0xffe), NO_FAULT, "%s accepts reserved bits on VP %u", msr->name,
                      cpu);
    CHECK_EQUAL_NAMED(msr_value(msr->number), enabled | 0xffe, "%s preserves reserved bits on VP %u", msr->name, cpu);

    /* What the guest writes to an overlay moves with the overlay. The hypervisor does not write to these bytes. */
    first[PAGE_SIZE / 8 - 1] = 0x1234;
    CHECK_EQUAL_NAMED(wrmsr_safe(msr->number, (uint64_t)second | HV_PAGE_ENABLE), NO_FAULT, "%s can be moved on VP %u",
                      msr->name, cpu);
    if (is_overlay(msr)) {
        CHECK_EQUAL_NAMED(second[PAGE_SIZE / 8 - 1], 0x1234, "%s keeps its content when it moves on VP %u", msr->name, cpu);
        CHECK_NAMED(holds(first, 0, PAGE_SIZE / 8, PATTERN), "%s restores what it covered when it moves on VP %u", msr->name, cpu);
    } else {
        check_zeroed(msr, second, "when it is moved");
        CHECK_EQUAL_NAMED(first[PAGE_SIZE / 8 - 1], 0x1234, "%s leaves its content in the old page on VP %u", msr->name,
                          cpu);
    }

    /* KVM checks the address of REFERENCE_TSC only when it next writes the page. */
    if (is_overlay(msr) || msr->number != HV_MSR_REFERENCE_TSC) {
        CHECK_EQUAL_NAMED(wrmsr_safe(msr->number, page_of_nothing() | HV_PAGE_ENABLE), VECTOR_GENERAL_PROTECTION,
                          "%s cannot lie where there is no memory, on VP %u", msr->name, cpu);
        CHECK_EQUAL_NAMED(msr_value(msr->number), (uint64_t)second | HV_PAGE_ENABLE, "%s did not move, on VP %u",
                          msr->name, cpu);
    }
    CHECK_EQUAL_NAMED(wrmsr_safe(msr->number, page_of_nothing()), NO_FAULT,
                      "%s takes any address while it is disabled, on VP %u", msr->name, cpu);
    if (is_overlay(msr))
        CHECK_NAMED(holds(second, 0, PAGE_SIZE / 8, PATTERN), "%s restores memory when it is disabled, on VP %u", msr->name,
                    cpu);

    fill(first);
    CHECK_EQUAL_NAMED(wrmsr_safe(msr->number, enabled), NO_FAULT, "%s can be enabled again on VP %u", msr->name, cpu);
    check_zeroed(msr, first, "when it is enabled again");
    wrmsr(msr->number, 0);
    if (is_overlay(msr))
        CHECK_NAMED(holds(first, 0, PAGE_SIZE / 8, PATTERN), "%s restores memory when it is disabled again on VP %u", msr->name, cpu);
}

/* Pages of two MSRs at one address: either may be visible, but memory must be restored when both are disabled. */
static void stacked(void)
{
    uint64_t *page = pages_allocate(1);
    fill(page);
    wrmsr(HV_MSR_SIMP, (uint64_t)page | HV_PAGE_ENABLE);
    CHECK_EQUAL("SIEFP can be enabled at the address of SIMP", wrmsr_safe(HV_MSR_SIEFP, (uint64_t)page | HV_PAGE_ENABLE), NO_FAULT);
    CHECK("one of the two pages is visible", holds(page, 0, PAGE_SIZE / 8, 0));
    wrmsr(HV_MSR_SIMP, 0);
    CHECK("the other page is visible when one is disabled", holds(page, 0, PAGE_SIZE / 8, 0));
    wrmsr(HV_MSR_SIEFP, 0);
    CHECK("memory is restored when both pages are disabled", holds(page, 0, PAGE_SIZE / 8, PATTERN));
}

static void overlay_here(void *msr)
{
    overlay(msr);
}

void overlays(void)
{
    for (unsigned i = 0; i < ARRAY_LENGTH(page_msrs); i++) {
        if (!hyperv_has(page_msrs[i].needs))
            continue; /* privileges() checks that it is refused */
        if (page_msrs[i].is_per_vp)
            on_each_vp(overlay_here, (void *)&page_msrs[i]);
        else
            overlay(&page_msrs[i]);
    }
    if (hyperv_has(HV_ACCESS_SYNIC))
        stacked();
}
