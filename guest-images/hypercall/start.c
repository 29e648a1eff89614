/*
 * HvCallStartVirtualProcessor with HvCallGetVpIndexFromApicId, and calls from all VPs at once.
 */
#include "calls.h"

#define ROUNDS 50

/* HV_X64_SEGMENT_REGISTER, HV_X64_TABLE_REGISTER, HV_INITIAL_VP_CONTEXT and the call's input. */
struct segment {
    uint64_t base;
    uint32_t limit;
    uint16_t selector, attributes;
};
struct table {
    uint16_t padding[3], limit;
    uint64_t base;
};
struct start {
    uint64_t partition;
    uint32_t vp;
    uint8_t vtl, padding[3];
    uint64_t rip, rsp, rflags;
    struct segment cs, ds, es, fs, gs, ss, tr, ldtr;
    struct table idtr, gdtr;
    uint64_t efer, cr0, cr3, cr4, pat;
};
_Static_assert(sizeof(struct start) == 240, "input of HvCallStartVirtualProcessor");

#define MSR_EFER 0xc0000080
#define MSR_PAT 0x277
#define MSR_FS_BASE 0xc0000100
#define EFER_LONG_MODE_ACTIVE 0x400
#define SEGMENT_CODE64 0xa09b
#define SEGMENT_DATA 0xc093
#define SEGMENT_TASK 0x008b
#define SEGMENT_LDT 0x0082
#define FS_MARK 0x123456780ULL

extern const uint64_t start_gdt[];

/* What a started VP reports. */
static struct answer {
    uint64_t vp_index, fs_base, stack, cr3, call_status;
    bool done;
} answers[CPUS_MAX];

/* Runs on the started VP, which has neither this_cpu() nor an IDT. */
__attribute__((used)) static void started(struct answer *answer)
{
    uint64_t result, input = CALL_UNKNOWN, first = 0;
    register uint64_t second asm("r8") = 0;
    asm volatile("call *%[page]"
                 : "=a"(result), "+c"(input), "+d"(first), "+r"(second)
                 : [page] "r"(hypercall_page())
                 : "memory", "cc");
    answer->call_status = result;
    answer->vp_index = hyperv_vp_index();
    answer->fs_base = rdmsr(MSR_FS_BASE);
    answer->cr3 = read_cr3();
    atomic_store(&answer->done, true);
    halt_forever();
}

/* The first instruction of a started VP. The address of its answer is on the stack. */
extern const char started_entry[];
asm(".pushsection .text.started_entry, \"ax\"\n"
    "started_entry:\n\t"
    "mov (%rsp), %rdi\n\t"
    "mov %rsp, 16(%rdi)\n\t"
    "pop %rdi\n\t"
    "jmp started\n"
    ".popsection\n");
_Static_assert(offsetof(struct answer, stack) == 16, "started_entry relies on it");

static uint64_t call_start(const struct start *start)
{
    memcpy(call_input, start, sizeof *start);
    return status_of(CALL_START_VIRTUAL_PROCESSOR);
}

static struct start context_for(uint32_t vp, uint64_t stack)
{
    struct segment data = {0, UINT32_MAX, SELECTOR_DATA, SEGMENT_DATA};
    struct segment marked = data;
    marked.base = FS_MARK;
    uint64_t cr0, cr4;
    asm volatile("mov %%cr0, %0; mov %%cr4, %1" : "=r"(cr0), "=r"(cr4));
    return (struct start){
        .partition = HV_PARTITION_SELF,
        .vp = vp,
        .rip = (uint64_t)started_entry,
        .rsp = stack,
        .rflags = 2,
        .cs = {0, UINT32_MAX, SELECTOR_CODE64, SEGMENT_CODE64},
        .ds = data,
        .es = data,
        .fs = marked,
        .gs = data,
        .ss = data,
        .tr = {0, 0x67, SELECTOR_TASK, SEGMENT_TASK},
        .ldtr = {0, 0, 0, SEGMENT_LDT},
        .idtr = {{0}, 0, 0},
        .gdtr = {{0}, 31, (uint64_t)start_gdt},
        .efer = rdmsr(MSR_EFER) | EFER_LONG_MODE_ACTIVE,
        .cr0 = cr0,
        .cr3 = read_cr3(),
        .cr4 = cr4,
        .pat = rdmsr(MSR_PAT),
    };
}

static void bad_starts(const struct start *good)
{
    struct start bad = *good;
    bad.partition = 7;
    CHECK_EQUAL("a VP of another partition is not started", call_start(&bad), STATUS_INVALID_PARTITION_ID);
    bad = *good;
    bad.vp = CPUS_MAX * 2;
    CHECK_EQUAL("a VP that does not exist is not started", call_start(&bad), STATUS_INVALID_VP_INDEX);
    bad = *good;
    bad.vp = hyperv_vp_index();
    CHECK_EQUAL("a VP does not start itself", call_start(&bad), STATUS_INVALID_VP_STATE);
    bad.vp = HV_VP_SELF;
    CHECK_EQUAL("a VP does not start itself by HV_VP_INDEX_SELF", call_start(&bad), STATUS_INVALID_VP_STATE);
    bad = *good;
    bad.vtl = 0x11;
    CHECK_EQUAL("a VP is not started in another VTL", call_start(&bad), STATUS_INVALID_PARAMETER);
}

#define MUTUAL_ROUNDS 50
static unsigned started_a_running_one;

/* The parameters are in the VP's own memory. */
static void start_the_next(void *unused)
{
    (void)unused;
    struct start *start = pages_allocate_zeroed(1);
    *start = context_for((hyperv_vp_index() + 1) % cpu_count, 0);
    for (unsigned round = 0; round < MUTUAL_ROUNDS; round++) {
        uint64_t result = hypercall(CALL_START_VIRTUAL_PROCESSOR, gpa(start), 0);
        atomic_add(&started_a_running_one, RESULT_STATUS(result) != STATUS_INVALID_VP_STATE);
    }
}

/* Starts each further VP by call, checks its answer, and then starts all of them again by INIT and SIPI. */
void start_vp(void)
{
    struct processor processor;
    if (!hyperv_has(HV_START_VIRTUAL_PROCESSOR)) {
        smp_start_all();
        return; /* refused in input_value() */
    }
    struct start own = context_for(hyperv_vp_index(), 0);
    bad_starts(&own);
    for (unsigned i = 0; acpi_processor(i, &processor); i++) {
        struct apic_ids *header = (void *)call_input;
        *header = (struct apic_ids){.partition = HV_PARTITION_SELF};
        *(uint32_t *)(header + 1) = processor.apic_id;
        CHECK_EQUAL_NAMED(RESULT_STATUS(hypercall(CALL_GET_VP_INDEX_FROM_APIC_ID | CALL_REPS(1), gpa(call_input),
                                                  gpa(call_output))),
                          STATUS_SUCCESS, "the VP with APIC id %u has an index", processor.apic_id);
        uint32_t vp = *(uint32_t *)call_output;
        if (processor.apic_id == cpus[0].apic_id) {
            CHECK_EQUAL("the VP index of the boot processor is the one in VP_INDEX", vp, hyperv_vp_index());
            continue;
        }
        struct answer *answer = &answers[i];
        uint64_t *stack = (uint64_t *)((char *)pages_allocate_zeroed(1) + PAGE_SIZE);
        stack[-2] = (uint64_t)answer;
        struct start start = context_for(vp, (uint64_t)&stack[-2]);
        CHECK_EQUAL_NAMED(call_start(&start), STATUS_SUCCESS, "VP %u can be started", vp);
        CHECK_NAMED(WAIT_UNTIL(atomic_load(&answer->done), PATIENCE_MILLISECONDS), "VP %u answers", vp);
        CHECK_EQUAL_NAMED(answer->vp_index, vp, "the VP that answers is VP %u", vp);
        CHECK_EQUAL_NAMED(answer->stack, start.rsp, "VP %u has the stack of its context", vp);
        CHECK_EQUAL_NAMED(answer->fs_base, FS_MARK, "VP %u has the segments of its context", vp);
        CHECK_EQUAL_NAMED(answer->cr3, start.cr3, "VP %u has the page tables of its context", vp);
        CHECK_EQUAL_NAMED(answer->call_status, STATUS_INVALID_HYPERCALL_CODE, "VP %u can make calls", vp);
        CHECK_EQUAL_NAMED(call_start(&start), STATUS_INVALID_VP_STATE, "VP %u is not started again while it runs", vp);
    }
    unsigned listed = acpi_processor_count();
    CHECK_EQUAL("INIT and SIPI start all VPs again", smp_start_all(), listed);
    CHECK("VPs that start each other do not deadlock",
          smp_run_everywhere(start_the_next, NULL, PATIENCE_MILLISECONDS));
    CHECK_EQUAL("no running VP is started", started_a_running_one, 0);
}

static unsigned wrong_answers;

/* Reads the VP's own index by call, with parameters in the VP's own memory. */
static void call_often(void *unused)
{
    (void)unused;
    struct vp_registers *header = pages_allocate_zeroed(1);
    uint64_t *value = (uint64_t *)((char *)header + PAGE_SIZE / 2);
    *header = (struct vp_registers){.partition = HV_PARTITION_SELF, .vp = HV_VP_SELF};
    *(uint32_t *)(header + 1) = 0x00090003;
    bool has_registers = hyperv_has(HV_ACCESS_VP_REGISTERS);
    for (unsigned round = 0; round < ROUNDS; round++) {
        if (has_registers) {
            *value = UINT64_MAX;
            uint64_t result = hypercall(CALL_GET_VP_REGISTERS | CALL_REPS(1), gpa(header), gpa(value));
            atomic_add(&wrong_answers, result != CALL_REPS(1) || *value != this_cpu()->index);
        }
        atomic_add(&wrong_answers, hypercall(CALL_UNKNOWN + this_cpu()->index, 0, 0) != STATUS_INVALID_HYPERCALL_CODE);
    }
}

void all_at_once(void)
{
    CHECK("all VPs call at the same time", smp_run_everywhere(call_often, NULL, PATIENCE_MILLISECONDS));
    CHECK_EQUAL("each VP gets its own answers", wrong_answers, 0);
}
