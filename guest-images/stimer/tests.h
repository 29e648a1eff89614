/*
 * The tests of the stimer image, and the log in which each VP records expirations.
 */
#pragma once

#include "counter.h"
#include "hyperv.h"
#include "runtime.h"
#include "synic.h"

/* The vector of a timer in direct mode, and the vector of a SINT for messages. */
#define VECTOR_DIRECT(timer) (0x70 + (timer))
#define VECTOR_OF(sint) (0x50 + (sint))
/* The vector of the local APIC's timer. */
#define VECTOR_REMINDER 0x90
/* Each timer's messages go to a SINT of its own unless a test says otherwise. */
#define SINT_OF(timer) (4 + (timer))
/* For tests with a busy slot: the interrupt handler does not take the message. */
#define BUSY_SINT 9

#define LOG_MAX 256
#define MICROSECONDS 10ULL
#define MILLISECONDS REFERENCE_UNITS_PER_MILLISECOND

struct expiration {
    uint32_t timer;
    /* From the message; 0 in direct mode. */
    uint64_t expiration, delivery;
    /* Reference time when the handler ran. */
    uint64_t handled;
};

struct log {
    unsigned count;
    /* If not 0, a timer is stopped after this number of expirations. */
    unsigned quota;
    unsigned by_timer[HV_TIMERS];
    struct expiration entries[LOG_MAX];
};
extern struct log logs[CPUS_MAX];

/* The log of this VP. */
static inline struct log *own_log(void)
{
    return &logs[this_cpu()->index];
}

/* Stops this VP's timers, and clears its slots and its log. */
void start_over(void);
/* Handles pending interrupts: a timer may have sent one just before it was disabled. */
void drain(void);
/* Waits with interrupts enabled until this VP has recorded this number of expirations. Returns false at the time limit. */
bool wait_for_expirations(unsigned count);

static inline void timer_set(unsigned timer, uint64_t config, uint64_t count)
{
    wrmsr(HV_MSR_STIMER_CONFIG(timer), 0);
    wrmsr(HV_MSR_STIMER_COUNT(timer), count);
    wrmsr(HV_MSR_STIMER_CONFIG(timer), config | HV_TIMER_ENABLE);
}

static inline bool timer_is_enabled(unsigned timer)
{
    return rdmsr(HV_MSR_STIMER_CONFIG(timer)) & HV_TIMER_ENABLE;
}

/* Each runs on every VP in turn. */
void one_shot(void *unused);
void direct(void *unused);
void deadlines(void *unused);
void enabling(void *unused);
void periodic(void *unused);
void short_period(void *unused);
void busy_slot(void *unused);
void missed(void *unused);
void shared_sint(void *unused);
void halted(void *unused);
/* This one runs on all VPs at once. */
void all_at_once(void);
