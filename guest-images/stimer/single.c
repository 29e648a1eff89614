/*
 * One-shot timers, and what starts and stops a timer.
 */
#include "tests.h"

/* The first deadline that is tried for an action that must precede it. It is doubled until the host is fast enough. */
#define HEAD_START (5 * MILLISECONDS)
#define ATTEMPTS 12

/* Starts a timer with a deadline, and executes an action before the deadline. Returns the deadline. */
static uint64_t before_deadline(unsigned timer, uint64_t config, void (*act)(unsigned timer, uint64_t deadline))
{
    uint64_t deadline = 0;
    for (unsigned attempt = 0; attempt < ATTEMPTS; attempt++) {
        start_over();
        deadline = reference_time() + (HEAD_START << attempt);
        timer_set(timer, config, deadline);
        act(timer, deadline);
        if (reference_time() < deadline)
            return deadline;
    }
    CHECK_NAMED(false, "VP %u executes an action before a deadline", this_cpu()->index);
    return deadline;
}

static void put_off(unsigned timer, uint64_t deadline)
{
    wrmsr(HV_MSR_STIMER_COUNT(timer), deadline + MILLISECONDS);
}

static void disable(unsigned timer, uint64_t unused)
{
    (void)unused;
    wrmsr(HV_MSR_STIMER_CONFIG(timer), 0);
}

static void clear_count(unsigned timer, uint64_t unused)
{
    (void)unused;
    wrmsr(HV_MSR_STIMER_COUNT(timer), 0);
}

static void start_and_stop_often(unsigned timer, uint64_t deadline)
{
    for (unsigned round = 0; round < 20; round++)
        timer_set(timer, HV_TIMER_SINT(SINT_OF(timer)), deadline);
    disable(timer, 0);
}

void one_shot(void *unused)
{
    unsigned vp = this_cpu()->index;
    (void)unused;
    for (unsigned timer = 0; timer < HV_TIMERS; timer++) {
        start_over();
        uint64_t deadline = reference_time() + 2 * MILLISECONDS;
        timer_set(timer, HV_TIMER_SINT(SINT_OF(timer)), deadline);
        CHECK_NAMED(wait_for_expirations(1), "timer %u of VP %u expires", timer, vp);
        const struct expiration *expiration = &own_log()->entries[0];
        CHECK_EQUAL_NAMED(expiration->timer, timer, "the message on VP %u has timer %u", vp, timer);
        CHECK_EQUAL_NAMED(expiration->expiration, deadline, "timer %u of VP %u expires at its deadline", timer, vp);
        CHECK_NAMED(expiration->delivery >= deadline, "timer %u of VP %u is not delivered before its deadline", timer, vp);
        CHECK_NAMED(expiration->handled >= expiration->delivery, "timer %u of VP %u has no delivery time in the future", timer,
                    vp);
        CHECK_NAMED(!timer_is_enabled(timer), "timer %u of VP %u is disabled when it expires", timer, vp);
        CHECK_EQUAL_NAMED(rdmsr(HV_MSR_STIMER_COUNT(timer)), deadline, "timer %u of VP %u keeps its count", timer, vp);
        wait_with_interrupts(3);
        CHECK_EQUAL_NAMED(own_log()->count, 1, "timer %u of VP %u expires once", timer, vp);
        wrmsr(HV_MSR_STIMER_COUNT(timer), reference_time() + 1);
        wait_with_interrupts(1);
        CHECK_EQUAL_NAMED(own_log()->count, 1, "a new count alone does not start timer %u of VP %u", timer, vp);
    }
    start_over();
}

void direct(void *unused)
{
    unsigned vp = this_cpu()->index;
    (void)unused;
    if (!hyperv_has(HV_DIRECT_TIMERS)) {
        CHECK_EQUAL("direct mode is not offered", wrmsr_safe(HV_MSR_STIMER_CONFIG(0), HV_TIMER_DIRECT),
                    VECTOR_GENERAL_PROTECTION);
        return;
    }
    for (unsigned timer = 0; timer < HV_TIMERS; timer++) {
        uint64_t config = HV_TIMER_DIRECT | HV_TIMER_VECTOR(VECTOR_DIRECT(timer));
        start_over();
        uint64_t deadline = reference_time() + 2 * MILLISECONDS;
        timer_set(timer, config, deadline);
        CHECK_NAMED(wait_for_expirations(1), "timer %u of VP %u interrupts directly", timer, vp);
        CHECK_EQUAL_NAMED(own_log()->entries[0].timer, timer, "the vector is that of timer %u, on VP %u", timer, vp);
        CHECK_NAMED(own_log()->entries[0].handled >= deadline, "direct timer %u of VP %u does not expire before its deadline", timer,
                    vp);
        CHECK_NAMED(!timer_is_enabled(timer), "timer %u of VP %u is disabled when it expires", timer, vp);
        /* Direct mode needs no SINT, and ignores the SINT field. */
        timer_set(timer, config | HV_TIMER_SINT(SINT_OF(timer)), reference_time() + 10);
        CHECK_NAMED(wait_for_expirations(2), "timer %u of VP %u interrupts directly whatever its SINT", timer, vp);
        wait_with_interrupts(2);
        CHECK_EQUAL_NAMED(own_log()->count, 2, "direct timer %u of VP %u expires no more", timer, vp);
        CHECK_EQUAL_NAMED(message_slot(SINT_OF(timer))->type, MESSAGE_NONE, "the slot of timer %u of VP %u is empty",
                          timer, vp);
    }
    start_over();
}

/* Deadlines in the past, changed deadlines, and deadlines that are never reached. */
void deadlines(void *unused)
{
    const uint64_t config = HV_TIMER_SINT(SINT_OF(1));
    unsigned vp = this_cpu()->index;
    (void)unused;
    static const uint64_t past[] = {1, 2, 1000};
    for (unsigned i = 0; i < ARRAY_LENGTH(past); i++) {
        start_over();
        timer_set(1, config, past[i]);
        CHECK_NAMED(wait_for_expirations(1), "a timer with the past deadline %lu expires at once on VP %u", past[i], vp);
        CHECK_EQUAL_NAMED(own_log()->entries[0].expiration, past[i], "the message has the deadline %lu on VP %u", past[i], vp);
    }

    start_over();
    timer_set(1, config, UINT64_MAX);
    wait_with_interrupts(1);
    CHECK_NAMED(timer_is_enabled(1), "a timer with the maximum deadline stays enabled on VP %u", vp);
    CHECK_EQUAL_NAMED(own_log()->count, 0, "a timer with the maximum deadline does not expire on VP %u", vp);
    uint64_t deadline = reference_time() + MILLISECONDS;
    wrmsr(HV_MSR_STIMER_COUNT(1), deadline);
    CHECK_NAMED(wait_for_expirations(1), "a new count is the deadline of a timer that is enabled, on VP %u", vp);
    CHECK_EQUAL_NAMED(own_log()->entries[0].expiration, deadline, "the old count is no longer a deadline, on VP %u", vp);

    deadline = before_deadline(1, config, put_off);
    CHECK_NAMED(wait_for_expirations(1), "a timer whose deadline was postponed expires, on VP %u", vp);
    wait_with_interrupts(2);
    CHECK_EQUAL_NAMED(own_log()->count, 1, "a timer whose deadline was postponed expires once, on VP %u", vp);
    CHECK_EQUAL_NAMED(own_log()->entries[0].expiration, deadline + MILLISECONDS, "a postponed timer expires at the later deadline, on VP %u", vp);
    start_over();
}

void enabling(void *unused)
{
    const uint64_t config = HV_TIMER_SINT(SINT_OF(2));
    unsigned vp = this_cpu()->index;
    (void)unused;

    start_over();
    timer_set(2, config, 0);
    wait_with_interrupts(1);
    CHECK_EQUAL_NAMED(own_log()->count, 0, "a timer with count 0 does not expire, on VP %u", vp);
    wrmsr(HV_MSR_STIMER_CONFIG(2), config | HV_TIMER_ENABLE);
    wrmsr(HV_MSR_STIMER_COUNT(2), reference_time() + MILLISECONDS);
    CHECK_NAMED(wait_for_expirations(1), "a timer that is enabled starts with its count, on VP %u", vp);

    uint64_t deadline = before_deadline(2, config, disable);
    interrupts_on();
    WAIT_UNTIL(reference_time() > deadline + 2 * MILLISECONDS, PATIENCE_MILLISECONDS);
    interrupts_off();
    CHECK_EQUAL_NAMED(own_log()->count, 0, "a timer that was disabled does not expire, on VP %u", vp);

    deadline = before_deadline(2, config, clear_count);
    CHECK_NAMED(!timer_is_enabled(2), "count 0 disables a timer that runs, on VP %u", vp);
    interrupts_on();
    WAIT_UNTIL(reference_time() > deadline + 2 * MILLISECONDS, PATIENCE_MILLISECONDS);
    interrupts_off();
    CHECK_EQUAL_NAMED(own_log()->count, 0, "a timer that count 0 disabled does not expire, on VP %u", vp);

    start_over();
    wrmsr(HV_MSR_STIMER_CONFIG(2), config | HV_TIMER_AUTO_ENABLE);
    for (unsigned round = 1; round <= 3; round++) {
        wrmsr(HV_MSR_STIMER_COUNT(2), reference_time() + MILLISECONDS);
        CHECK_NAMED(wait_for_expirations(round), "AutoEnable starts the timer with each count, time %u on VP %u", round,
                    vp);
        CHECK_NAMED(!timer_is_enabled(2), "a timer with AutoEnable is disabled when it has expired, time %u on VP %u", round, vp);
    }

    deadline = before_deadline(2, config, start_and_stop_often);
    interrupts_on();
    WAIT_UNTIL(reference_time() > deadline + 2 * MILLISECONDS, PATIENCE_MILLISECONDS);
    interrupts_off();
    CHECK_EQUAL_NAMED(own_log()->count, 0, "a timer that is always stopped in time does not expire, on VP %u", vp);

    /* A masked SINT gets the message, without an interrupt. */
    start_over();
    sint_set(SINT_OF(2), VECTOR_OF(SINT_OF(2)) | HV_SINT_MASKED);
    timer_set(2, config, reference_time() + MILLISECONDS);
    interrupts_on();
    CHECK_NAMED(WAIT_UNTIL(atomic_load(&message_slot(SINT_OF(2))->type) == MESSAGE_TIMER_EXPIRED, PATIENCE_MILLISECONDS),
                "a masked SINT gets the timer's message, on VP %u", vp);
    interrupts_off();
    CHECK_EQUAL_NAMED(own_log()->count, 0, "a timer with a masked SINT does not interrupt, on VP %u", vp);
    wrmsr(HV_MSR_STIMER_CONFIG(2), 0);
    message_free(SINT_OF(2));
    sint_set(SINT_OF(2), VECTOR_OF(SINT_OF(2)));
    start_over();
}

/* The local APIC's timer counts at 25 MHz to 1 GHz: one to 43 seconds. */
#define REMINDER_COUNT 0x4000000

static volatile unsigned reminders[CPUS_MAX];

static void on_reminder(struct interrupt_frame *frame)
{
    (void)frame;
    reminders[this_cpu()->index]++;
    apic_end_of_interrupt();
}

/*
 * Halts until so many timers have expired. QEMU's VMRUN loses the delay of interrupts after the guest's STI, so an interrupt is
 * sometimes handled between the STI and the HLT: the APIC's timer ends the halt then. Returns false if it has.
 */
static bool sleep_until(unsigned count)
{
    unsigned before = reminders[this_cpu()->index];
    apic_write(APIC_TIMER_INITIAL, REMINDER_COUNT);
    while (own_log()->count < count)
        wait_for_interrupt();
    apic_write(APIC_TIMER_INITIAL, 0);
    return reminders[this_cpu()->index] == before;
}

/* A timer wakes a halted VP. */
void halted(void *unused)
{
    unsigned vp = this_cpu()->index, woken = 0;
    (void)unused;
    interrupt_set_handler(VECTOR_REMINDER, on_reminder);
    apic_write(APIC_TIMER_DIVIDE, APIC_TIMER_BY_16);
    apic_write(APIC_TIMER, VECTOR_REMINDER | APIC_TIMER_PERIODIC);
    for (unsigned round = 1; round <= 3; round++) {
        start_over();
        uint64_t deadline = reference_time() + 2 * MILLISECONDS;
        timer_set(0, HV_TIMER_SINT(SINT_OF(0)), deadline);
        woken += sleep_until(1);
        CHECK_NAMED(reference_time() >= deadline, "VP %u sleeps until its timer expires, time %u", vp, round);
        if (!hyperv_has(HV_DIRECT_TIMERS))
            continue;
        deadline = reference_time() + 2 * MILLISECONDS;
        timer_set(1, HV_TIMER_DIRECT | HV_TIMER_VECTOR(VECTOR_DIRECT(1)), deadline);
        woken += sleep_until(2);
        CHECK_NAMED(reference_time() >= deadline, "VP %u sleeps until its direct timer expires, time %u", vp, round);
    }
    CHECK_NAMED(woken, "VP %u is woken by its timers", vp);
    start_over();
}
