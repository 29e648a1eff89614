/*
 * Measures the cost of each kind of exit from the guest, without the guest's own instructions. Prints a line
 * `cost NAME NANOSECONDS` for each.
 *
 * Needs the test device (`--test-device`). Command line: `rounds=N` (default 15) measurements of `count=N` (default 400) exits each;
 * the line has the median. `stretch=nothing|signals|messages|autoeoi` instead does the named action `count` times, between two lines that
 * scripts/lib/measure understands, each of which it answers with a line.
 */
#include "counter.h"
#include "hypercall.h"
#include "runtime.h"
#include "synic.h"

/* The ports that the hypercall page's code writes to: see src/hyperv/page.rs. */
#define SIGNAL_PORT 0xec
#define CALL_PORT 0xea
/* The port of POST codes, which no device uses. */
#define UNUSED_PORT 0x80

#define EVENTS 0x91
#define MESSAGES 0x11
#define SINT 2
#define VECTOR_OF_SINT 0x50
#define MESSAGE_TYPE 0x12345
#define ROUNDS_MAX 101
/* Longer than the first rounds of src/engine/auto_eoi.rs. */
#define DISABLED_MICROSECONDS 100
/* Each read of the console's status is an exit, so they are rare. */
#define LOOK_MICROSECONDS 200000

/* The hypercall page, and a copy of it in which each instruction that leaves the guest is replaced by a NOP. */
static const void *page, *idle_page;
static uint8_t *output;
static uint64_t refused;

static void make_idle_page(void)
{
    uint8_t *copy = pages_allocate(1);
    memcpy(copy, page, PAGE_SIZE);
    for (unsigned i = 0; i + 1 < PAGE_SIZE; i++)
        if ((copy[i] == 0xe7 && copy[i + 1] == SIGNAL_PORT) || (copy[i] == 0xe6 && copy[i + 1] == CALL_PORT)) {
            copy[i] = 0x66; /* a NOP of the same length */
            copy[i + 1] = 0x90;
        }
    idle_page = copy;
}

static inline uint64_t call(const void *entry, uint64_t input, uint64_t first, uint64_t second)
{
    uint64_t result;
    register uint64_t third asm("r8") = second;
    asm volatile("call *%[entry]"
                 : "=a"(result), "+c"(input), "+d"(first), "+r"(third)
                 : [entry] "r"(entry)
                 : "memory", "cc");
    return result;
}

/*
 * Each function executes one kind of exit, or the same code without the instruction that leaves the guest. In the copy of the
 * hypercall page, that instruction is a NOP. `nop` is the cost of a NOP, which must not be subtracted.
 */
static void doorbell(unsigned count, bool leave)
{
    const void *entry = leave ? page : idle_page;
    while (count--)
        refused += call(entry, CALL_SIGNAL_EVENT | CALL_FAST, EVENTS, 0);
}

static void exiting_call(unsigned count, bool leave)
{
    const void *entry = leave ? page : idle_page;
    while (count--) {
        uint64_t result = call(entry, CALL_EXT_QUERY_CAPABILITIES, 0, (uint64_t)output);
        refused += leave ? result : 0;
    }
}

#define ONE_INSTRUCTION(name, instruction, ...)                                                                        \
    static void name(unsigned count, bool leave)                                                                       \
    {                                                                                                                  \
        if (leave)                                                                                                     \
            while (count--)                                                                                            \
                asm volatile(instruction : : __VA_ARGS__ : "memory");                                                  \
        else                                                                                                           \
            while (count--)                                                                                            \
                asm volatile("" : : __VA_ARGS__ : "memory");                                                           \
    }

ONE_INSTRUCTION(nop, "xchg %%ax, %%ax", "a"(0))
ONE_INSTRUCTION(port_exit, "outb %%al, %1", "a"(0), "i"(UNUSED_PORT))
ONE_INSTRUCTION(ioeventfd, "outl %%eax, %1", "a"(EVENTS), "i"(SIGNAL_PORT))
ONE_INSTRUCTION(msr, "wrmsr", "a"(0), "d"(0), "c"(HV_MSR_CRASH_PARAMETER(0)))

static const struct way {
    const char *name;
    void (*go)(unsigned count, bool leave);
} ways[] = {
    {"nop", nop},
    {"doorbell", doorbell},
    {"ioeventfd", ioeventfd},
    {"hypercall", exiting_call},
    {"port", port_exit},
    {"msr", msr},
};

static uint64_t ticks(const struct way *way, unsigned count, bool leave)
{
    uint64_t before = rdtsc();
    way->go(count, leave);
    return rdtsc() - before;
}

static uint64_t median(uint64_t *values, unsigned count)
{
    for (unsigned i = 1; i < count; i++)
        for (unsigned j = i; j && values[j - 1] > values[j]; j--) {
            uint64_t held = values[j];
            values[j] = values[j - 1];
            values[j - 1] = held;
        }
    return values[count / 2];
}

/* Measure the kinds in turns, so that other load on the host affects all of them equally. */
static void measure(unsigned rounds, unsigned count)
{
    static uint64_t samples[ARRAY_LENGTH(ways)][ROUNDS_MAX];
    for (unsigned round = 0; round < rounds; round++)
        for (unsigned i = 0; i < ARRAY_LENGTH(ways); i++) {
            uint64_t whole = ticks(&ways[i], count, true), own = ticks(&ways[i], count, false);
            samples[i][round] = whole > own ? whole - own : 0;
        }
    for (unsigned i = 0; i < ARRAY_LENGTH(ways); i++) {
        bool has_nop = ways[i].go == doorbell || ways[i].go == exiting_call;
        uint64_t cost = median(samples[i], rounds) + (has_nop ? median(samples[0], rounds) : 0);
        print("cost %s %lu\n", ways[i].name, cost * 1000 / count * 1000000 / tsc_frequency());
    }
}

/* The number of received messages, and of interrupts or signals. */
static unsigned taken, handled;

static void take(struct interrupt_frame *frame)
{
    struct message message;
    (void)frame;
    taken += message_take(SINT, &message);
    handled++;
    apic_end_of_interrupt();
}

/* As above, for an interrupt that ends by itself. */
static void take_ended(struct interrupt_frame *frame)
{
    struct message message;
    (void)frame;
    taken += message_take(SINT, &message);
    handled++;
}

/* With AutoEOI, each message comes while interrupts are disabled, which they are for a while. */
static void send_messages(unsigned count, bool auto_eoi)
{
    struct {
        uint32_t connection, padding, type, size;
        uint64_t payload;
    } *input = (void *)output;
    interrupt_set_handler(VECTOR_OF_SINT, auto_eoi ? take_ended : take);
    synic_enable();
    sint_set(SINT, VECTOR_OF_SINT | (auto_eoi ? HV_SINT_AUTO_EOI : 0));
    test_device(TEST_MESSAGES_CREATE, 0, SINT, MESSAGES);
    interrupts_on();
    for (unsigned i = 0; i < count; i++) {
        *input = (typeof(*input)){.connection = MESSAGES, .type = MESSAGE_TYPE, .size = 8, .payload = i};
        if (auto_eoi)
            interrupts_off();
        refused += call(page, CALL_POST_MESSAGE, (uint64_t)input, 0);
        if (auto_eoi) {
            delay_microseconds(DISABLED_MICROSECONDS);
            interrupts_on();
        }
        refused += !WAIT_UNTIL(atomic_load(&taken) == i + 1, PATIENCE_MILLISECONDS);
    }
    interrupts_off();
}

/* Wait for a line from the reader of KVM's statistics: KVM discards them when the machine ends. */
static void wait_for_line(void)
{
    while (console_read() != '\n')
        delay_microseconds(LOOK_MICROSECONDS);
}

static void stretch(const char *name, unsigned count)
{
    print("measure begin %s\n", name);
    wait_for_line();
    if (text_equal(name, "signals")) {
        doorbell(count, true);
        handled = test_device_count();
    }
    else if (text_equal(name, "messages"))
        send_messages(count, false);
    else if (text_equal(name, "autoeoi"))
        send_messages(count, true);
    else if (!text_equal(name, "nothing"))
        machine_exit(EXIT_USAGE);
    print("measure end %s count=%u handled=%u\n", name, count, handled);
    wait_for_line();
}

int main(void)
{
    uint64_t rounds = command_line_number("rounds", 15), count = command_line_number("count", 400);
    const char *name = command_line_value("stretch");
    if (!rounds || rounds > ROUNDS_MAX || !count || count > UINT32_MAX)
        return EXIT_USAGE;
    apic_initialize();
    if (!hypercall_enable())
        return EXIT_FAILED;
    page = (const void *)hypercall_page();
    make_idle_page();
    output = pages_allocate_zeroed(1);
    test_device(TEST_EVENTS_COUNT, 0, 0, EVENTS);
    if (name)
        stretch(name, count);
    else
        measure(rounds, count);
    test_device(TEST_EVENTS_DESTROY, 0, 0, EVENTS);
    if (refused)
        print("%lu of them were refused\n", refused);
    return refused ? EXIT_FAILED : EXIT_PASSED;
}
