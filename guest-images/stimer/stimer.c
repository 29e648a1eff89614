/*
 * Synthetic timers: which timers expire, when, how often and in which order.
 *
 * A host may be slow, and a busy one very slow, so no check requires that something happens soon. The checks are that timers
 * expire, not early, the right number of times, in order, and at multiples of their period.
 */
#include "tests.h"

struct log logs[CPUS_MAX] NOT_CLEARED;

static void note(struct expiration expiration)
{
    struct log *log = own_log();
    expiration.handled = reference_time();
    if (log->count < LOG_MAX)
        log->entries[log->count] = expiration;
    if (++log->by_timer[expiration.timer % HV_TIMERS] == log->quota)
        wrmsr(HV_MSR_STIMER_CONFIG(expiration.timer % HV_TIMERS), 0);
    atomic_add(&log->count, 1);
}

static void on_direct(struct interrupt_frame *frame)
{
    note((struct expiration){.timer = frame->vector - VECTOR_DIRECT(0)});
    apic_end_of_interrupt();
}

static void on_message(struct interrupt_frame *frame)
{
    struct message message;
    while (message_take(frame->vector - VECTOR_OF(0), &message))
        note((struct expiration){message.payload.timer.timer, message.payload.timer.expiration,
                                 message.payload.timer.delivery, 0});
    apic_end_of_interrupt();
}

bool wait_for_expirations(unsigned count)
{
    interrupts_on();
    bool reached = WAIT_UNTIL(atomic_load(&own_log()->count) >= count, PATIENCE_MILLISECONDS);
    interrupts_off();
    return reached;
}

/* Returns true if this VP has a pending interrupt of a timer. Only its timers use these vectors. */
static bool is_interrupt_requested(void)
{
    bool requested = false;
    for (unsigned word = VECTOR_OF(0) / 32; word <= VECTOR_DIRECT(HV_TIMERS - 1) / 32; word++)
        requested |= apic_read(APIC_REQUEST + word) != 0;
    return requested;
}

void drain(void)
{
    interrupts_on();
    WAIT_UNTIL(!is_interrupt_requested(), PATIENCE_MILLISECONDS);
    interrupts_off();
}

void start_over(void)
{
    struct message message;
    for (unsigned timer = 0; timer < HV_TIMERS; timer++) {
        wrmsr(HV_MSR_STIMER_CONFIG(timer), 0);
        wrmsr(HV_MSR_STIMER_COUNT(timer), 0);
    }
    drain();
    for (unsigned sint = 0; sint < HV_SINTS; sint++)
        while (message_take(sint, &message))
            ;
    own_log()->count = own_log()->quota = 0;
    for (unsigned timer = 0; timer < HV_TIMERS; timer++)
        own_log()->by_timer[timer] = 0;
}

static void set_up(void *unused)
{
    (void)unused;
    synic_enable();
    for (unsigned sint = 1; sint < HV_SINTS; sint++)
        sint_set(sint, VECTOR_OF(sint));
    start_over();
}

#define ON_EACH_VP(name)                                                                                               \
    static void name##_on_each_vp(void)                                                                                \
    {                                                                                                                  \
        on_each_vp(name, NULL);                                                                                        \
    }

ON_EACH_VP(one_shot)
ON_EACH_VP(direct)
ON_EACH_VP(deadlines)
ON_EACH_VP(enabling)
ON_EACH_VP(periodic)
ON_EACH_VP(short_period)
ON_EACH_VP(busy_slot)
ON_EACH_VP(missed)
ON_EACH_VP(shared_sint)
ON_EACH_VP(halted)

int main(void)
{
    static const struct test tests[] = {
        {"one-shot", one_shot_on_each_vp},
        {"direct", direct_on_each_vp},
        {"deadlines", deadlines_on_each_vp},
        {"enabling", enabling_on_each_vp},
        {"periodic", periodic_on_each_vp},
        {"short-period", short_period_on_each_vp},
        {"busy-slot", busy_slot_on_each_vp},
        {"missed", missed_on_each_vp},
        {"shared-sint", shared_sint_on_each_vp},
        {"halted", halted_on_each_vp},
        {"all-at-once", all_at_once},
    };
    smp_start_all();
    if (!hyperv_has(HV_ACCESS_TIMERS) || !hyperv_has(HV_ACCESS_SYNIC)) {
        CHECK("this image needs a machine with SynIC and synthetic timers", false);
        return EXIT_FAILED;
    }
    for (unsigned sint = 1; sint < HV_SINTS; sint++)
        interrupt_set_handler(VECTOR_OF(sint), on_message);
    count_interrupts(VECTOR_OF(BUSY_SINT));
    for (unsigned timer = 0; timer < HV_TIMERS; timer++)
        interrupt_set_handler(VECTOR_DIRECT(timer), on_direct);
    on_each_vp(set_up, NULL);
    return RUN_CHECKS(tests);
}
