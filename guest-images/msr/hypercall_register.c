/*
 * GUEST_OS_ID and HYPERCALL, which all VPs share, and the hypercall page.
 */
#include "hypercall.h"
#include "msr.h"

#define PATTERN 0x5a5a5a5a5a5a5a5aULL

static void read_guest_os_id(void *value)
{
    *(uint64_t *)value = msr_value(HV_MSR_GUEST_OS_ID);
}

void guest_os_id(void)
{
    static const uint64_t ids[] = {1, HV_GUEST_OS_ID_TEST, UINT64_MAX, 1ULL << 63, 0x0001040a00003fabULL, 0};
    if (!hyperv_has(HV_ACCESS_HYPERCALL_MSRS))
        return; /* refused above */
    for (unsigned i = 0; i < ARRAY_LENGTH(ids); i++) {
        CHECK_EQUAL_NAMED(wrmsr_safe(HV_MSR_GUEST_OS_ID, ids[i]), NO_FAULT, "GUEST_OS_ID accepts 0x%lx", ids[i]);
        for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
            uint64_t value = ~ids[i];
            smp_call(cpu, read_guest_os_id, &value, PATIENCE_MILLISECONDS);
            CHECK_EQUAL_NAMED(value, ids[i], "GUEST_OS_ID reads 0x%lx on VP %u", ids[i], cpu);
        }
    }
}

/* Returns true if a page still has its pattern. */
static bool is_untouched(const uint64_t *page)
{
    for (unsigned i = 0; i < PAGE_SIZE / 8; i += 7)
        if (page[i] != PATTERN)
            return false;
    return true;
}

static uint64_t *pattern_page(void)
{
    uint64_t *page = pages_allocate(1);
    for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
        page[i] = PATTERN;
    return page;
}

struct direct_call {
    const void *page;
    uint64_t result;
};

/* A call of an unknown code, at a page that may or may not be the hypercall page. */
static void call_at(void *argument)
{
    struct direct_call *call = argument;
    uint64_t result, input = 0x7777, unused = 0;
    register uint64_t third asm("r8") = 0;
    asm volatile("call *%[page]"
                 : "=a"(result), "+c"(input), "+d"(unused), "+r"(third)
                 : [page] "r"(call->page)
                 : "memory", "cc");
    call->result = result;
}

/* Returns true if the page answers a call of an unknown code with the right status. */
static bool answers(const void *page)
{
    struct direct_call call = {page, 0};
    struct fault fault;
    return !catch_fault(call_at, &call, &fault) && RESULT_STATUS(call.result) == STATUS_INVALID_HYPERCALL_CODE;
}

static void answers_here(void *argument)
{
    struct direct_call *call = argument;
    call->result = answers(call->page);
}

void hypercall_register(void)
{
    uint64_t *first = pattern_page(), *second = pattern_page();
    if (!hyperv_has(HV_ACCESS_HYPERCALL_MSRS))
        return;

    wrmsr(HV_MSR_GUEST_OS_ID, 0);
    CHECK_EQUAL("HYPERCALL can be written while GUEST_OS_ID is 0",
                wrmsr_safe(HV_MSR_HYPERCALL, (uint64_t)first | HV_PAGE_ENABLE), NO_FAULT);
    CHECK_EQUAL("HYPERCALL keeps the address and stays disabled while GUEST_OS_ID is 0", msr_value(HV_MSR_HYPERCALL), (uint64_t)first);
    CHECK("no hypercall page appears while GUEST_OS_ID is 0", is_untouched(first));

    wrmsr(HV_MSR_GUEST_OS_ID, HV_GUEST_OS_ID_TEST);
    CHECK("setting GUEST_OS_ID alone shows no hypercall page", is_untouched(first));
    CHECK_EQUAL("HYPERCALL can be enabled", wrmsr_safe(HV_MSR_HYPERCALL, (uint64_t)first | HV_PAGE_ENABLE), NO_FAULT);
    CHECK_EQUAL("HYPERCALL reads as written", msr_value(HV_MSR_HYPERCALL), (uint64_t)first | HV_PAGE_ENABLE);
    CHECK("the hypercall page covers the guest's memory", first[0] != PATTERN);
    CHECK("the hypercall page covers the whole page", first[PAGE_SIZE / 8 - 1] != PATTERN);
    for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
        struct direct_call call = {first, 0};
        smp_call(cpu, answers_here, &call, PATIENCE_MILLISECONDS);
        CHECK_NAMED(call.result, "VP %u can make calls by the page", cpu);
    }

    CHECK_EQUAL("HYPERCALL can be moved", wrmsr_safe(HV_MSR_HYPERCALL, (uint64_t)second | HV_PAGE_ENABLE), NO_FAULT);
    CHECK("the page answers at its new address", answers(second));
    CHECK("the memory at the old address is restored", is_untouched(first));
    CHECK_EQUAL("the reserved bits of HYPERCALL are preserved",
                (wrmsr_safe(HV_MSR_HYPERCALL, (uint64_t)second | 0xffc | HV_PAGE_ENABLE), msr_value(HV_MSR_HYPERCALL)),
                (uint64_t)second | 0xffc | HV_PAGE_ENABLE);
    CHECK("reserved bits of HYPERCALL do not move the page", answers(second));

    CHECK_EQUAL("HYPERCALL cannot be moved to an address without memory",
                wrmsr_safe(HV_MSR_HYPERCALL, page_of_nothing() | HV_PAGE_ENABLE), VECTOR_GENERAL_PROTECTION);
    CHECK("the page still answers at its address", answers(second));

    CHECK_EQUAL("HYPERCALL can be disabled", wrmsr_safe(HV_MSR_HYPERCALL, (uint64_t)second), NO_FAULT);
    CHECK("the memory is restored when HYPERCALL is disabled", is_untouched(second));

    wrmsr(HV_MSR_HYPERCALL, (uint64_t)first | HV_PAGE_ENABLE);
    CHECK("HYPERCALL can be enabled again", answers(first));
    wrmsr(HV_MSR_GUEST_OS_ID, 0);
    CHECK_EQUAL("clearing GUEST_OS_ID disables HYPERCALL", msr_value(HV_MSR_HYPERCALL) & HV_PAGE_ENABLE, 0);
    CHECK("the memory is restored when GUEST_OS_ID is cleared", is_untouched(first));
    wrmsr(HV_MSR_HYPERCALL, 0);
}

void hypercall_lock(void)
{
    uint64_t *page = pattern_page(), *other = pattern_page();
    uint64_t locked = (uint64_t)page | HV_PAGE_ENABLE | HV_HYPERCALL_LOCKED;

    wrmsr(HV_MSR_GUEST_OS_ID, HV_GUEST_OS_ID_TEST);
    if (!hyperv_has(HV_HYPERCALL_LOCK)) {
        CHECK_EQUAL("the Locked bit faults if it is not offered", wrmsr_safe(HV_MSR_HYPERCALL, locked),
                    VECTOR_GENERAL_PROTECTION);
        return;
    }
    CHECK_EQUAL("HYPERCALL can be locked", wrmsr_safe(HV_MSR_HYPERCALL, locked), NO_FAULT);
    CHECK_EQUAL("HYPERCALL shows that it is locked", msr_value(HV_MSR_HYPERCALL), locked);
    CHECK("the page answers", answers(page));
    const uint64_t values[] = {0, locked, locked & ~HV_PAGE_ENABLE, locked & ~HV_HYPERCALL_LOCKED,
                               (uint64_t)other | HV_PAGE_ENABLE, UINT64_MAX};
    for (unsigned i = 0; i < ARRAY_LENGTH(values); i++) {
        CHECK_EQUAL_NAMED(wrmsr_safe(HV_MSR_HYPERCALL, values[i]), VECTOR_GENERAL_PROTECTION,
                          "a locked HYPERCALL cannot be written with 0x%lx", values[i]);
        CHECK_EQUAL_NAMED(msr_value(HV_MSR_HYPERCALL), locked, "a locked HYPERCALL is unchanged by 0x%lx", values[i]);
    }
    CHECK("the page of a locked HYPERCALL still answers", answers(page));
    CHECK("the page of a locked HYPERCALL did not move", is_untouched(other));
}
