/*
 * Privilege levels of callers, fast and XMM-fast parameters, 32-bit code, and registers that are preserved.
 */
#include "calls.h"

#define RFLAGS_ALWAYS 0x2ULL
#define RFLAGS_IOPL_3 0x3000ULL
#define TASK_RSP0 1 /* in 32-bit words */

/* A copy of the page's code, called while GUEST_OS_ID is 0. */
static void call_copy(void *copy)
{
    uint64_t result, input = CALL_UNKNOWN, first = 0;
    register uint64_t second asm("r8") = 0;
    asm volatile("call *%[copy]"
                 : "=a"(result), "+c"(input), "+d"(first), "+r"(second)
                 : [copy] "r"(copy)
                 : "memory", "cc");
}

void before_guest_os_id(void)
{
    uint8_t *copy = pages_allocate(1);
    struct fault fault = {0};
    memcpy(copy, (void *)hypercall_page(), PAGE_SIZE);
    wrmsr(HV_MSR_GUEST_OS_ID, 0);
    bool raised = catch_fault(call_copy, copy, &fault);
    CHECK("a call raises an exception while GUEST_OS_ID is 0", raised);
    CHECK_EQUAL("a call while GUEST_OS_ID is 0 raises #UD", fault.vector, VECTOR_INVALID_OPCODE);
    CHECK("the page can be enabled again", hypercall_enable());
    CHECK_EQUAL("calls are answered after the page was enabled again", status_of(CALL_UNKNOWN), STATUS_INVALID_HYPERCALL_CODE);
}

struct ring3 {
    uint64_t rip, stack, rflags, input, first;
};

/* Enters ring 3, and returns by the fault that is expected there. The interrupt stack begins below this frame. */
static __attribute__((noinline)) void enter_ring3(void *argument)
{
    const struct ring3 *way = argument;
    uint64_t *rsp0 = (uint64_t *)&this_cpu()->task_state[TASK_RSP0];
    asm volatile("lea -256(%%rsp), %%rax\n\t"
                 "and $-16, %%rax\n\t"
                 "mov %%rax, %[rsp0]\n\t"
                 "xor %%r8d, %%r8d\n\t"
                 "pushq %[ss]\n\t"
                 "pushq %[stack]\n\t"
                 "pushq %[rflags]\n\t"
                 "pushq %[cs]\n\t"
                 "pushq %[rip]\n\t"
                 "iretq"
                 :
                 : [rsp0] "m"(*rsp0), [ss] "i"(SELECTOR_USER_DATA), [stack] "r"(way->stack), [rflags] "r"(way->rflags),
                   [cs] "i"(SELECTOR_USER_CODE64), [rip] "r"(way->rip), "c"(way->input), "d"(way->first)
                 : "rax", "r8", "memory");
    __builtin_unreachable();
}

/* Returns the exception that a page's code raises in ring 3. Exceptions outside of the page are ignored. */
static int run_in_ring3(uint64_t page, uint64_t rflags, uint64_t input)
{
    static uint64_t *stack;
    if (!stack) {
        stack = pages_allocate_zeroed(1);
        map(gpa(stack), gpa(stack), PAGE_SIZE, PAGE_WRITE | PAGE_USER);
    }
    map(page, page, PAGE_SIZE, PAGE_WRITE | PAGE_USER);
    struct ring3 way = {page, gpa(stack) + PAGE_SIZE - 8, rflags, input, 0};
    struct fault fault = {0};
    if (!catch_fault(enter_ring3, &way, &fault) || fault.rip / PAGE_SIZE != page / PAGE_SIZE)
        return NO_FAULT;
    return fault.vector;
}

static int call_from_ring3(uint64_t rflags, uint64_t input)
{
    return run_in_ring3(hypercall_page(), rflags, input);
}

/* Returns true if IOPL allows I/O in ring 3, as it must. A KVM that emulates ring 0 was observed to refuse it. */
static bool ring3_may_do_io(void)
{
    static const uint8_t out_and_ud2[] = {0xe6, 0x80, 0x0f, 0x0b};
    uint8_t *code = pages_allocate_zeroed(1);
    memcpy(code, out_and_ud2, sizeof out_and_ud2);
    return run_in_ring3(gpa(code), RFLAGS_ALWAYS | RFLAGS_IOPL_3, 0) == VECTOR_INVALID_OPCODE;
}

/*
 * A call from ring 3 raises #UD. If the page makes calls by port I/O, the processor itself raises #GP first, unless the
 * guest's kernel allows I/O in ring 3.
 */
void privilege_level(void)
{
    int refusal = ring3_may_do_io() ? VECTOR_INVALID_OPCODE : VECTOR_GENERAL_PROTECTION;
    static const uint16_t codes[] = {CALL_UNKNOWN, CALL_SIGNAL_EVENT, CALL_GET_VP_REGISTERS, CALL_NOTIFY_LONG_SPIN_WAIT};
    for (unsigned i = 0; i < ARRAY_LENGTH(codes); i++) {
        int vector = call_from_ring3(RFLAGS_ALWAYS, codes[i]);
        CHECK_NAMED(vector == VECTOR_INVALID_OPCODE || (vector == VECTOR_GENERAL_PROTECTION && !is_answered_by_kvm(codes[i])),
                    "ring 3 cannot make the call 0x%x", codes[i]);
        CHECK_EQUAL_NAMED(call_from_ring3(RFLAGS_ALWAYS | RFLAGS_IOPL_3, codes[i]),
                          is_answered_by_kvm(codes[i]) ? VECTOR_INVALID_OPCODE : refusal,
                          "the call 0x%x from a ring 3 that may do I/O is #UD", codes[i]);
    }
    CHECK_EQUAL("a doorbell with an unknown connection from ring 3 with I/O raises #UD",
                call_from_ring3(RFLAGS_ALWAYS | RFLAGS_IOPL_3, CALL_SIGNAL_EVENT | CALL_FAST), refusal);
    CHECK_EQUAL("ring 0 can still make calls", status_of(CALL_UNKNOWN), STATUS_INVALID_HYPERCALL_CODE);
}

/* Fast parameters in XMM registers: a list of APIC ids as input, VP indexes as output. */
void fast(void)
{
    if (!hyperv_has(HV_START_VIRTUAL_PROCESSOR)) {
        CHECK_EQUAL("the call that would test XMM parameters is not offered",
                    status_of(CALL_GET_VP_INDEX_FROM_APIC_ID | CALL_REPS(1)), STATUS_ACCESS_DENIED);
        return;
    }
    bool offered = hyperv_has(HV_XMM_INPUT) && hyperv_has(HV_FAST_OUTPUT);
    for (unsigned count = 1; count <= 24; count++) {
        struct hypercall_registers registers = {
            .rcx = CALL_GET_VP_INDEX_FROM_APIC_ID | CALL_FAST | CALL_REPS(count), .rdx = HV_PARTITION_SELF};
        uint32_t *ids = (uint32_t *)registers.xmm;
        /* Input starts in XMM0, output in the first register after the input. */
        unsigned input_registers = (count + 3) / 4, output_registers = input_registers;
        for (unsigned i = 0; i < count && i < 24; i++)
            ids[i] = cpus[i % cpu_count].apic_id;
        for (unsigned i = input_registers; i < XMM_PARAMETERS; i++)
            registers.xmm[i][0] = registers.xmm[i][1] = UINT64_MAX;
        int vector = hypercall_make(&registers);
        if (!offered) {
            CHECK_EQUAL_NAMED(vector, VECTOR_INVALID_OPCODE, "XMM parameters are not offered: %u ids are #UD", count);
            continue;
        }
        CHECK_EQUAL_NAMED(vector, NO_FAULT, "a call with %u APIC ids in XMM registers does not fault", count);
        if (input_registers + output_registers > XMM_PARAMETERS) {
            CHECK_EQUAL_NAMED(RESULT_STATUS(registers.rax), STATUS_INVALID_HYPERCALL_INPUT,
                              "the answers for %u APIC ids do not fit into registers", count);
            continue;
        }
        CHECK_EQUAL_NAMED(RESULT_STATUS(registers.rax), STATUS_SUCCESS, "a call with %u APIC ids in XMM registers succeeds", count);
        CHECK_EQUAL_NAMED(RESULT_REPS(registers.rax), count, "%u reps are completed", count);
        const uint32_t *indices = (const uint32_t *)registers.xmm[input_registers];
        bool right = true;
        for (unsigned i = 0; i < count; i++)
            right &= indices[i] == i % cpu_count;
        CHECK_NAMED(right, "%u VP indexes are returned in XMM registers", count);
        CHECK_EQUAL_NAMED(*(uint32_t *)registers.xmm[0], cpus[0].apic_id, "the input of %u ids is preserved", count);
    }
    CHECK_EQUAL("fast input that exceeds the registers is refused", status_of(CALL_POST_MESSAGE | CALL_FAST),
                STATUS_INVALID_HYPERCALL_INPUT);
}

void protected_mode(void)
{
    CHECK_EQUAL("32-bit code can make calls", RESULT_STATUS(hypercall32(CALL_UNKNOWN, 0, 0)), STATUS_INVALID_HYPERCALL_CODE);
    CHECK_EQUAL("reserved bits are refused from 32-bit code",
                RESULT_STATUS(hypercall32(CALL_UNKNOWN | 1ULL << 60, 0, 0)), STATUS_INVALID_HYPERCALL_INPUT);
    CHECK_EQUAL("a fast doorbell with an unknown connection is refused from 32-bit code",
                RESULT_STATUS(hypercall32(CALL_SIGNAL_EVENT | CALL_FAST, 0x123456, 0)), STATUS_INVALID_CONNECTION_ID);
    CHECK_EQUAL("an event flag with an unknown connection is refused from 32-bit code",
                RESULT_STATUS(hypercall32(CALL_SIGNAL_EVENT | CALL_FAST, 5ULL << 32 | 0x123456, 0)),
                STATUS_INVALID_CONNECTION_ID);
    if (hyperv_has(HV_START_VIRTUAL_PROCESSOR)) {
        put_apic_ids(300);
        memset(call_output, 0xff, PAGE_SIZE);
        uint64_t input = CALL_GET_VP_INDEX_FROM_APIC_ID | CALL_REPS(300);
        uint64_t result = hypercall32(input, gpa(call_input), gpa(call_output));
        CHECK_EQUAL("a list is accepted from 32-bit code", RESULT_STATUS(result), STATUS_SUCCESS);
        CHECK_EQUAL("a list from 32-bit code is completed", RESULT_REPS(result), 300);
        bool right = true;
        for (unsigned i = 0; i < 300; i++)
            right &= ((uint32_t *)call_output)[i] == i % cpu_count;
        CHECK("a list from 32-bit code is answered in memory", right);
        result = hypercall32(input, gpa(call_input) + 1, gpa(call_output));
        CHECK_EQUAL("a misaligned list is refused from 32-bit code", RESULT_STATUS(result), STATUS_INVALID_ALIGNMENT);
        CHECK_EQUAL("no rep of a misaligned list is completed", RESULT_REPS(result), 0);
        struct hypercall_registers registers = {.rax = CALL_GET_VP_INDEX_FROM_APIC_ID | CALL_FAST, .rdx = 1,
                                                .rbx = UINT32_MAX, .rcx = UINT32_MAX};
        CHECK_EQUAL("32-bit code has no fast output", hypercall_make32(&registers), VECTOR_INVALID_OPCODE);
    }

    struct hypercall_registers registers = {.rax = CALL_UNKNOWN, .rbx = 0x11111111, .rcx = 0x22222222,
                                            .rsi = 0x33333333, .rdi = 0x44444444, .rbp = 0x55555555};
    CHECK_EQUAL("calls from 32-bit code do not depend on other registers", hypercall_make32(&registers), NO_FAULT);
    CHECK_EQUAL("the status is in EAX", registers.rax, STATUS_INVALID_HYPERCALL_CODE);
    CHECK_EQUAL("EDX is the result's high half", registers.rdx, 0);
    CHECK_EQUAL("EBX is preserved", registers.rbx, 0x11111111);
    CHECK_EQUAL("ECX is preserved", registers.rcx, 0x22222222);
    CHECK_EQUAL("ESI is preserved", registers.rsi, 0x33333333);
    CHECK_EQUAL("EDI is preserved", registers.rdi, 0x44444444);
    CHECK_EQUAL("EBP is preserved", registers.rbp, 0x55555555);
}

static void check_preserved(const char *what, uint64_t input, uint64_t status)
{
    struct hypercall_registers before, after;
    uint64_t *words = (uint64_t *)&before;
    for (unsigned i = 0; i < sizeof before / 8; i++)
        words[i] = 0x0101010101010101ULL * (i + 1);
    before.rcx = input;
    before.rdx = 0x00ffffff; /* an unknown connection, or an unused address */
    before.r8 = 0;
    after = before;
    CHECK_EQUAL_NAMED(hypercall_make(&after), NO_FAULT, "%s does not fault", what);
    CHECK_EQUAL_NAMED(RESULT_STATUS(after.rax), status, "%s has the expected status", what);
    static const char *const names[] = {"RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", "R8",
                                        "R9",  "R10", "R11", "R12", "R13", "R14", "R15"};
    for (unsigned i = 1; i < ARRAY_LENGTH(names); i++)
        CHECK_EQUAL_NAMED(((uint64_t *)&after)[i], words[i], "%s preserves %s", what, names[i]);
    for (unsigned i = 0; i < XMM_PARAMETERS; i++)
        CHECK_NAMED(memcmp(after.xmm[i], before.xmm[i], 16) == 0, "%s preserves XMM%u", what, i);
}

void preserved_registers(void)
{
    check_preserved("an unknown call", CALL_UNKNOWN, STATUS_INVALID_HYPERCALL_CODE);
    check_preserved("a call with reserved bits", CALL_UNKNOWN | 1ULL << 63, STATUS_INVALID_HYPERCALL_INPUT);
    if (hyperv_has(HV_SIGNAL_EVENTS)) {
        check_preserved("a doorbell of nobody", CALL_SIGNAL_EVENT | CALL_FAST, STATUS_INVALID_CONNECTION_ID);
        check_preserved("an event with misaligned parameters", CALL_SIGNAL_EVENT, STATUS_INVALID_ALIGNMENT);
    }
}
