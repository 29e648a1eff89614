/*
 * Tests the runtime that all other images use, so that its errors are not taken for errors of the monitor.
 */
#include "runtime.h"

#define CANONICAL_HOLE 0x0000800000000000ULL
#define FREE_ADDRESS 0x500000000000ULL
#define NO_SUCH_MSR 0xffffffffu
#define LEAF_HYPERVISOR 0x40000000
#define MSR_EFER 0xc0000080
#define VECTOR_SELF 0x60
#define VECTOR_APIC_TIMER 0x61

static char formatted[64];
static size_t formatted_length;

static void to_buffer(const char *text, size_t length)
{
    memcpy(formatted + formatted_length, text, length);
    formatted_length += length;
}

static bool formats_as(const char *expected, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    formatted_length = 0;
    text_format(to_buffer, format, arguments);
    va_end(arguments);
    formatted[formatted_length] = 0;
    return text_equal(formatted, expected);
}

static bool reads_as(const char *text, uint64_t expected)
{
    uint64_t number = ~expected;
    return text_to_number(text, &number) && number == expected;
}

static void text(void)
{
    uint64_t number;
    CHECK("strings are padded on either side", formats_as("|  ab|ab  |", "|%4s|%-4s|", "ab", "ab"));
    CHECK("a precision cuts a string", formats_as("ab", "%.*s", 2, "abcd"));
    CHECK("numbers have signs and bases", formats_as("-7 7 ff", "%d %u %x", -7, 7, 255));
    CHECK("numbers are padded with zeros", formats_as("00ff|  ff", "%04x|%4x", 255, 255));
    CHECK("64-bit numbers are whole", formats_as("18446744073709551615", "%lu", ~0UL));
    CHECK("the least number prints", formats_as("-9223372036854775808", "%ld", 1UL << 63));
    CHECK("a per cent sign prints", formats_as("100%", "%d%%", 100));
    CHECK("decimal and hexadecimal numbers are read", reads_as("42", 42) && reads_as("0x2A", 42));
    CHECK("binary suffixes are read", reads_as("3M", 3 << 20) && reads_as("0x10G", 0x10ULL << 30));
    CHECK("texts that are not numbers are refused", !text_to_number("", &number) && !text_to_number("1x", &number) &&
                                              !text_to_number("0x", &number) && !text_to_number("KK", &number));
    CHECK("numbers that overflow are refused",
          !text_to_number("18446744073709551616", &number) && !text_to_number("0x8000000000000000K", &number));
}

static void memory(void)
{
    char bytes[] = "abcdefgh";
    memmove(bytes + 2, bytes, 4);
    CHECK("memory moves up over itself", text_equal(bytes, "ababcdgh"));
    memmove(bytes, bytes + 2, 4);
    CHECK("memory moves down over itself", text_equal(bytes, "abcdcdgh"));
    CHECK("memcmp orders bytes", memcmp("abc", "abd", 3) < 0 && memcmp("abc", "abd", 2) == 0);
    uint8_t *first = pages_allocate(2), *second = pages_allocate_zeroed(1);
    CHECK("pages do not overlap", second >= first + 2 * PAGE_SIZE || second + PAGE_SIZE <= first);
    CHECK("pages lie outside the image", (char *)first >= image_end || (char *)first + 2 * PAGE_SIZE <= image_begin);
}

static void divide_by_zero(void *argument)
{
    asm volatile("divb %0" : : "m"(*(uint8_t *)argument), "a"(1) : "cc");
}

static void undefined(void *unused)
{
    (void)unused;
    asm volatile("ud2");
}

static void catch_inside(void *argument)
{
    struct fault inner;
    *(bool *)argument = catch_fault(undefined, NULL, &inner) && inner.vector == VECTOR_INVALID_OPCODE;
    divide_by_zero(&(uint8_t){0});
}

static void nothing(void *unused)
{
    (void)unused;
}

static bool is_tcg(void)
{
    struct cpuid vendor = cpuid(LEAF_HYPERVISOR);
    uint32_t name[] = {vendor.ebx, vendor.ecx, vendor.edx};
    return memcmp(name, "TCGTCGTCGTCG", sizeof name) == 0;
}

static void unknown_msr(void)
{
    uint64_t value;
    CHECK_EQUAL("reading an unknown MSR raises #GP", rdmsr_safe(NO_SUCH_MSR, &value), VECTOR_GENERAL_PROTECTION);
    CHECK_EQUAL("writing an unknown MSR raises #GP", wrmsr_safe(NO_SUCH_MSR, 0), VECTOR_GENERAL_PROTECTION);
}

static void faults(void)
{
    uint64_t value;
    uint8_t zero = 0;
    bool inner = false;
    struct fault fault;
    if (is_tcg())
        print("# QEMU's TCG accepts unknown MSRs\n");
    else
        unknown_msr();
    CHECK("reading a known MSR does not fault", rdmsr_safe(MSR_EFER, &value) == NO_FAULT && value == rdmsr(MSR_EFER));
    CHECK_EQUAL("reading unmapped memory raises #PF", read64_safe(FREE_ADDRESS, &value), VECTOR_PAGE_FAULT);
    CHECK_EQUAL("writing unmapped memory raises #PF", write64_safe(FREE_ADDRESS, 0), VECTOR_PAGE_FAULT);
    CHECK_EQUAL("a non-canonical address raises #GP", read64_safe(CANONICAL_HOLE, &value), VECTOR_GENERAL_PROTECTION);
    CHECK("a function without a fault returns", !catch_fault(nothing, NULL, &fault));
    CHECK("a fault in a function is caught",
          catch_fault(divide_by_zero, &zero, &fault) && fault.vector == VECTOR_DIVIDE);
    CHECK("a fault is caught after a nested catch",
          catch_fault(catch_inside, &inner, &fault) && inner && fault.vector == VECTOR_DIVIDE);
}

static void paging(void)
{
    uint64_t *page = pages_allocate_zeroed(1), value;
    map(FREE_ADDRESS, (uint64_t)page, PAGE_SIZE, PAGE_WRITE);
    write64(FREE_ADDRESS + 8, 42);
    CHECK_EQUAL("a new mapping reaches its page", page[1], 42);
    map(FREE_ADDRESS, (uint64_t)page, PAGE_SIZE, PAGE_PRESENT);
    CHECK_EQUAL("a read-only mapping refuses writes", write64_safe(FREE_ADDRESS, 1), VECTOR_PAGE_FAULT);
    CHECK("a read-only mapping can be read", read64_safe(FREE_ADDRESS + 8, &value) == NO_FAULT && value == 42);
    map(FREE_ADDRESS, 0, PAGE_SIZE, 0);
    CHECK_EQUAL("an unmapped page raises #PF", read64_safe(FREE_ADDRESS, &value), VECTOR_PAGE_FAULT);
    CHECK_EQUAL("an unmapped page has no page table entry", mapping_of(FREE_ADDRESS), 0);
    map((uint64_t)page, 0, PAGE_SIZE, 0);
    CHECK_EQUAL("one page of a large page can be unmapped", read64_safe((uint64_t)page, &value), VECTOR_PAGE_FAULT);
    CHECK_EQUAL("the next page of the large page stays mapped", read64_safe((uint64_t)page + PAGE_SIZE, &value), NO_FAULT);
    map((uint64_t)page, (uint64_t)page, PAGE_SIZE, PAGE_WRITE);
    CHECK_EQUAL("the page of the large page can be mapped again", page[1], 42);
}

/* Counts of the local APIC's timer: 25 MHz to 1 GHz. */
#define SOON 5000000
#define LATER 100000000

static volatile unsigned interrupts_taken;
static volatile unsigned timers_expired;

static void count_interrupt(struct interrupt_frame *frame)
{
    interrupts_taken++;
    (void)frame;
    apic_end_of_interrupt();
}

static void count_timer(struct interrupt_frame *frame)
{
    timers_expired++;
    (void)frame;
    apic_end_of_interrupt();
}

static void interrupts(void)
{
    apic_initialize();
    interrupt_set_handler(VECTOR_SELF, count_interrupt);
    interrupt_set_handler(VECTOR_APIC_TIMER, count_timer);
    apic_write(APIC_TIMER_DIVIDE, 0xb); /* by 1 */
    apic_write(APIC_TIMER, VECTOR_APIC_TIMER);
    /*
     * QEMU's VMRUN loses the delay of interrupts after the guest's STI, so an interrupt that waits is sometimes handled between
     * the STI and the HLT. The timer ends the halt then. Below, it expires too late for that.
     */
    apic_write(APIC_TIMER_INITIAL, LATER);
    apic_send(0, APIC_FIXED | APIC_ASSERT | APIC_TO_SELF | VECTOR_SELF);
    CHECK_EQUAL("an interrupt waits while interrupts are off", interrupts_taken, 0);
    wait_for_interrupt();
    CHECK_EQUAL("a pending interrupt is handled when interrupts are enabled", interrupts_taken, 1);

    apic_write(APIC_TIMER_INITIAL, 0);
    timers_expired = 0;
    apic_write(APIC_TIMER_INITIAL, SOON);
    while (!timers_expired)
        wait_for_interrupt();
    CHECK_EQUAL("the APIC timer wakes a halted processor once", timers_expired, 1);
    CHECK_EQUAL("an ended interrupt is no longer in service",
                apic_read(APIC_IN_SERVICE + VECTOR_APIC_TIMER / 32) >> VECTOR_APIC_TIMER % 32 & 1, 0);
}

static void acpi(void)
{
    const struct acpi_header *table;
    CHECK("the RSDP is found", acpi_rsdp());
    if (!acpi_rsdp())
        return;
    CHECK("the RSDP's first checksum is valid", acpi_checksum_is_valid((void *)acpi_rsdp(), 20));
    for (unsigned i = 0; (table = acpi_table(i)); i++)
        CHECK_NAMED(acpi_checksum_is_valid(table, table->length), "%.*s has a valid checksum", 4, table->signature);
    table = acpi_find("DSDT");
    CHECK("DSDT has a valid checksum", table && acpi_checksum_is_valid(table, table->length));
    CHECK("the MADT lists a processor", acpi_processor_count());
    CHECK("the FADT and the DSDT define how to power off", acpi_power().control_port || acpi_power().sleep_control);
}

static void time(void)
{
    print("# TSC: %lu Hz, from %s\n", tsc_frequency(), tsc_frequency_source());
    uint64_t begin = rdtsc();
    delay_microseconds(1000);
    uint64_t ticks = rdtsc() - begin;
    CHECK("a delay takes at least its time", ticks >= tsc_frequency() / 1000);
    CHECK("a wait for a condition that stays false ends", !WAIT_UNTIL(false, 1));
    CHECK("a wait for a condition that is true returns at once", WAIT_UNTIL(true, 0));
}

int main(void)
{
    static const struct test tests[] = {
        {"text", text},     {"memory", memory},         {"faults", faults},
        {"paging", paging}, {"interrupts", interrupts}, {"acpi", acpi},
        {"time", time},
    };
    return RUN_CHECKS(tests);
}
