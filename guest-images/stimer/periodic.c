/*
 * Periodic timers: times of expiration, missed expirations, busy slots, and timers on all VPs at once.
 */
#include "tests.h"

#define EXPIRATIONS 40
#define SHORT_EXPIRATIONS 60
/* The shortest period, and the number of exits that must fit into it. */
#define SHORTEST_PERIOD (100 * MICROSECONDS)
#define EXITS_A_PERIOD 16
/* Number of missed expirations that a timer makes up for, on the user engine. */
#define CATCH_UP_MAX 16

/* Checks that all expirations in the log are multiples of the period after the first one, and in ascending order. */
static void check_grid(const char *what, unsigned count, uint64_t period)
{
    const struct expiration *entries = own_log()->entries;
    unsigned off_grid = 0, out_of_order = 0, early = 0;
    for (unsigned i = 0; i < count; i++) {
        off_grid += (entries[i].expiration - entries[0].expiration) % period != 0;
        out_of_order += i && entries[i].expiration <= entries[i - 1].expiration;
        early += entries[i].delivery < entries[i].expiration || entries[i].handled < entries[i].delivery;
    }
    CHECK_EQUAL_NAMED(off_grid, 0, "%s: %u expirations are multiples of the period apart on VP %u", what, count, this_cpu()->index);
    CHECK_EQUAL_NAMED(out_of_order, 0, "%s: expirations are in order on VP %u", what, this_cpu()->index);
    CHECK_EQUAL_NAMED(early, 0, "%s: no expiration is delivered early on VP %u", what, this_cpu()->index);
}

void periodic(void *unused)
{
    unsigned vp = this_cpu()->index;
    (void)unused;
    for (unsigned lazy = 0; lazy < 2; lazy++) {
        const uint64_t period = MILLISECONDS;
        const char *name = lazy ? "lazy" : "periodic";
        start_over();
        uint64_t before = reference_time();
        timer_set(3, HV_TIMER_SINT(SINT_OF(3)) | HV_TIMER_PERIODIC | (lazy ? HV_TIMER_LAZY : 0), period);
        uint64_t after = reference_time();
        CHECK_NAMED(wait_for_expirations(EXPIRATIONS), "%s: the timer expires repeatedly on VP %u", name, vp);
        CHECK_NAMED(timer_is_enabled(3), "%s: the timer stays enabled on VP %u", name, vp);
        wrmsr(HV_MSR_STIMER_CONFIG(3), 0);
        uint64_t first = own_log()->entries[0].expiration;
        CHECK_NAMED((first - before) % period <= after - before,
                    "%s: the grid begins when the timer is enabled, on VP %u", name, vp);
        CHECK_NAMED(first >= before + period, "%s: the first period is complete on VP %u", name, vp);
        check_grid(name, EXPIRATIONS, period);
        CHECK_NAMED(own_log()->count <= (reference_time() - before) / period,
                    "%s: there are no more expirations than periods on VP %u", name, vp);
        drain();
        unsigned count = own_log()->count;
        wait_with_interrupts(3);
        CHECK_EQUAL_NAMED(own_log()->count, count, "%s: a disabled timer does not expire on VP %u", name, vp);
    }
    start_over();
}

/*
 * 100 us, where an exit is short against that. KVM sets its timer again before it enters the guest: where that takes longer than
 * the period, the guest executes nothing any more.
 */
static uint64_t short_period_here(void)
{
    enum { READS = 32 };
    uint64_t before = rdmsr(HV_MSR_TIME_REF_COUNT), after = before;
    for (unsigned i = 0; i < READS; i++)
        after = rdmsr(HV_MSR_TIME_REF_COUNT);
    uint64_t least = (after - before) * EXITS_A_PERIOD / READS;
    return least < SHORTEST_PERIOD ? SHORTEST_PERIOD : least;
}

void short_period(void *unused)
{
    unsigned vp = this_cpu()->index;
    uint64_t period = short_period_here();
    (void)unused;
    start_over();
    uint64_t before = reference_time();
    timer_set(0, HV_TIMER_SINT(SINT_OF(0)) | HV_TIMER_PERIODIC, period);
    CHECK_NAMED(wait_for_expirations(SHORT_EXPIRATIONS), "a timer may have a period of %lu us on VP %u",
                (uint64_t)(period / MICROSECONDS), vp);
    wrmsr(HV_MSR_STIMER_CONFIG(0), 0);
    check_grid("short", SHORT_EXPIRATIONS, period);
    CHECK_NAMED(own_log()->count <= (reference_time() - before) / period,
                "short: there are no more expirations than periods on VP %u", vp);
    if (hyperv_has(HV_DIRECT_TIMERS)) {
        start_over();
        before = reference_time();
        timer_set(1, HV_TIMER_DIRECT | HV_TIMER_VECTOR(VECTOR_DIRECT(1)) | HV_TIMER_PERIODIC, period);
        CHECK_NAMED(wait_for_expirations(SHORT_EXPIRATIONS), "a direct timer may have the shortest period on VP %u", vp);
        wrmsr(HV_MSR_STIMER_CONFIG(1), 0);
        CHECK_NAMED(own_log()->count <= (reference_time() - before) / period,
                    "direct, short: there are no more expirations than periods on VP %u", vp);
    }
    start_over();
}

/* A one-shot timer whose slot is busy waits for EOM. */
void busy_slot(void *unused)
{
    volatile struct message *slot = message_slot(BUSY_SINT);
    unsigned vp = this_cpu()->index;
    struct message message;
    (void)unused;
    start_over();
    uint64_t first = reference_time() + MILLISECONDS, second = first + MILLISECONDS;
    timer_set(0, HV_TIMER_SINT(BUSY_SINT), first);
    timer_set(1, HV_TIMER_SINT(BUSY_SINT), second);
    interrupts_on();
    CHECK_NAMED(WAIT_UNTIL(atomic_load(&slot->flags) & MESSAGE_PENDING, PATIENCE_MILLISECONDS),
                "MessagePending says on VP %u that a second timer waits", vp);
    interrupts_off();
    /* KVM reads the time once for each timer. If its thread has to wait in between, the second timer may come first. */
    unsigned timer = slot->payload.timer.timer;
    bool is_reversed = hyperv_is_kernel_engine() && timer == 1;
    CHECK_NAMED(timer == 0 || is_reversed, "the first timer's message is in the slot of VP %u", vp);
    CHECK_EQUAL_NAMED(slot->payload.timer.expiration, is_reversed ? second : first, "the message in the slot of VP %u is unchanged", vp);
    CHECK_NAMED(message_take(BUSY_SINT, &message), "VP %u takes the first message", vp);
    interrupts_on();
    CHECK_NAMED(WAIT_UNTIL(atomic_load(&slot->type) == MESSAGE_TIMER_EXPIRED, PATIENCE_MILLISECONDS),
                "then the second one comes on VP %u", vp);
    interrupts_off();
    CHECK_EQUAL_NAMED(slot->payload.timer.timer, is_reversed ? 0 : 1, "the next message is the second timer's, on VP %u", vp);
    uint64_t deadline = is_reversed ? first : second;
    CHECK_EQUAL_NAMED(slot->payload.timer.expiration, deadline, "the second timer's message has its own deadline, on VP %u", vp);
    CHECK_NAMED(slot->payload.timer.delivery >= deadline, "the second timer's message is not early, on VP %u", vp);
    message_take(BUSY_SINT, &message);
    wait_with_interrupts(1);
    CHECK_NAMED(!timer_is_enabled(0) && !timer_is_enabled(1), "both timers are disabled on VP %u", vp);
    CHECK_EQUAL_NAMED(slot->type, MESSAGE_NONE, "there are no more messages on VP %u", vp);
    start_over();
}

/* A periodic timer whose slot is busy for some periods. */
static void miss(bool lazy)
{
    const uint64_t period = 4 * MILLISECONDS;
    const char *name = lazy ? "a lazy timer" : "a periodic timer";
    volatile struct message *slot = message_slot(BUSY_SINT);
    unsigned vp = this_cpu()->index, gaps = 0;
    struct message message;
    uint64_t expirations[8];

    start_over();
    timer_set(2, HV_TIMER_SINT(BUSY_SINT) | HV_TIMER_PERIODIC | (lazy ? HV_TIMER_LAZY : 0), period);
    interrupts_on();
    WAIT_UNTIL(atomic_load(&slot->type), PATIENCE_MILLISECONDS);
    uint64_t first = slot->payload.timer.expiration;
    WAIT_UNTIL(reference_time() > first + 4 * period, PATIENCE_MILLISECONDS);
    for (unsigned i = 0; i < ARRAY_LENGTH(expirations); i++) {
        WAIT_UNTIL(atomic_load(&slot->type), PATIENCE_MILLISECONDS);
        if (!CHECK_NAMED(message_take(BUSY_SINT, &message), "%s continues after its slot was busy, expiration %u on VP %u", name, i,
                         vp))
            break;
        expirations[i] = message.payload.timer.expiration;
        CHECK_NAMED(message.payload.timer.delivery >= expirations[i], "%s: expiration %u is not early on VP %u", name, i, vp);
        CHECK_EQUAL_NAMED((expirations[i] - first) % period, 0, "%s: expiration %u is at a multiple of the period on VP %u", name, i, vp);
        CHECK_NAMED(!i || expirations[i] > expirations[i - 1], "%s: expiration %u is after the previous one on VP %u", name, i, vp);
        gaps += i > 0 && expirations[i] != expirations[i - 1] + period;
    }
    interrupts_off();
    wrmsr(HV_MSR_STIMER_CONFIG(2), 0);
    uint64_t elapsed = reference_time() - first;
    /* The user engine makes up for missed expirations, unless the host was slower than the maximum that it makes up for. */
    if (!lazy && !hyperv_is_kernel_engine())
        CHECK_NAMED(gaps == 0 || elapsed > CATCH_UP_MAX * period, "%s makes up for missed expirations on VP %u", name, vp);
    else
        CHECK_NAMED(gaps > 0, "%s skips missed expirations on VP %u", name, vp);
    start_over();
}

void missed(void *unused)
{
    (void)unused;
    miss(false);
    miss(true);
}

/* Four timers for one SINT, started in reverse order of their deadlines. */
void shared_sint(void *unused)
{
    unsigned vp = this_cpu()->index;
    (void)unused;
    start_over();
    uint64_t base = reference_time() + 2 * MILLISECONDS;
    for (unsigned timer = 0; timer < HV_TIMERS; timer++)
        timer_set(timer, HV_TIMER_SINT(SINT_OF(0)), base + (HV_TIMERS - timer) * 3 * MILLISECONDS);
    CHECK_NAMED(wait_for_expirations(HV_TIMERS), "four timers share a SINT on VP %u", vp);
    unsigned seen = 0;
    for (unsigned i = 0; i < HV_TIMERS; i++) {
        const struct expiration *entry = &own_log()->entries[i];
        seen |= 1u << entry->timer;
        CHECK_EQUAL_NAMED(entry->expiration, base + (HV_TIMERS - entry->timer) * 3 * MILLISECONDS,
                          "timer %u has its own deadline on VP %u", entry->timer, vp);
    }
    CHECK_EQUAL_NAMED(seen, 0xf, "each of the four timers expires on VP %u", vp);
    wait_with_interrupts(1);
    CHECK_EQUAL_NAMED(own_log()->count, HV_TIMERS, "each of the four timers expires once on VP %u", vp);
    start_over();
}

/* Of each timer. */
#define CROWD_EXPIRATIONS 10

/* Two timers with messages, two direct ones where they are offered, with periods that have no common beat. A VP that is
   slow hears of the highest vectors only, until those timers have had their turn and stop. */
static void run_four(void *failures)
{
    static const uint64_t periods[HV_TIMERS] = {7000 * MICROSECONDS, 11000 * MICROSECONDS, 13000 * MICROSECONDS,
                                                17000 * MICROSECONDS};
    start_over();
    own_log()->quota = CROWD_EXPIRATIONS;
    for (unsigned timer = 0; timer < HV_TIMERS; timer++) {
        bool direct = timer >= 2 && hyperv_has(HV_DIRECT_TIMERS);
        timer_set(timer,
                  HV_TIMER_PERIODIC | (direct ? HV_TIMER_DIRECT | HV_TIMER_VECTOR(VECTOR_DIRECT(timer))
                                              : HV_TIMER_SINT(SINT_OF(timer))),
                  periods[timer]);
    }
    atomic_add((unsigned *)failures, !wait_for_expirations(HV_TIMERS * CROWD_EXPIRATIONS));
    for (unsigned timer = 0; timer < HV_TIMERS; timer++)
        wrmsr(HV_MSR_STIMER_CONFIG(timer), 0);
}

void all_at_once(void)
{
    unsigned failures = 0;
    CHECK("all VPs run all their timers at once", smp_run_everywhere(run_four, &failures, 3 * PATIENCE_MILLISECONDS));
    CHECK_EQUAL("all VPs see the expirations of their timers", failures, 0);
    for (unsigned vp = 0; vp < cpu_count; vp++) {
        unsigned by_timer[HV_TIMERS] = {0}, disorder = 0;
        uint64_t last[HV_TIMERS] = {0};
        for (unsigned i = 0; i < logs[vp].count && i < LOG_MAX; i++) {
            const struct expiration *entry = &logs[vp].entries[i];
            by_timer[entry->timer % HV_TIMERS]++;
            disorder += entry->handled < last[entry->timer % HV_TIMERS];
            last[entry->timer % HV_TIMERS] = entry->handled;
        }
        unsigned silent = 0;
        for (unsigned timer = 0; timer < HV_TIMERS; timer++)
            silent += by_timer[timer] == 0;
        CHECK_EQUAL_NAMED(silent, 0, "each timer of VP %u expires among the others", vp);
        CHECK_EQUAL_NAMED(disorder, 0, "time does not step back on VP %u", vp);
    }
}
