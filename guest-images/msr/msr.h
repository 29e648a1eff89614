/*
 * The MSRs of the interface as one table, and the tests of its parts.
 */
#pragma once

#include "counter.h"
#include "hyperv.h"
#include "runtime.h"

struct msr {
    uint32_t number;
    const char *name;
    enum hv_feature needs;
    enum { READ_WRITE, READ_ONLY, WRITE_ONLY } access;
    /* Whether `value` is the value at reset. */
    enum { HAS_RESET_VALUE, CHANGES } content;
    uint64_t value;
};

#define MSR_TABLE_MAX 80
/* Returns the whole table. It is built once, because SINTs, timers and crash parameters are generated. */
const struct msr *msr_table(unsigned *count);

static inline bool msr_is_there(const struct msr *msr)
{
    return hyperv_has(msr->needs);
}

/* Returns the value of an MSR. It is a failed check if it cannot be read. */
static inline uint64_t msr_value(uint32_t number)
{
    uint64_t value = 0;
    if (rdmsr_safe(number, &value) != NO_FAULT)
        CHECK_NAMED(false, "MSR 0x%x can be read", number);
    return value;
}

void reset_values(void);
void privileges(void);
void access(void);
void unknown(void);
void guest_os_id(void);
void hypercall_register(void);
void hypercall_lock(void);
void overlays(void);
void sints(void);
void timers(void);
void clocks(void);
void apic(void);
void others(void);
