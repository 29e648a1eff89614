/*
 * Checks that the hypervisor's CPUID leaves have the layout of the TLFS ("Feature and Interface Discovery"), are
 * consistent with each other and with the machine, and are the same on all VPs.
 *
 * Command line: `build=N` is the build number that the version must have (default 20348).
 */
#include "counter.h"
#include "hyperv.h"
#include "runtime.h"

#define LEAF_PHYSICAL_BITS 0x80000008
#define OTHER_HYPERVISORS_END 0x40001000
#define HYPERVISOR_LEAVES_STEP 0x100
#define NEVER_NOTIFY 0xffffffff

#define LEAVES (HV_LEAF_LAST - HV_LEAF_FIRST + 1)

static struct cpuid seen[CPUS_MAX][LEAVES] NOT_CLEARED;

static bool equal(struct cpuid left, struct cpuid right)
{
    return left.eax == right.eax && left.ebx == right.ebx && left.ecx == right.ecx && left.edx == right.edx;
}

static bool is_zero(struct cpuid leaf)
{
    return equal(leaf, (struct cpuid){0});
}

static void interface(void)
{
    struct cpuid first = cpuid(HV_LEAF_FIRST), second = cpuid(HV_LEAF_INTERFACE);
    char vendor[13] = {0};
    memcpy(vendor, &first.ebx, 12);
    CHECK("leaf 1 says that there is a hypervisor", cpuid(1).ecx & CPUID_HYPERVISOR_PRESENT);
    CHECK_EQUAL("the last leaf is 0x4000000a", first.eax, HV_LEAF_LAST);
    CHECK("the vendor is Microsoft Hv", text_equal(vendor, "Microsoft Hv"));
    CHECK("the interface is Hv#1", memcmp(&second.eax, "Hv#1", 4) == 0);
    CHECK("the interface leaf's other registers are zero", !second.ebx && !second.ecx && !second.edx);
}

static void version(void)
{
    struct cpuid leaf = cpuid(HV_LEAF_VERSION);
    CHECK_EQUAL("the build is the expected one", leaf.eax, command_line_number("build", 20348));
    CHECK_EQUAL("the version is 10.0", leaf.ebx, 10 << 16);
    CHECK_EQUAL("there is no service pack", leaf.ecx, 0);
    CHECK_EQUAL("there is no service branch or number", leaf.edx, 0);
}

/* Every bit that the TLFS defines, and whether a child partition may have it. */
struct named_bit {
    unsigned bit;
    const char *name;
    bool is_for_us;
};

static const struct named_bit register_privileges[] = {
    {0, "AccessVpRunTimeReg", true},         {1, "AccessPartitionReferenceCounter", true},
    {2, "AccessSynicRegs", true},            {3, "AccessSyntheticTimerRegs", true},
    {4, "AccessIntrCtrlRegs", true},         {5, "AccessHypercallMsrs", true},
    {6, "AccessVpIndex", true},              {7, "AccessResetReg", true},
    {8, "AccessStatsReg", false},            {9, "AccessPartitionReferenceTsc", true},
    {10, "AccessGuestIdleReg", true},        {11, "AccessFrequencyRegs", true},
    {12, "AccessDebugRegs", false},          {13, "AccessReenlightenmentControls", true},
    {14, "AccessRootSchedulerReg", false},   {15, "AccessTscInvariantControls", true},
};
static const struct named_bit call_privileges[] = {
    {0, "CreatePartitions", false},  {1, "AccessPartitionId", false},       {2, "AccessMemoryPool", false},
    {3, "AdjustMessageBuffers", false}, {4, "PostMessages", true},          {5, "SignalEvents", true},
    {6, "CreatePort", false},        {7, "ConnectPort", false},             {8, "AccessStats", false},
    {11, "Debugging", false},        {12, "CpuManagement", false},          {13, "ConfigureProfiler", false},
    {16, "AccessVsm", false},        {17, "AccessVpRegisters", true},       {20, "EnableExtendedHypercalls", true},
    {21, "StartVirtualProcessor", true}, {22, "Isolation", false},
};
static const struct named_bit features[] = {
    {0, "MWAIT", false},
    {1, "GuestDebuggingAvailable", false},
    {2, "PerformanceMonitorsAvailable", false},
    {3, "CpuDynamicPartitioningAvailable", false},
    {4, "XmmRegistersForFastHypercallAvailable", true},
    {5, "GuestIdleAvailable", true},
    {6, "HypervisorSleepStateSupportAvailable", false},
    {7, "NumaDistanceQueryAvailable", false},
    {8, "FrequencyRegsAvailable", true},
    {9, "SyntheticMachineCheckAvailable", false},
    {10, "GuestCrashRegsAvailable", true},
    {11, "DebugRegsAvailable", false},
    {12, "Npiep1Available", false},
    {13, "DisableHypervisorAvailable", false},
    {14, "ExtendedGvaRangesForFlushVirtualAddressListAvailable", false},
    {15, "FastHypercallOutputAvailable", true},
    {17, "SintPollingModeAvailable", true},
    {18, "HypercallMsrLockAvailable", true},
    {19, "DirectSyntheticTimers", true},
    {20, "RegisterPatAvailable", false},
    {21, "RegisterBndcfgsAvailable", false},
    {23, "SyntheticTimeUnhaltedTimerAvailable", false},
    {26, "LbrAvailable", false},
};
static const struct named_bit hints[] = {
    {0, "UseHypercallForAddressSpaceSwitch", false},
    {1, "UseHypercallForLocalFlush", false},
    {2, "UseHypercallForRemoteFlushAndLocalFlushEntire", true},
    {3, "UseApicMsrs", true},
    {4, "UseHvRegisterForReset", true},
    {5, "UseRelaxedTiming", true},
    {6, "UseDmaRemapping", false},
    {7, "UseInterruptRemapping", false},
    {8, "UseX2ApicMsrs", false},
    {9, "DeprecateAutoEoi", true},
    {10, "UseSyntheticClusterIpi", true},
    {11, "UseExProcessorMasks", true},
    {12, "IsNested", false},
    {13, "UseIntForMbecSystemCalls", false},
    {14, "UseVmcsEnlightenments", false},
    {15, "UseSyncedTimeline", false},
    {17, "UseDirectLocalFlushEntire", false},
    {18, "NoNonArchitecturalCoreSharing", true},
};

static void check_bits(const char *where, uint32_t value, const struct named_bit *bits, unsigned count)
{
    uint32_t reserved = UINT32_MAX;
    for (unsigned i = 0; i < count; i++) {
        reserved &= ~(1u << bits[i].bit);
        if (!bits[i].is_for_us)
            CHECK_NAMED(!(value >> bits[i].bit & 1), "%s is not given to a guest", bits[i].name);
    }
    CHECK_EQUAL_NAMED(value & reserved, 0, "the reserved bits of %s are zero", where);
}

static void bits(void)
{
    struct cpuid leaf = cpuid(HV_LEAF_FEATURES);
    check_bits("0x40000003 EAX", leaf.eax, register_privileges, ARRAY_LENGTH(register_privileges));
    check_bits("0x40000003 EBX", leaf.ebx, call_privileges, ARRAY_LENGTH(call_privileges));
    check_bits("0x40000003 EDX", leaf.edx, features, ARRAY_LENGTH(features));
    CHECK_EQUAL("0x40000003 ECX, power management, is zero", leaf.ecx, 0);
    check_bits("0x40000004 EAX", cpuid(HV_LEAF_HINTS).eax, hints, ARRAY_LENGTH(hints));
}

/* Features that need another feature. */
static void dependencies(void)
{
    static const struct {
        const char *name;
        enum hv_feature feature, needs;
        const char *needed;
    } pairs[] = {
        {"AccessSyntheticTimerRegs", HV_ACCESS_TIMERS, HV_ACCESS_REFERENCE_COUNTER, "the reference counter"},
        {"AccessPartitionReferenceTsc", HV_ACCESS_REFERENCE_TSC, HV_ACCESS_REFERENCE_COUNTER, "the reference counter"},
        {"PostMessages", HV_POST_MESSAGES, HV_ACCESS_HYPERCALL_MSRS, "the hypercall MSRs"},
        {"SignalEvents", HV_SIGNAL_EVENTS, HV_ACCESS_HYPERCALL_MSRS, "the hypercall MSRs"},
        {"AccessVpRegisters", HV_ACCESS_VP_REGISTERS, HV_ACCESS_HYPERCALL_MSRS, "the hypercall MSRs"},
        {"EnableExtendedHypercalls", HV_EXTENDED_HYPERCALLS, HV_ACCESS_HYPERCALL_MSRS, "the hypercall MSRs"},
        {"StartVirtualProcessor", HV_START_VIRTUAL_PROCESSOR, HV_ACCESS_HYPERCALL_MSRS, "the hypercall MSRs"},
        {"XMM input", HV_XMM_INPUT, HV_ACCESS_HYPERCALL_MSRS, "the hypercall MSRs"},
        {"fast output", HV_FAST_OUTPUT, HV_ACCESS_HYPERCALL_MSRS, "the hypercall MSRs"},
        {"HypercallMsrLockAvailable", HV_HYPERCALL_LOCK, HV_ACCESS_HYPERCALL_MSRS, "the hypercall MSRs"},
        {"DirectSyntheticTimers", HV_DIRECT_TIMERS, HV_ACCESS_TIMERS, "synthetic timers"},
        {"SintPollingModeAvailable", HV_SINT_POLLING_MODE, HV_ACCESS_SYNIC, "the SynIC"},
        {"FrequencyRegsAvailable", HV_FREQUENCIES, HV_ACCESS_FREQUENCIES, "the privilege"},
        {"AccessFrequencyRegs", HV_ACCESS_FREQUENCIES, HV_FREQUENCIES, "the feature"},
        {"GuestIdleAvailable", HV_GUEST_IDLE, HV_ACCESS_GUEST_IDLE, "the privilege"},
        {"the hint for flushes", HV_USE_FLUSHES, HV_ACCESS_HYPERCALL_MSRS, "the hypercall MSRs"},
        {"the hint for flushes", HV_USE_FLUSHES, HV_ACCESS_VP_INDEX, "VP_INDEX"},
        {"the hint for APIC MSRs", HV_USE_APIC_MSRS, HV_ACCESS_APIC, "the privilege"},
        {"the hint for RESET", HV_USE_RESET, HV_ACCESS_RESET, "the privilege"},
        {"the hint for cluster IPIs", HV_USE_CLUSTER_IPI, HV_ACCESS_HYPERCALL_MSRS, "the hypercall MSRs"},
        {"the hint for cluster IPIs", HV_USE_CLUSTER_IPI, HV_ACCESS_VP_INDEX, "VP_INDEX"},
        {"the hint for Ex masks", HV_USE_EX_MASKS, HV_ACCESS_VP_INDEX, "VP_INDEX"},
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(pairs); i++)
        CHECK_NAMED(!hyperv_has(pairs[i].feature) || hyperv_has(pairs[i].needs), "%s is not offered without %s",
                    pairs[i].name, pairs[i].needed);
    CHECK("flushes are not offered by an engine that cannot flush", hyperv_is_kernel_engine() || !hyperv_has(HV_USE_FLUSHES));
    CHECK("SINT polling is not offered by an engine that ignores it",
          !hyperv_is_kernel_engine() || !hyperv_has(HV_SINT_POLLING_MODE));
}

static void limits(void)
{
    struct cpuid hint = cpuid(HV_LEAF_HINTS), limit = cpuid(HV_LEAF_LIMITS);
    uint32_t physical_bits = hint.ecx & 0x7f;
    CHECK("the number of spinlock retries before a call is not 0", hint.ebx != 0);
    CHECK("the user engine, where the call is an exit, asks for no notification of spinlocks",
          hyperv_is_kernel_engine() || hint.ebx == NEVER_NOTIFY);
    CHECK("the width of physical addresses is the processor's, or 0",
          physical_bits == 0 || physical_bits == (cpuid(LEAF_PHYSICAL_BITS).eax & 0xff));
    CHECK_EQUAL("the reserved bits of 0x40000004 ECX are zero", hint.ecx & ~0x7fu, 0);
    CHECK_EQUAL("0x40000004 EDX is zero", hint.edx, 0);
    CHECK_NAMED(limit.eax >= cpu_count, "a partition may have %u VPs, and this one has %u", limit.eax, cpu_count);
    CHECK("there may be as many logical processors as VPs here", limit.ebx >= cpu_count);
    CHECK_EQUAL("0x40000005 ECX: no interrupt vectors for remapping", limit.ecx, 0);
    CHECK_EQUAL("0x40000005 EDX is zero", limit.edx, 0);
}

/* Leaves about hardware features, the root partition and nested virtualization must be zero. */
static void other_leaves(void)
{
    CHECK("0x40000006: no hardware feature is in use for the guest", is_zero(cpuid(HV_LEAF_HARDWARE)));
    for (uint32_t leaf = HV_LEAF_HARDWARE + 1; leaf < HV_LEAF_NESTED; leaf++)
        CHECK_NAMED(is_zero(cpuid(leaf)), "leaf 0x%x is zero", leaf);
    CHECK("0x4000000a: there is no nested virtualization", is_zero(cpuid(HV_LEAF_NESTED)));
}

/*
 * Leaves after the last one are zero, or, as on an Intel processor, the same as the last basic leaf.
 */
static void behind_the_last(void)
{
    struct cpuid out_of_range = cpuid(cpuid(0).eax);
    for (uint32_t leaf = HV_LEAF_LAST + 1; leaf < HV_LEAF_FIRST + 0x20; leaf++) {
        struct cpuid value = cpuid(leaf);
        CHECK_NAMED(is_zero(value) || equal(value, out_of_range), "there is no leaf 0x%x", leaf);
    }
    for (uint32_t base = HV_LEAF_FIRST + HYPERVISOR_LEAVES_STEP; base < OTHER_HYPERVISORS_END;
         base += HYPERVISOR_LEAVES_STEP) {
        struct cpuid value = cpuid(base);
        CHECK_NAMED(is_zero(value) || equal(value, out_of_range), "there are no leaves of another hypervisor at 0x%x", base);
    }
}

static void subleaves(void)
{
    for (uint32_t leaf = HV_LEAF_FIRST; leaf <= HV_LEAF_LAST; leaf++)
        CHECK_NAMED(equal(cpuid_subleaf(leaf, 1), cpuid(leaf)) && equal(cpuid_subleaf(leaf, UINT32_MAX), cpuid(leaf)),
                    "leaf 0x%x does not depend on ECX", leaf);
}

static void look(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < LEAVES; i++)
        seen[this_cpu()->index][i] = cpuid(HV_LEAF_FIRST + i);
}

static void everywhere(void)
{
    CHECK("every VP reads the leaves", smp_run_everywhere(look, NULL, PATIENCE_MILLISECONDS));
    for (unsigned cpu = 0; cpu < cpu_count; cpu++)
        for (unsigned i = 0; i < LEAVES; i++)
            CHECK_NAMED(equal(seen[cpu][i], cpuid(HV_LEAF_FIRST + i)), "VP %u sees the same leaf 0x%x", cpu,
                        HV_LEAF_FIRST + i);
}

int main(void)
{
    static const struct test tests[] = {
        {"interface", interface},       {"version", version},     {"bits", bits},
        {"dependencies", dependencies}, {"limits", limits},       {"other-leaves", other_leaves},
        {"behind-the-last", behind_the_last}, {"subleaves", subleaves}, {"everywhere", everywhere},
    };
    smp_start_all();
    return RUN_CHECKS(tests);
}
