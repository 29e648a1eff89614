/*
 * A hostile guest: random hypercalls, MSR writes and overlay pages, from all VPs at once, for some seconds. Then it powers
 * the machine off. The answers of the hypervisor are ignored; the test is that the hypervisor survives.
 *
 * Command line: `seconds=N` (default 2), `seed=N` (default 1), `only=hypercalls|msrs|overlays|messages`.
 *
 * Overlay pages are placed over memory that is reserved for them, over addresses without memory, and over devices, but never
 * over the image, which would only harm the guest itself. RESET and CRASH_CTL are not written because they end the run. A
 * HYPERCALL register that was locked stays locked.
 */
#include "counter.h"
#include "hypercall.h"
#include "runtime.h"
#include "synic.h"

/* Memory that anything may overwrite. */
#define PLAYGROUND_PAGES 16
/* Random instructions between two looks at the clock. */
#define STEPS 50
/* Vectors that may be raised: neither exceptions nor vectors of the runtime. */
#define FIRST_OUR_VECTOR 0x30
#define LAST_OUR_VECTOR 0xef
/* A TPR that blocks vectors below 0x20: a random call may send them, and they would look like exceptions. */
#define TASK_PRIORITY 0x10

static uint64_t playground;
static uint64_t deadline;

/* One random sequence per VP (xorshift). */
static uint64_t states[CPUS_MAX];

static uint64_t any(void)
{
    uint64_t *state = &states[this_cpu()->index];
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t below(uint64_t count)
{
    return any() % count;
}

/* An address of one of the kinds that a hypervisor must tell apart. */
static uint64_t address(void)
{
    static const uint64_t devices[] = {0xfee00000, 0xfec00000, 0xa0000, 0xb8000, 0xf0000, 0xfed00000, 0xfffff000};
    switch (below(8)) {
    case 0:
        return devices[below(ARRAY_LENGTH(devices))];
    case 1:
        return page_of_nothing();
    case 2:
        return memory_end() - PAGE_SIZE * below(2); /* the first page after memory, or the last one in it */
    case 3:
        return any() & 0xfffffffffff000ULL;
    case 4:
        return UINT64_MAX & ~(PAGE_SIZE - 1);
    default:
        return playground + below(PLAYGROUND_PAGES) * PAGE_SIZE;
    }
}

/* The address of a call's parameters: like address(), but never a random address in memory, because output must not hit the image. */
static uint64_t parameter_address(void)
{
    static const uint16_t offsets[] = {0, 8, 16, 1, 4, 7, 0xff0, 0xff8, 0xfff, 0x800};
    return (address() & ~(PAGE_SIZE - 1)) + offsets[below(ARRAY_LENGTH(offsets))];
}

/* A value of one of the kinds that registers must reject. */
static uint64_t value(void)
{
    switch (below(8)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return 1ULL << below(64);
    case 3:
        return ~(1ULL << below(64));
    case 4:
        return address() | below(4);
    case 5:
        return below(0x100);
    case 6:
        return reference_time() + below(20000);
    default:
        return any();
    }
}

static uint64_t input_value(void)
{
    static const uint16_t codes[] = {
        CALL_FLUSH_SPACE,      CALL_FLUSH_LIST,       CALL_NOTIFY_LONG_SPIN_WAIT, CALL_SEND_IPI,
        CALL_FLUSH_SPACE_EX,   CALL_FLUSH_LIST_EX,    CALL_SEND_IPI_EX,           CALL_GET_VP_REGISTERS,
        CALL_SET_VP_REGISTERS, CALL_POST_MESSAGE,     CALL_SIGNAL_EVENT,          CALL_GET_VP_INDEX_FROM_APIC_ID,
        CALL_EXT_QUERY_CAPABILITIES, CALL_EXT_GET_BOOT_ZEROED_MEMORY,
    };
    if (below(4) == 0)
        return (any() & ~0xffffULL) | (below(2) ? any() & 0xff : codes[below(ARRAY_LENGTH(codes))]);
    uint64_t input = codes[below(ARRAY_LENGTH(codes))];
    if (below(2))
        input |= CALL_FAST;
    if (below(2))
        input |= CALL_REPS(below(below(2) ? 8 : 4096)) | CALL_START(below(below(2) ? 4 : 4096));
    if (below(2))
        input |= CALL_VARIABLE(below(below(2) ? 4 : 1024));
    return input;
}

/*
 * Replaces calls that would start a VP with a random state, or write to the registers that are not written below: these
 * would only end the guest itself.
 */
static uint64_t harmless(uint64_t input)
{
    uint16_t code = input;
    return code == CALL_START_VIRTUAL_PROCESSOR || code == CALL_SET_VP_REGISTERS ? input ^ 0x4000 : input;
}

/* The page stays where it was placed first, because other VPs execute it. */
static void hypercalls(void)
{
    struct hypercall_registers registers;
    uint64_t *words = (uint64_t *)&registers;
    for (unsigned i = 0; i < sizeof registers / 8; i++)
        words[i] = value();
    registers.rcx = harmless(input_value());
    registers.rdx = registers.rcx & CALL_FAST ? value() : parameter_address();
    registers.r8 = registers.rcx & CALL_FAST ? value() : parameter_address();
    /* Sometimes the parameters are valid. */
    uint64_t *parameters = (uint64_t *)(playground + below(PLAYGROUND_PAGES) * PAGE_SIZE);
    parameters[below(32)] = value();
    parameters[0] = below(2) ? HV_PARTITION_SELF : parameters[0];
    hypercall_make(&registers);
}

/* MSRs whose writing would end the run, or stop the other VPs. */
static bool is_left_alone(uint32_t number)
{
    return number == HV_MSR_RESET || number == HV_MSR_CRASH_CONTROL || number == HV_MSR_HYPERCALL ||
           number == HV_MSR_GUEST_OS_ID || number == HV_MSR_GUEST_IDLE || number == HV_MSR_ICR;
}

static bool vector_is_ours(uint8_t vector)
{
    return vector >= FIRST_OUR_VECTOR && vector <= LAST_OUR_VECTOR;
}

/* A value that can only raise vectors of this image, whatever the register means. */
static uint64_t fit(uint32_t number, uint64_t value)
{
    if (number >= HV_MSR_SINT(0) && number <= HV_MSR_SINT(15) && !vector_is_ours(value))
        value = (value & ~0xffULL) | (FIRST_OUR_VECTOR + value % 64);
    if (number >= HV_MSR_STIMER_CONFIG(0) && number <= HV_MSR_STIMER_COUNT(3) && number % 2 == 0 &&
        !vector_is_ours(value >> 4))
        value = (value & ~0xff0ULL) | HV_TIMER_VECTOR(FIRST_OUR_VECTOR + value % 64);
    if (number == HV_MSR_TPR)
        value |= TASK_PRIORITY;
    if (number == HV_MSR_REENLIGHTENMENT_CONTROL)
        value &= ~0x10000ULL;
    /* Overlay pages only at allowed addresses. */
    if (number == HV_MSR_SIMP || number == HV_MSR_SIEFP || number == HV_MSR_REFERENCE_TSC ||
        number == HV_MSR_VP_ASSIST_PAGE)
        value = (value & (PAGE_SIZE - 1)) | (address() & ~(PAGE_SIZE - 1));
    return value;
}

static void msrs(void)
{
    uint32_t number = HV_MSR_FIRST + below(HV_MSR_END - HV_MSR_FIRST);
    uint64_t read;
    if (is_left_alone(number))
        return;
    wrmsr_safe(number, fit(number, value()));
    rdmsr_safe(HV_MSR_FIRST + below(4) * 0x40 + below(0x40), &read);
}

static void overlays(void)
{
    static const uint32_t numbers[] = {HV_MSR_SIMP, HV_MSR_SIEFP, HV_MSR_VP_ASSIST_PAGE, HV_MSR_REFERENCE_TSC};
    uint32_t number = numbers[below(ARRAY_LENGTH(numbers))];
    wrmsr_safe(number, fit(number, below(4) ? HV_PAGE_ENABLE : value()));
    write64(playground + below(PLAYGROUND_PAGES * PAGE_SIZE / 8) * 8, any());
}

/* Messages and timers that are pending while the pages move and the SINTs change. */
static void messages(void)
{
    unsigned sint = below(HV_SINTS), timer = below(HV_TIMERS), connection = 1 + below(255);
    switch (below(8)) {
    case 0:
        test_device(TEST_MESSAGES_CREATE + below(4), below(cpu_count), sint, connection);
        break;
    case 1:
        wrmsr_safe(HV_MSR_SINT(sint), fit(HV_MSR_SINT(sint), below(0x100) | below(8) << 16));
        break;
    case 2:
        wrmsr_safe(HV_MSR_STIMER_COUNT(timer), below(2) ? reference_time() + below(10000) : 1000 + below(5000));
        wrmsr_safe(HV_MSR_STIMER_CONFIG(timer), fit(HV_MSR_STIMER_CONFIG(timer), below(0x100000)));
        break;
    case 3:
        wrmsr_safe(below(2) ? HV_MSR_EOM : HV_MSR_SCONTROL, value());
        break;
    case 4:
    case 5: {
        uint32_t *input = (uint32_t *)(playground + this_cpu()->index % PLAYGROUND_PAGES * PAGE_SIZE);
        input[0] = connection;
        input[2] = 1 + below(2);
        input[3] = below(242);
        struct hypercall_registers registers = {.rcx = CALL_POST_MESSAGE, .rdx = (uint64_t)input};
        hypercall_make(&registers);
        break;
    }
    case 6: {
        struct hypercall_registers registers = {.rcx = CALL_SIGNAL_EVENT | CALL_FAST, .rdx = connection};
        hypercall_make(&registers);
        break;
    }
    default:
        overlays();
    }
}

static const struct {
    const char *name;
    void (*step)(void);
} kinds[] = {{"hypercalls", hypercalls}, {"msrs", msrs}, {"overlays", overlays}, {"messages", messages}};

static int only = -1;
static unsigned steps_done[CPUS_MAX];

static void attack(void *unused)
{
    unsigned cpu = this_cpu()->index;
    (void)unused;
    apic_write(APIC_TASK_PRIORITY, TASK_PRIORITY);
    while (rdtsc() < deadline) {
        for (unsigned step = 0; step < STEPS; step++, steps_done[cpu]++)
            kinds[only >= 0 ? (unsigned)only : below(ARRAY_LENGTH(kinds))].step();
        interrupts_on();
        relax();
        interrupts_off();
    }
    /* No interrupts may arrive after the other VPs have finished. */
    for (unsigned timer = 0; timer < HV_TIMERS; timer++)
        wrmsr_safe(HV_MSR_STIMER_CONFIG(timer), 0);
    wrmsr_safe(HV_MSR_SCONTROL, 0);
    wrmsr_safe(HV_MSR_TPR, TASK_PRIORITY);
}

/* Ends the interrupt through the APIC itself, because the hypervisor's registers have random values. */
static void end_interrupt(struct interrupt_frame *frame)
{
    (void)frame;
    apic_end_of_interrupt();
}

static void choose(void)
{
    const char *kind = command_line_value("only");
    for (unsigned i = 0; kind && i < ARRAY_LENGTH(kinds); i++)
        if (text_equal(kind, kinds[i].name))
            only = i;
    if (kind && only < 0) {
        print("only=%s is not one of the kinds in hostile.c\n", kind);
        machine_exit(EXIT_USAGE);
    }
}

int main(void)
{
    uint64_t seconds = command_line_number("seconds", 2), seed = command_line_number("seed", 1);
    choose();
    for (unsigned vector = FIRST_INTERRUPT_VECTOR; vector < VECTOR_COUNT - 1; vector++)
        interrupt_set_handler(vector, end_interrupt);
    smp_start_all();
    playground = (uint64_t)pages_allocate_zeroed(PLAYGROUND_PAGES);
    hypercall_enable();
    for (unsigned cpu = 0; cpu < cpu_count; cpu++)
        states[cpu] = (seed + cpu + 1) * 0x9e3779b97f4a7c15ULL;
    deadline = deadline_after(seconds * 1000);
    bool all_ended = smp_run_everywhere(attack, NULL, (seconds + 60) * 1000);
    uint64_t steps = 0;
    for (unsigned cpu = 0; cpu < cpu_count; cpu++)
        steps += steps_done[cpu];
    print("%lu random steps by %u VPs in %lu s with seed %lu%s\n", steps, cpu_count, seconds, seed,
          all_ended ? "" : "; some VPs did not come back");
    if (!all_ended)
        return EXIT_FAILED;
    machine_power_off();
    return EXIT_IGNORED;
}
