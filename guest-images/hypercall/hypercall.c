/*
 * Hypercalls: calling conventions, checks that are the same for all calls, and each call with valid and invalid parameters.
 */
#include "calls.h"

uint8_t *call_input, *call_output;

void put_apic_ids(unsigned count)
{
    struct apic_ids *header = (void *)call_input;
    uint32_t *ids = (uint32_t *)(header + 1);
    *header = (struct apic_ids){.partition = HV_PARTITION_SELF};
    for (unsigned i = 0; i < count; i++)
        ids[i] = cpus[i % cpu_count].apic_id;
}

bool is_answered_by_kvm(uint16_t code)
{
    switch (code) {
    case CALL_NOTIFY_LONG_SPIN_WAIT:
    case CALL_SEND_IPI:
    case CALL_SEND_IPI_EX:
    case CALL_FLUSH_SPACE:
    case CALL_FLUSH_SPACE_EX:
    case CALL_FLUSH_LIST:
    case CALL_FLUSH_LIST_EX:
        return hyperv_is_kernel_engine();
    default:
        return false;
    }
}

int main(void)
{
    static const struct test tests[] = {
        {"before-guest-os-id", before_guest_os_id},
        {"start-vp", start_vp}, /* must run before the other VPs are started */
        {"privilege-level", privilege_level},
        {"unknown-codes", unknown_codes},
        {"input-value", input_value},
        {"addresses", addresses},
        {"repetition", repetition},
        {"fast", fast},
        {"protected-mode", protected_mode},
        {"preserved-registers", preserved_registers},
        {"messages-and-events", messages_and_events},
        {"vp-registers", vp_registers},
        {"interrupts", interrupts},
        {"flushes", flushes},
        {"extended", extended},
        {"all-at-once", all_at_once},
    };
    apic_initialize();
    cpus[0].apic_id = apic_id();
    call_input = pages_allocate_zeroed(1);
    call_output = pages_allocate_zeroed(1);
    if (!hyperv_has(HV_ACCESS_HYPERCALL_MSRS)) {
        uint64_t value;
        CHECK_EQUAL("without the privilege there is no hypercall page", rdmsr_safe(HV_MSR_HYPERCALL, &value),
                    VECTOR_GENERAL_PROTECTION);
        return checks_run(tests, 0);
    }
    if (!CHECK("the hypercall page can be enabled", hypercall_enable()))
        return EXIT_FAILED;
    return RUN_CHECKS(tests);
}
