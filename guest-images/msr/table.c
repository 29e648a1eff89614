/*
 * Checks of every MSR in the table, and of MSRs that are not in it, on each VP.
 */
#include "msr.h"

/* Results of a VP. The boot processor checks them, because a CHECK on each VP would mix their output. */
struct found {
    int vector;
    uint64_t value;
};
static struct found found[CPUS_MAX][MSR_TABLE_MAX] NOT_CLEARED;

static void read_all(void *unused)
{
    unsigned count;
    const struct msr *table = msr_table(&count);
    (void)unused;
    for (unsigned i = 0; i < count; i++) {
        /* Reading GUEST_IDLE halts the VP. */
        bool skip = table[i].number == HV_MSR_GUEST_IDLE && msr_is_there(&table[i]);
        struct found *entry = &found[this_cpu()->index][i];
        entry->value = 0;
        entry->vector = skip ? NO_FAULT : rdmsr_safe(table[i].number, &entry->value);
    }
}

/* Must run first, before anything is written. */
void reset_values(void)
{
    unsigned count;
    const struct msr *table = msr_table(&count);
    CHECK("every VP reads its MSRs", smp_run_everywhere(read_all, NULL, PATIENCE_MILLISECONDS));
    for (unsigned cpu = 0; cpu < cpu_count; cpu++)
        for (unsigned i = 0; i < count; i++) {
            bool readable = msr_is_there(&table[i]) && table[i].access != WRITE_ONLY;
            CHECK_EQUAL_NAMED(found[cpu][i].vector, readable ? NO_FAULT : VECTOR_GENERAL_PROTECTION,
                              readable ? "%s can be read on VP %u" : "%s cannot be read on VP %u", table[i].name, cpu);
            if (readable && table[i].content == HAS_RESET_VALUE)
                CHECK_EQUAL_NAMED(found[cpu][i].value, table[i].value, "%s has its reset value on VP %u",
                                  table[i].name, cpu);
        }
}

static void write_what_is_not_there(void *refused)
{
    unsigned count;
    const struct msr *table = msr_table(&count);
    for (unsigned i = 0; i < count; i++)
        if (!msr_is_there(&table[i]))
            atomic_add((unsigned *)refused, wrmsr_safe(table[i].number, 0) == VECTOR_GENERAL_PROTECTION);
}

/* Without its privilege, a register does not exist. Reading it was refused above; writing it must be refused as well. */
void privileges(void)
{
    unsigned count, absent = 0;
    const struct msr *table = msr_table(&count);
    for (unsigned i = 0; i < count; i++) {
        if (msr_is_there(&table[i]))
            continue;
        absent++;
        CHECK_EQUAL_NAMED(wrmsr_safe(table[i].number, 0), VECTOR_GENERAL_PROTECTION,
                          "%s is not offered, and writing it faults", table[i].name);
    }
    unsigned refused = 0;
    smp_run_everywhere(write_what_is_not_there, &refused, PATIENCE_MILLISECONDS);
    CHECK_EQUAL("MSRs that are not offered fault on every VP", refused, absent * cpu_count);
}

static void write_read_only(void *refused)
{
    unsigned count;
    const struct msr *table = msr_table(&count);
    for (unsigned i = 0; i < count; i++)
        if (table[i].access == READ_ONLY)
            atomic_add((unsigned *)refused, wrmsr_safe(table[i].number, 0) == VECTOR_GENERAL_PROTECTION);
}

void access(void)
{
    unsigned count, read_only = 0, refused = 0;
    const struct msr *table = msr_table(&count);
    for (unsigned i = 0; i < count; i++) {
        if (table[i].access == READ_ONLY) {
            read_only++;
            for (unsigned bit = 0; bit < 64; bit += 21)
                CHECK_EQUAL_NAMED(wrmsr_safe(table[i].number, 1ULL << bit), VECTOR_GENERAL_PROTECTION,
                                  "%s is read-only: writing bit %u faults", table[i].name, bit);
        } else if (msr_is_there(&table[i]) && table[i].access == READ_WRITE && table[i].content == HAS_RESET_VALUE &&
                   table[i].number != HV_MSR_CRASH_CONTROL) {
            CHECK_EQUAL_NAMED(wrmsr_safe(table[i].number, table[i].value), NO_FAULT,
                              "%s can be written with its reset value", table[i].name);
            CHECK_EQUAL_NAMED(msr_value(table[i].number), table[i].value, "%s still has that value", table[i].name);
        }
    }
    smp_run_everywhere(write_read_only, &refused, PATIENCE_MILLISECONDS);
    CHECK_EQUAL("read-only MSRs are read-only on every VP", refused, read_only * cpu_count);
}

static bool known[HV_MSR_END - HV_MSR_FIRST];

static bool is_known(uint32_t number)
{
    return known[number - HV_MSR_FIRST];
}

/* The further VPs check only some numbers, because each check is an exit and a fault. */
#define UNKNOWN_STEP 13

static void touch_unknown(void *accepted)
{
    uint64_t value;
    for (uint32_t number = HV_MSR_FIRST; number < HV_MSR_END; number += UNKNOWN_STEP)
        if (!is_known(number))
            atomic_add((unsigned *)accepted, rdmsr_safe(number, &value) != VECTOR_GENERAL_PROTECTION);
}

void unknown(void)
{
    unsigned accepted = 0, count;
    const struct msr *table = msr_table(&count);
    uint64_t value;
    for (unsigned i = 0; i < count; i++)
        known[table[i].number - HV_MSR_FIRST] = true;
    for (uint32_t number = HV_MSR_FIRST; number < HV_MSR_END; number++) {
        if (is_known(number))
            continue;
        CHECK_EQUAL_NAMED(rdmsr_safe(number, &value), VECTOR_GENERAL_PROTECTION, "reading MSR 0x%x, which does not exist, faults", number);
        CHECK_EQUAL_NAMED(wrmsr_safe(number, 0), VECTOR_GENERAL_PROTECTION, "writing MSR 0x%x, which does not exist, faults", number);
    }
    on_each_vp(touch_unknown, &accepted);
    CHECK_EQUAL("MSRs that do not exist fault on every VP", accepted, 0);
    CHECK_EQUAL("there is no MSR below the interface's", rdmsr_safe(HV_MSR_FIRST - 1, &value),
                VECTOR_GENERAL_PROTECTION);
}
