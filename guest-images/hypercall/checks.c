/*
 * Checks that are the same for all calls: call codes, bits of the input value, addresses of parameters, reps.
 */
#include "calls.h"

/* The calls of the interface, with their privileges and parameters. */
static const struct call {
    uint16_t code;
    const char *name;
    bool has_privilege; /* the call needs a privilege */
    enum hv_feature needs;
    bool reps, variable;
    unsigned input; /* length of the header and of one element, in bytes */
} calls[] = {
    {CALL_NOTIFY_LONG_SPIN_WAIT, "HvCallNotifyLongSpinWait", false, 0, false, false, 8},
    {CALL_FLUSH_SPACE, "HvCallFlushVirtualAddressSpace", true, HV_USE_FLUSHES, false, false, 24},
    {CALL_FLUSH_LIST, "HvCallFlushVirtualAddressList", true, HV_USE_FLUSHES, true, false, 24},
    {CALL_FLUSH_SPACE_EX, "HvCallFlushVirtualAddressSpaceEx", true, HV_USE_FLUSHES, false, true, 32},
    {CALL_FLUSH_LIST_EX, "HvCallFlushVirtualAddressListEx", true, HV_USE_FLUSHES, true, true, 32},
    {CALL_SEND_IPI, "HvCallSendSyntheticClusterIpi", true, HV_USE_CLUSTER_IPI, false, false, 16},
    {CALL_SEND_IPI_EX, "HvCallSendSyntheticClusterIpiEx", true, HV_USE_CLUSTER_IPI, false, true, 24},
    {CALL_GET_VP_REGISTERS, "HvCallGetVpRegisters", true, HV_ACCESS_VP_REGISTERS, true, false, 16},
    {CALL_SET_VP_REGISTERS, "HvCallSetVpRegisters", true, HV_ACCESS_VP_REGISTERS, true, false, 16},
    {CALL_POST_MESSAGE, "HvCallPostMessage", true, HV_POST_MESSAGES, false, false, 256},
    {CALL_SIGNAL_EVENT, "HvCallSignalEvent", true, HV_SIGNAL_EVENTS, false, false, 8},
    {CALL_START_VIRTUAL_PROCESSOR, "HvCallStartVirtualProcessor", true, HV_START_VIRTUAL_PROCESSOR, false, false, 240},
    {CALL_GET_VP_INDEX_FROM_APIC_ID, "HvCallGetVpIndexFromApicId", true, HV_START_VIRTUAL_PROCESSOR, true, false, 16},
    {CALL_EXT_QUERY_CAPABILITIES, "HvExtCallQueryCapabilities", true, HV_EXTENDED_HYPERCALLS, false, false, 0},
    {CALL_EXT_GET_BOOT_ZEROED_MEMORY, "HvExtCallGetBootZeroedMemory", true, HV_EXTENDED_HYPERCALLS, false, false, 0},
};

static bool is_offered(const struct call *call)
{
    /* For KVM, the recommendation is the privilege. */
    if (call->code == CALL_NOTIFY_LONG_SPIN_WAIT)
        return !hyperv_is_kernel_engine() || cpuid(HV_LEAF_HINTS).ebx != UINT32_MAX;
    return !call->has_privilege || hyperv_has(call->needs);
}

static bool is_known(uint16_t code)
{
    for (unsigned i = 0; i < ARRAY_LENGTH(calls); i++)
        if (calls[i].code == code)
            return true;
    return false;
}

void unknown_codes(void)
{
    static const uint16_t far[] = {0x0100, 0x0fff, 0x1000, 0x7fff, 0x8000, 0x8003, 0x8fff, 0xffff};
    for (uint16_t code = 0; code < 0x100; code++)
        if (!is_known(code))
            CHECK_EQUAL_NAMED(hypercall(code, 0, 0), STATUS_INVALID_HYPERCALL_CODE, "there is no call 0x%x", code);
    for (unsigned i = 0; i < ARRAY_LENGTH(far); i++) {
        CHECK_EQUAL_NAMED(hypercall(far[i], 0, 0), STATUS_INVALID_HYPERCALL_CODE, "there is no call 0x%x", far[i]);
        CHECK_EQUAL_NAMED(hypercall(far[i] | CALL_FAST | CALL_REPS(7) | CALL_START(3) | CALL_VARIABLE(2), 1, 2),
                          STATUS_INVALID_HYPERCALL_CODE, "there is no call 0x%x with reps either", far[i]);
    }
}

static void check_input_value(const struct call *call)
{
    uint64_t good = call->code | (call->reps ? CALL_REPS(1) : 0);
    if (!is_offered(call)) {
        CHECK_EQUAL_NAMED(status_of(good), STATUS_ACCESS_DENIED, "%s is not offered", call->name);
        CHECK_EQUAL_NAMED(status_of(good | 1ULL << 63), STATUS_ACCESS_DENIED, "%s is not offered, whatever the input",
                          call->name);
        return;
    }
    for (unsigned bit = 0; bit < 64; bit++)
        if ((CALL_RESERVED | CALL_NESTED) >> bit & 1)
            CHECK_EQUAL_NAMED(hypercall(good | 1ULL << bit, gpa(call_input), gpa(call_output)),
                              STATUS_INVALID_HYPERCALL_INPUT, "%s refuses reserved bit %u", call->name, bit);
    if (call->reps) {
        CHECK_EQUAL_NAMED(status_of(call->code), STATUS_INVALID_HYPERCALL_INPUT, "%s without a rep count is refused", call->name);
        CHECK_EQUAL_NAMED(status_of(call->code | CALL_START(1)), STATUS_INVALID_HYPERCALL_INPUT,
                          "%s wants a rep count above the start index", call->name);
        CHECK_EQUAL_NAMED(status_of(call->code | CALL_REPS(4) | CALL_START(4)), STATUS_INVALID_HYPERCALL_INPUT,
                          "%s wants a start index below the rep count", call->name);
    } else {
        CHECK_EQUAL_NAMED(status_of(call->code | CALL_REPS(1)), STATUS_INVALID_HYPERCALL_INPUT, "%s with a rep count is refused",
                          call->name);
        CHECK_EQUAL_NAMED(status_of(call->code | CALL_REPS(2) | CALL_START(1)), STATUS_INVALID_HYPERCALL_INPUT,
                          "%s has no start index", call->name);
    }
    if (!call->variable)
        CHECK_EQUAL_NAMED(status_of(good | CALL_VARIABLE(1)), STATUS_INVALID_HYPERCALL_INPUT,
                          "%s has no variable header", call->name);
}

void input_value(void)
{
    for (unsigned i = 0; i < ARRAY_LENGTH(calls); i++)
        check_input_value(&calls[i]);
}

/* Addresses of input. Calls that KVM answers itself are less strict: KVM reads wherever it can. */
static void check_input_address(const struct call *call)
{
    uint64_t good = call->code | (call->reps ? CALL_REPS(1) : 0);
    uint64_t page = gpa(call_input);
    if (!is_offered(call) || !call->input || is_answered_by_kvm(call->code))
        return;
    for (unsigned offset = 1; offset < 8; offset++)
        CHECK_EQUAL_NAMED(hypercall(good, page + offset, gpa(call_output)), STATUS_INVALID_ALIGNMENT,
                          "%s refuses input at an address plus %u", call->name, offset);
    if (call->input > 8) /* eight aligned bytes cannot cross a page */
        CHECK_EQUAL_NAMED(hypercall(good, page + PAGE_SIZE - call->input + 8, gpa(call_output)),
                          STATUS_INVALID_ALIGNMENT, "%s refuses input that crosses a page", call->name);
    CHECK_EQUAL_NAMED(hypercall(good, page_of_nothing(), gpa(call_output)), STATUS_INVALID_ALIGNMENT,
                      "%s refuses input where there is no memory", call->name);
    CHECK_EQUAL_NAMED(hypercall(good, UINT64_MAX - 7, gpa(call_output)), STATUS_INVALID_ALIGNMENT,
                      "%s refuses input at the end of all addresses", call->name);
}

static void check_output_address(const char *name, uint64_t input, unsigned size)
{
    uint64_t in = gpa(call_input), out = gpa(call_output);
    for (unsigned offset = 1; offset < 8; offset++)
        CHECK_EQUAL_NAMED(hypercall(input, in, out + offset), STATUS_INVALID_ALIGNMENT,
                          "%s refuses output at an address plus %u", name, offset);
    if (size > 8)
        CHECK_EQUAL_NAMED(hypercall(input, in, out + PAGE_SIZE - size + 8), STATUS_INVALID_ALIGNMENT,
                          "%s refuses output that crosses a page", name);
    CHECK_EQUAL_NAMED(hypercall(input, in, page_of_nothing()), STATUS_INVALID_ALIGNMENT,
                      "%s refuses output where there is no memory", name);
    CHECK_EQUAL_NAMED(hypercall(input, in, UINT64_MAX - 7), STATUS_INVALID_ALIGNMENT,
                      "%s refuses output at the end of all addresses", name);
    CHECK_EQUAL_NAMED(RESULT_STATUS(hypercall(input, in, out + PAGE_SIZE - size)), STATUS_SUCCESS,
                      "%s takes output that ends with its page", name);
}

void addresses(void)
{
    memset(call_input, 0, PAGE_SIZE);
    for (unsigned i = 0; i < ARRAY_LENGTH(calls); i++)
        check_input_address(&calls[i]);
    if (hyperv_has(HV_START_VIRTUAL_PROCESSOR)) {
        put_apic_ids(10);
        check_output_address("HvCallGetVpIndexFromApicId", CALL_GET_VP_INDEX_FROM_APIC_ID | CALL_REPS(10), 40);
    }
    if (hyperv_has(HV_EXTENDED_HYPERCALLS)) {
        check_output_address("HvExtCallQueryCapabilities", CALL_EXT_QUERY_CAPABILITIES, 8);
        check_output_address("HvExtCallGetBootZeroedMemory", CALL_EXT_GET_BOOT_ZEROED_MEMORY, 4088);
    }
}

/* Lists that are short, that need several exits, that begin in the middle, and that stop at an invalid element. */
void repetition(void)
{
    static const unsigned counts[] = {1, 2, 3, 127, 128, 129, 256, 257, 600, 1000};
    const uint64_t code = CALL_GET_VP_INDEX_FROM_APIC_ID;
    uint32_t *indices = (uint32_t *)call_output, *ids = (uint32_t *)(call_input + sizeof(struct apic_ids));
    if (!hyperv_has(HV_START_VIRTUAL_PROCESSOR))
        return; /* refused in input_value() */
    for (unsigned i = 0; i < ARRAY_LENGTH(counts); i++) {
        unsigned count = counts[i], wrong = 0;
        put_apic_ids(count);
        memset(call_output, 0xff, PAGE_SIZE);
        uint64_t result = hypercall(code | CALL_REPS(count), gpa(call_input), gpa(call_output));
        CHECK_EQUAL_NAMED(RESULT_STATUS(result), STATUS_SUCCESS, "a list of %u elements is accepted", count);
        CHECK_EQUAL_NAMED(RESULT_REPS(result), count, "all %u reps of a list are completed", count);
        for (unsigned at = 0; at < count; at++)
            wrong += indices[at] != at % cpu_count;
        CHECK_EQUAL_NAMED(wrong, 0, "each of %u elements has its own answer", count);
        /* Output is padded to eight bytes. */
        CHECK_EQUAL_NAMED(indices[(count + 1) & ~1u], UINT32_MAX, "nothing is written after %u answers", count);

        struct hypercall_registers registers = {.rcx = code | CALL_REPS(count) | CALL_START(count / 2),
                                                .rdx = gpa(call_input), .r8 = gpa(call_output)};
        memset(call_output, 0xff, PAGE_SIZE);
        CHECK_EQUAL_NAMED(hypercall_make(&registers), NO_FAULT, "a list of %u may begin in the middle", count);
        CHECK_EQUAL_NAMED(registers.rax, CALL_REPS(count), "all %u reps count as completed", count);
        CHECK_EQUAL_NAMED(RESULT_REPS(registers.rcx >> 16), count, "RCX has the position in the list of %u", count);
        wrong = 0;
        for (unsigned at = 0; at < count; at++)
            wrong += indices[at] != (at < count / 2 ? UINT32_MAX : at % cpu_count);
        CHECK_EQUAL_NAMED(wrong, 0, "only the second half of %u is answered, at its position", count);

        unsigned bad = count - 1;
        put_apic_ids(count);
        ids[bad] = 0xdeadbeef;
        memset(call_output, 0xff, PAGE_SIZE);
        result = hypercall(code | CALL_REPS(count), gpa(call_input), gpa(call_output));
        CHECK_EQUAL_NAMED(RESULT_STATUS(result), STATUS_INVALID_PARAMETER, "an invalid element %u is refused", bad);
        CHECK_EQUAL_NAMED(RESULT_REPS(result), bad, "the %u elements before the invalid one are completed", bad);
        CHECK_EQUAL_NAMED(indices[bad], UINT32_MAX, "the invalid element %u is not answered", bad);
        CHECK_NAMED(!bad || indices[bad - 1] == (bad - 1) % cpu_count, "the element before the invalid element %u is answered", bad);
    }
    put_apic_ids(1020);
    CHECK_EQUAL("a list that crosses the end of its page is refused",
                hypercall(code | CALL_REPS(1021), gpa(call_input), gpa(call_output)), STATUS_INVALID_ALIGNMENT);
    CHECK_EQUAL("a list of the maximum rep count is refused for its size",
                hypercall(code | CALL_REPS(4095), gpa(call_input), gpa(call_output)), STATUS_INVALID_ALIGNMENT);
    put_apic_ids(4);
    struct apic_ids *header = (void *)call_input;
    header->partition = 1;
    CHECK_EQUAL("another partition's APIC ids are refused", status_of(code | CALL_REPS(4)), STATUS_INVALID_PARTITION_ID);
    header->partition = HV_PARTITION_SELF;
    header->vtl = 0x11;
    CHECK_EQUAL("another VTL's APIC ids are refused", status_of(code | CALL_REPS(4)), STATUS_INVALID_PARAMETER);
    header->vtl = 0x10;
    CHECK_EQUAL("VTL 0 is accepted", status_of(code | CALL_REPS(4)), STATUS_SUCCESS);
}
