/*
 * The calls about connections, registers and extended capabilities, with good and bad parameters.
 */
#include "calls.h"

#define NOBODYS_CONNECTION 0xfedcba
#define MESSAGE_TYPE_OURS 1
#define MESSAGE_TYPE_HYPERVISOR 0x80000000U
#define MESSAGE_PAYLOAD_MAX 240

struct post_message {
    uint32_t connection, padding, type, size;
    uint8_t payload[MESSAGE_PAYLOAD_MAX];
};

static uint64_t post(uint32_t connection, uint32_t type, uint32_t size)
{
    struct post_message *message = (void *)call_input;
    *message = (struct post_message){connection, 0, type, size, {0}};
    return status_of(CALL_POST_MESSAGE);
}

void messages_and_events(void)
{
    if (hyperv_has(HV_POST_MESSAGES)) {
        CHECK_EQUAL("a message to an unknown connection is refused", post(NOBODYS_CONNECTION, MESSAGE_TYPE_OURS, 8),
                    STATUS_INVALID_CONNECTION_ID);
        CHECK_EQUAL("an empty message to an unknown connection is refused", post(NOBODYS_CONNECTION, MESSAGE_TYPE_OURS, 0), STATUS_INVALID_CONNECTION_ID);
        CHECK_EQUAL("a message of the maximum length to an unknown connection is refused", post(NOBODYS_CONNECTION, MESSAGE_TYPE_OURS, MESSAGE_PAYLOAD_MAX),
                    STATUS_INVALID_CONNECTION_ID);
        CHECK_EQUAL("a message above the maximum length is refused for its length",
                    post(NOBODYS_CONNECTION, MESSAGE_TYPE_OURS, MESSAGE_PAYLOAD_MAX + 1), STATUS_INVALID_PARAMETER);
        CHECK_EQUAL("a message of length 0xffffffff is refused", post(NOBODYS_CONNECTION, MESSAGE_TYPE_OURS, UINT32_MAX),
                    STATUS_INVALID_PARAMETER);
        CHECK_EQUAL("a message without a type is refused", post(NOBODYS_CONNECTION, 0, 8), STATUS_INVALID_PARAMETER);
        CHECK_EQUAL("a message of the hypervisor's type is refused",
                    post(NOBODYS_CONNECTION, MESSAGE_TYPE_HYPERVISOR, 8), STATUS_INVALID_PARAMETER);
        CHECK_EQUAL("a connection id with reserved bits is refused", post(1u << 24, MESSAGE_TYPE_OURS, 8),
                    STATUS_INVALID_CONNECTION_ID);
    }
    if (!hyperv_has(HV_SIGNAL_EVENTS))
        return;
    static const struct {
        const char *name;
        uint64_t parameters, status;
    } events[] = {
        {"an event to nobody", NOBODYS_CONNECTION, STATUS_INVALID_CONNECTION_ID},
        {"an event to connection 0", 0, STATUS_INVALID_CONNECTION_ID},
        {"a numbered event to nobody", NOBODYS_CONNECTION | 7ULL << 32, STATUS_INVALID_CONNECTION_ID},
        {"an event with reserved bits in its connection id", 1ULL << 24, STATUS_INVALID_CONNECTION_ID},
        {"an event with all bits in its connection id", UINT32_MAX, STATUS_INVALID_CONNECTION_ID},
        {"an event with reserved bits above its flag", NOBODYS_CONNECTION | 1ULL << 48, STATUS_INVALID_PARAMETER},
        {"an event with the highest bit", NOBODYS_CONNECTION | 1ULL << 63, STATUS_INVALID_PARAMETER},
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(events); i++) {
        CHECK_EQUAL_NAMED(hypercall(CALL_SIGNAL_EVENT | CALL_FAST, events[i].parameters, 0), events[i].status,
                          "%s is refused, fast", events[i].name);
        *(uint64_t *)call_input = events[i].parameters;
        CHECK_EQUAL_NAMED(status_of(CALL_SIGNAL_EVENT), events[i].status, "%s is refused, in memory", events[i].name);
        CHECK_EQUAL_NAMED(RESULT_STATUS(hypercall32(CALL_SIGNAL_EVENT | CALL_FAST, events[i].parameters, 0)),
                          events[i].status, "%s is refused, from 32-bit code", events[i].name);
    }
}

/* HV_REGISTER_NAMEs. */
#define NAME_HYPERVISOR_VERSION 0x00000100
#define NAME_PRIVILEGES 0x00000200
#define NAME_HINTS 0x00000201
#define NAME_LIMITS 0x00000202
#define NAME_CRASH_P0 0x00000210
#define NAME_VP_RUNTIME 0x00090000
#define NAME_HYPERCALL 0x00090001
#define NAME_GUEST_OS_ID 0x00090002
#define NAME_VP_INDEX 0x00090003
#define NAME_TIME_REF_COUNT 0x00090004
#define NAME_SINT0 0x000a0000
#define NAME_SCONTROL 0x000a0010
#define NAME_SVERSION 0x000a0011
#define NAME_STIMER0_CONFIG 0x000b0000
#define NAME_RIP 0x00020010
#define NAME_CR3 0x00040002

struct assignment {
    uint32_t name, reserved[3];
    uint64_t value[2];
};

static struct vp_registers *registers_header(uint32_t vp)
{
    struct vp_registers *header = (void *)call_input;
    *header = (struct vp_registers){.partition = HV_PARTITION_SELF, .vp = vp};
    return header;
}

/* Reads one register; its value is then in call_output. */
static uint64_t get_register(uint32_t vp, uint32_t name)
{
    *(uint32_t *)(registers_header(vp) + 1) = name;
    memset(call_output, 0xee, 16);
    return status_of(CALL_GET_VP_REGISTERS | CALL_REPS(1));
}

static uint64_t set_register(uint32_t vp, uint32_t name, uint64_t value)
{
    struct assignment *assignment = (void *)(registers_header(vp) + 1);
    *assignment = (struct assignment){.name = name, .value = {value, 0}};
    return status_of(CALL_SET_VP_REGISTERS | CALL_REPS(1));
}

static void check_register(const char *what, uint32_t name, uint64_t expected)
{
    const uint64_t *value = (const uint64_t *)call_output;
    CHECK_EQUAL_NAMED(get_register(HV_VP_SELF, name), STATUS_SUCCESS, "%s can be read by call", what);
    CHECK_EQUAL_NAMED(value[0], expected, "%s has the same value by call and by other ways", what);
    CHECK_EQUAL_NAMED(value[1], 0, "the upper 64 bits of %s are zero", what);
}

static void check_leaf(uint32_t name, uint32_t leaf)
{
    struct cpuid expected = cpuid(leaf);
    CHECK_EQUAL_NAMED(get_register(HV_VP_SELF, name), STATUS_SUCCESS, "leaf 0x%x can be read by call", leaf);
    CHECK_NAMED(memcmp(call_output, &expected, sizeof expected) == 0, "leaf 0x%x has the same value by call and by CPUID", leaf);
}

static void read_registers(void)
{
    const uint64_t *value = (const uint64_t *)call_output;
    check_register("GUEST_OS_ID", NAME_GUEST_OS_ID, HV_GUEST_OS_ID_TEST);
    check_register("HYPERCALL", NAME_HYPERCALL, hypercall_page() | HV_PAGE_ENABLE);
    check_register("VP_INDEX", NAME_VP_INDEX, hyperv_vp_index());
    if (hyperv_has(HV_ACCESS_SYNIC)) {
        check_register("SCONTROL", NAME_SCONTROL, rdmsr(HV_MSR_SCONTROL));
        check_register("SVERSION", NAME_SVERSION, 1);
        for (unsigned sint = 0; sint < HV_SINTS; sint++)
            check_register("a SINT", NAME_SINT0 + sint, HV_SINT_MASKED);
    }
    if (hyperv_has(HV_ACCESS_TIMERS))
        for (unsigned i = 0; i < 2 * HV_TIMERS; i++)
            check_register("a timer's register", NAME_STIMER0_CONFIG + i, 0);
    check_leaf(NAME_HYPERVISOR_VERSION, HV_LEAF_VERSION);
    check_leaf(NAME_PRIVILEGES, HV_LEAF_FEATURES);
    check_leaf(NAME_HINTS, HV_LEAF_HINTS);
    check_leaf(NAME_LIMITS, HV_LEAF_LIMITS);

    uint64_t before = reference_time();
    CHECK_EQUAL("TIME_REF_COUNT can be read by call", get_register(HV_VP_SELF, NAME_TIME_REF_COUNT), STATUS_SUCCESS);
    CHECK("TIME_REF_COUNT by call lies between two readings by MSR", before <= value[0] && value[0] <= reference_time());
    if (hyperv_has(HV_ACCESS_VP_RUNTIME)) {
        before = rdmsr(HV_MSR_VP_RUNTIME);
        CHECK_EQUAL("VP_RUNTIME can be read by call", get_register(HV_VP_SELF, NAME_VP_RUNTIME), STATUS_SUCCESS);
        CHECK("VP_RUNTIME by call is not before an earlier reading by MSR", before <= value[0]);
        CHECK("VP_RUNTIME by call is not after a later reading by MSR", value[0] <= rdmsr(HV_MSR_VP_RUNTIME));
    }
    for (unsigned vp = 0; vp < cpu_count; vp++) {
        CHECK_EQUAL_NAMED(get_register(vp, NAME_VP_INDEX), STATUS_SUCCESS, "VP_INDEX of VP %u can be read", vp);
        CHECK_EQUAL_NAMED(value[0], vp, "VP_INDEX of VP %u is that VP's index", vp);
    }
    static const uint32_t refused[] = {0, 1, NAME_RIP, NAME_CR3, 0x000c0000, 0x7fffffff, UINT32_MAX};
    for (unsigned i = 0; i < ARRAY_LENGTH(refused); i++)
        CHECK_EQUAL_NAMED(get_register(HV_VP_SELF, refused[i]), STATUS_INVALID_PARAMETER,
                          "a guest may not name register 0x%x", refused[i]);
}

static void check_headers(uint64_t call)
{
    memset(call_input, 0, 64);
    registers_header(cpu_count);
    CHECK_EQUAL("registers of a VP that does not exist are refused", status_of(call), STATUS_INVALID_VP_INDEX);
    registers_header(HV_VP_ANY);
    CHECK_EQUAL("registers of HV_VP_INDEX_ANY are refused", status_of(call), STATUS_INVALID_VP_INDEX);
    registers_header(HV_VP_SELF)->partition = 2;
    CHECK_EQUAL("registers of another partition are refused", status_of(call), STATUS_INVALID_PARTITION_ID);
    registers_header(HV_VP_SELF)->vtl = 0x11;
    CHECK_EQUAL("registers of another VTL are refused", status_of(call), STATUS_INVALID_PARAMETER);
    registers_header(HV_VP_SELF)->vtl = 0x20;
    CHECK_EQUAL("reserved bits beside the VTL are refused", status_of(call), STATUS_INVALID_PARAMETER);
    registers_header(HV_VP_SELF)->reserved[1] = 1;
    CHECK_EQUAL("reserved bytes after the VTL are refused", status_of(call), STATUS_INVALID_PARAMETER);
}

/* First registers that may have any value, then registers with restrictions. */
static void write_registers(void)
{
    const uint64_t *value = (const uint64_t *)call_output;
    if (hyperv_has(HV_CRASH_MSRS)) {
        CHECK_EQUAL("CRASH_P0 can be written by call", set_register(HV_VP_SELF, NAME_CRASH_P0, 0x123456789abcdef),
                    STATUS_SUCCESS);
        CHECK_EQUAL("CRASH_P0 has the value by MSR", rdmsr(HV_MSR_CRASH_PARAMETER(0)), 0x123456789abcdef);
        CHECK_EQUAL("CRASH_P0 can be read by call", get_register(HV_VP_SELF, NAME_CRASH_P0), STATUS_SUCCESS);
        CHECK_EQUAL("CRASH_P0 by call has the written value", value[0], 0x123456789abcdef);
        struct assignment *assignment = (void *)(registers_header(HV_VP_SELF) + 1);
        *assignment = (struct assignment){.name = NAME_CRASH_P0, .value = {1, 1}};
        CHECK_EQUAL("a value of more than 64 bits is refused", status_of(CALL_SET_VP_REGISTERS | CALL_REPS(1)),
                    STATUS_INVALID_REGISTER_VALUE);
        *assignment = (struct assignment){.name = NAME_CRASH_P0, .reserved = {0, 0, 1}};
        CHECK_EQUAL("reserved bytes before the value are refused", status_of(CALL_SET_VP_REGISTERS | CALL_REPS(1)),
                    STATUS_INVALID_PARAMETER);
        CHECK_EQUAL("the refused writes have not changed CRASH_P0", rdmsr(HV_MSR_CRASH_PARAMETER(0)), 0x123456789abcdef);
        assignment = (void *)(registers_header(HV_VP_SELF) + 1);
        for (unsigned i = 0; i < HV_CRASH_PARAMETERS; i++)
            assignment[i] = (struct assignment){.name = NAME_CRASH_P0 + i, .value = {i + 1, 0}};
        CHECK_EQUAL("five registers can be written at once",
                    hypercall(CALL_SET_VP_REGISTERS | CALL_REPS(HV_CRASH_PARAMETERS), gpa(call_input), 0),
                    CALL_REPS(HV_CRASH_PARAMETERS));
        for (unsigned i = 0; i < HV_CRASH_PARAMETERS; i++)
            CHECK_EQUAL_NAMED(rdmsr(HV_MSR_CRASH_PARAMETER(i)), i + 1, "CRASH_P%u is one of the five registers", i);
    }
    if (hyperv_has(HV_ACCESS_SYNIC)) {
        CHECK_EQUAL("a SINT can be written by call", set_register(HV_VP_SELF, NAME_SINT0 + 5, HV_SINT_MASKED | 0x77),
                    STATUS_SUCCESS);
        CHECK_EQUAL("the SINT has the value by MSR", rdmsr(HV_MSR_SINT(5)), HV_SINT_MASKED | 0x77);
        CHECK_EQUAL("an invalid vector of a SINT is refused", set_register(HV_VP_SELF, NAME_SINT0 + 5, 3),
                    STATUS_INVALID_REGISTER_VALUE);
        CHECK_EQUAL("the SINT has not changed", rdmsr(HV_MSR_SINT(5)), HV_SINT_MASKED | 0x77);
        wrmsr(HV_MSR_SINT(5), HV_SINT_MASKED);
        CHECK("SVERSION cannot be written", set_register(HV_VP_SELF, NAME_SVERSION, 1) != STATUS_SUCCESS);
    }
    /* The written value is the current one, so that the following checks stay valid if the write is accepted. */
    CHECK("VP_INDEX cannot be written",
          set_register(HV_VP_SELF, NAME_VP_INDEX, hyperv_vp_index()) != STATUS_SUCCESS);
    CHECK("TIME_REF_COUNT cannot be written", set_register(HV_VP_SELF, NAME_TIME_REF_COUNT, 0) != STATUS_SUCCESS);
    CHECK_EQUAL("a register without a name is refused", set_register(HV_VP_SELF, 0, 0), STATUS_INVALID_PARAMETER);
    CHECK_EQUAL("a leaf of CPUID cannot be written", set_register(HV_VP_SELF, NAME_PRIVILEGES, 0),
                STATUS_INVALID_PARAMETER);
}

void vp_registers(void)
{
    if (!hyperv_has(HV_ACCESS_VP_REGISTERS))
        return; /* refused in input_value() */
    read_registers();
    check_headers(CALL_GET_VP_REGISTERS | CALL_REPS(1));
    check_headers(CALL_SET_VP_REGISTERS | CALL_REPS(1));
    write_registers();
}

#define CAN_GET_BOOT_ZEROED_MEMORY 1
#define ZEROED_RANGES_MAX 255
/* Number of pages of a range that are checked. */
#define SAMPLES 64

static void zeroed_memory(void)
{
    const uint64_t *output = (const uint64_t *)call_output;
    CHECK_EQUAL("the ranges of zeroed memory can be queried", status_of(CALL_EXT_GET_BOOT_ZEROED_MEMORY), STATUS_SUCCESS);
    CHECK("the number of ranges does not exceed the page", output[0] <= ZEROED_RANGES_MAX);
    for (uint64_t i = 0; i < output[0] && i <= ZEROED_RANGES_MAX; i++) {
        uint64_t first = output[1 + 2 * i], count = output[2 + 2 * i];
        CHECK_NAMED(count > 0, "range %lu of zeroed memory is not empty", i);
        CHECK_NAMED((first + count) * PAGE_SIZE <= memory_end(), "range %lu of zeroed memory lies in memory", i);
        bool zero = true;
        for (uint64_t sample = 0; sample < SAMPLES; sample++) {
            uint64_t address = (first + count * sample / SAMPLES) * PAGE_SIZE;
            /* Skip pages that the image has allocated and written, and pages above 4 GiB, which are not mapped. */
            bool is_ours = address < pages_end() || address >= 0x100000000ULL;
            zero = zero && (is_ours || (read64(address) == 0 && read64(address + PAGE_SIZE - 8) == 0));
        }
        CHECK_NAMED(zero, "range %lu of zeroed memory is zero", i);
    }
}

void extended(void)
{
    if (!hyperv_has(HV_EXTENDED_HYPERCALLS))
        return; /* refused in input_value() */
    memset(call_output, 0xff, PAGE_SIZE);
    CHECK_EQUAL("the extended capabilities can be queried", status_of(CALL_EXT_QUERY_CAPABILITIES), STATUS_SUCCESS);
    CHECK_EQUAL("the only extended capability is zeroed memory", *(uint64_t *)call_output, CAN_GET_BOOT_ZEROED_MEMORY);
    CHECK_EQUAL("nothing is written after the capabilities", ((uint64_t *)call_output)[1], UINT64_MAX);
    zeroed_memory();
    if (hyperv_has(HV_FAST_OUTPUT)) {
        struct hypercall_registers registers = {.rcx = CALL_EXT_QUERY_CAPABILITIES | CALL_FAST, .rdx = UINT64_MAX};
        CHECK_EQUAL("a fast query of the capabilities does not fault", hypercall_make(&registers), NO_FAULT);
        CHECK_EQUAL("a fast query of the capabilities succeeds", registers.rax, STATUS_SUCCESS);
        CHECK_EQUAL("a fast query returns the capabilities in RDX, because there is no input", registers.rdx, CAN_GET_BOOT_ZEROED_MEMORY);
        CHECK_EQUAL("zeroed memory does not fit into registers",
                    RESULT_STATUS(hypercall(CALL_EXT_GET_BOOT_ZEROED_MEMORY | CALL_FAST, 0, 0)),
                    STATUS_INVALID_HYPERCALL_INPUT);
    }
}
