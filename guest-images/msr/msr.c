/*
 * Checks every MSR of the interface on every VP: values at reset, privileges, reserved bits, read-only registers and overlay
 * pages; and that no other MSRs exist.
 *
 * Command line: `lock=on` tests only the Locked bit of HYPERCALL, which remains set until a reset.
 */
#include "msr.h"

const struct msr *msr_table(unsigned *count)
{
    static struct msr table[MSR_TABLE_MAX];
    static unsigned length;
    static const struct msr singles[] = {
        {HV_MSR_GUEST_OS_ID, "GUEST_OS_ID", HV_ACCESS_HYPERCALL_MSRS, READ_WRITE, HAS_RESET_VALUE, 0},
        {HV_MSR_HYPERCALL, "HYPERCALL", HV_ACCESS_HYPERCALL_MSRS, READ_WRITE, HAS_RESET_VALUE, 0},
        {HV_MSR_VP_INDEX, "VP_INDEX", HV_ACCESS_VP_INDEX, READ_ONLY, CHANGES, 0},
        {HV_MSR_RESET, "RESET", HV_ACCESS_RESET, READ_WRITE, HAS_RESET_VALUE, 0},
        {HV_MSR_VP_RUNTIME, "VP_RUNTIME", HV_ACCESS_VP_RUNTIME, READ_ONLY, CHANGES, 0},
        {HV_MSR_TIME_REF_COUNT, "TIME_REF_COUNT", HV_ACCESS_REFERENCE_COUNTER, READ_ONLY, CHANGES, 0},
        {HV_MSR_REFERENCE_TSC, "REFERENCE_TSC", HV_ACCESS_REFERENCE_TSC, READ_WRITE, HAS_RESET_VALUE, 0},
        {HV_MSR_TSC_FREQUENCY, "TSC_FREQUENCY", HV_ACCESS_FREQUENCIES, READ_ONLY, CHANGES, 0},
        {HV_MSR_APIC_FREQUENCY, "APIC_FREQUENCY", HV_ACCESS_FREQUENCIES, READ_ONLY, CHANGES, 0},
        {HV_MSR_EOI, "EOI", HV_ACCESS_APIC, WRITE_ONLY, CHANGES, 0},
        {HV_MSR_ICR, "ICR", HV_ACCESS_APIC, READ_WRITE, CHANGES, 0},
        {HV_MSR_TPR, "TPR", HV_ACCESS_APIC, READ_WRITE, HAS_RESET_VALUE, 0},
        {HV_MSR_VP_ASSIST_PAGE, "VP_ASSIST_PAGE", HV_ACCESS_APIC, READ_WRITE, HAS_RESET_VALUE, 0},
        {HV_MSR_SCONTROL, "SCONTROL", HV_ACCESS_SYNIC, READ_WRITE, HAS_RESET_VALUE, 1},
        {HV_MSR_SVERSION, "SVERSION", HV_ACCESS_SYNIC, READ_ONLY, HAS_RESET_VALUE, 1},
        {HV_MSR_SIEFP, "SIEFP", HV_ACCESS_SYNIC, READ_WRITE, HAS_RESET_VALUE, 0},
        {HV_MSR_SIMP, "SIMP", HV_ACCESS_SYNIC, READ_WRITE, HAS_RESET_VALUE, 0},
        {HV_MSR_EOM, "EOM", HV_ACCESS_SYNIC, READ_WRITE, HAS_RESET_VALUE, 0},
        {HV_MSR_GUEST_IDLE, "GUEST_IDLE", HV_ACCESS_GUEST_IDLE, READ_ONLY, CHANGES, 0},
        {HV_MSR_CRASH_CONTROL, "CRASH_CTL", HV_CRASH_MSRS, READ_WRITE, HAS_RESET_VALUE,
         HV_CRASH_NOTIFY | HV_CRASH_MESSAGE},
        {HV_MSR_REENLIGHTENMENT_CONTROL, "REENLIGHTENMENT_CONTROL", HV_ACCESS_REENLIGHTENMENT, READ_WRITE,
         HAS_RESET_VALUE, 0},
        {HV_MSR_TSC_EMULATION_CONTROL, "TSC_EMULATION_CONTROL", HV_ACCESS_REENLIGHTENMENT, READ_WRITE,
         HAS_RESET_VALUE, 0},
        {HV_MSR_TSC_EMULATION_STATUS, "TSC_EMULATION_STATUS", HV_ACCESS_REENLIGHTENMENT, READ_WRITE, HAS_RESET_VALUE,
         0},
        {HV_MSR_TSC_INVARIANT_CONTROL, "TSC_INVARIANT_CONTROL", HV_ACCESS_TSC_INVARIANT, READ_WRITE, HAS_RESET_VALUE,
         0},
    };
    static const char *const sint_names[HV_SINTS] = {
        "SINT0", "SINT1", "SINT2",  "SINT3",  "SINT4",  "SINT5",  "SINT6",  "SINT7",
        "SINT8", "SINT9", "SINT10", "SINT11", "SINT12", "SINT13", "SINT14", "SINT15"};
    static const char *const config_names[HV_TIMERS] = {
        "STIMER0_CONFIG", "STIMER1_CONFIG", "STIMER2_CONFIG", "STIMER3_CONFIG"};
    static const char *const count_names[HV_TIMERS] = {
        "STIMER0_COUNT", "STIMER1_COUNT", "STIMER2_COUNT", "STIMER3_COUNT"};
    static const char *const crash_names[HV_CRASH_PARAMETERS] = {
        "CRASH_P0", "CRASH_P1", "CRASH_P2", "CRASH_P3", "CRASH_P4"};
    _Static_assert(ARRAY_LENGTH(singles) + HV_SINTS + 2 * HV_TIMERS + HV_CRASH_PARAMETERS <= MSR_TABLE_MAX, "room");

    if (!length) {
        for (; length < ARRAY_LENGTH(singles); length++)
            table[length] = singles[length];
        for (unsigned i = 0; i < HV_SINTS; i++)
            table[length++] = (struct msr){HV_MSR_SINT(i), sint_names[i], HV_ACCESS_SYNIC, READ_WRITE, HAS_RESET_VALUE,
                                           HV_SINT_MASKED};
        for (unsigned i = 0; i < HV_TIMERS; i++) {
            table[length++] = (struct msr){HV_MSR_STIMER_CONFIG(i), config_names[i], HV_ACCESS_TIMERS, READ_WRITE,
                                           HAS_RESET_VALUE, 0};
            table[length++] = (struct msr){HV_MSR_STIMER_COUNT(i), count_names[i], HV_ACCESS_TIMERS, READ_WRITE,
                                           HAS_RESET_VALUE, 0};
        }
        for (unsigned i = 0; i < HV_CRASH_PARAMETERS; i++)
            table[length++] = (struct msr){HV_MSR_CRASH_PARAMETER(i), crash_names[i], HV_CRASH_MSRS, READ_WRITE,
                                           HAS_RESET_VALUE, 0};
    }
    *count = length;
    return table;
}

int main(void)
{
    static const struct test tests[] = {
        {"reset-values", reset_values}, {"privileges", privileges}, {"access", access},
        {"unknown", unknown},           {"guest-os-id", guest_os_id}, {"hypercall", hypercall_register},
        {"overlays", overlays},         {"sints", sints},           {"timers", timers},
        {"clocks", clocks},             {"apic", apic},             {"others", others},
    };
    static const struct test lock[] = {{"lock", hypercall_lock}};

    smp_start_all();
    return command_line_has("lock") ? RUN_CHECKS(lock) : RUN_CHECKS(tests);
}
