/*
 * The pages of a SynIC, and their content.
 */
#include "synic.h"

#include "pages.h"
#include "smp.h"

struct synic synics[CPUS_MAX];

void synic_enable(void)
{
    struct synic *synic = &synics[this_cpu()->index];
    if (!synic->messages) {
        synic->messages = pages_allocate_zeroed(1);
        synic->flags = pages_allocate_zeroed(1);
    }
    wrmsr(HV_MSR_SIMP, (uint64_t)synic->messages | HV_PAGE_ENABLE);
    wrmsr(HV_MSR_SIEFP, (uint64_t)synic->flags | HV_PAGE_ENABLE);
    wrmsr(HV_MSR_SCONTROL, 1);
}

void synic_disable(void)
{
    for (unsigned sint = 0; sint < HV_SINTS; sint++)
        sint_set(sint, HV_SINT_MASKED);
    wrmsr(HV_MSR_SCONTROL, 0);
    wrmsr(HV_MSR_SIEFP, 0);
    wrmsr(HV_MSR_SIMP, 0);
}

volatile struct message *message_slot(unsigned sint)
{
    return &synics[this_cpu()->index].messages[sint];
}

bool message_free(unsigned sint)
{
    volatile struct message *slot = message_slot(sint);
    /* The order matters: the hypervisor sets the flag and then reads the type again. */
    atomic_store(&slot->type, MESSAGE_NONE);
    return atomic_load(&slot->flags) & MESSAGE_PENDING;
}

bool message_take(unsigned sint, struct message *message)
{
    volatile struct message *slot = message_slot(sint);
    if (atomic_load(&slot->type) == MESSAGE_NONE)
        return false;
    *message = *(const struct message *)slot;
    if (message_free(sint))
        wrmsr(HV_MSR_EOM, 0);
    return true;
}

bool event_flag(unsigned cpu, unsigned sint, unsigned flag)
{
    return atomic_load(&synics[cpu].flags[sint][flag / 64]) >> flag % 64 & 1;
}

void event_flag_clear(unsigned cpu, unsigned sint, unsigned flag)
{
    atomic_and(&synics[cpu].flags[sint][flag / 64], ~(1ULL << flag % 64));
}
