/*
 * Calls that affect other VPs: interrupts and flushes.
 */
#include "calls.h"

#define VECTOR_IPI 0x62
#define FORMAT_SPARSE 0
#define FORMAT_ALL 1
#define FLUSH_ALL_PROCESSORS 1
#define FLUSH_ALL_SPACES 2

struct ipi {
    uint32_t vector;
    uint8_t vtl, reserved[3];
    uint64_t mask;
};
struct ipi_ex {
    uint32_t vector;
    uint8_t vtl, padding[3];
    uint64_t format, valid_banks, banks[2];
};

static void check_arrival(const char *how, uint64_t mask)
{
    unsigned expected = 0;
    for (unsigned cpu = 0; cpu < cpu_count; cpu++)
        if (mask >> cpu & 1) {
            expected++;
            CHECK_NAMED(wait_for_count(cpu, VECTOR_IPI, 1), "VP %u is interrupted by %s, mask 0x%lx", cpu, how, mask);
        }
    CHECK_EQUAL_NAMED(interrupts_counted_total(), expected, "only the targets are interrupted by %s, mask 0x%lx", how, mask);
    interrupt_counts_clear();
}

static void plain(uint64_t mask)
{
    struct ipi ipi = {VECTOR_IPI, 0, {0}, mask};
    CHECK_EQUAL("a fast interrupt call succeeds", hypercall(CALL_SEND_IPI | CALL_FAST, VECTOR_IPI, mask),
                STATUS_SUCCESS);
    check_arrival("a fast call", mask);
    memcpy(call_input, &ipi, sizeof ipi);
    CHECK_EQUAL("an interrupt call with parameters in memory succeeds", status_of(CALL_SEND_IPI), STATUS_SUCCESS);
    check_arrival("a call in memory", mask);
    CHECK_EQUAL("an interrupt call from 32-bit code succeeds",
                RESULT_STATUS(hypercall32(CALL_SEND_IPI | CALL_FAST, VECTOR_IPI, mask)), STATUS_SUCCESS);
    check_arrival("a call from 32-bit code", mask);
}

static void sparse(uint64_t mask)
{
    struct ipi_ex ipi = {VECTOR_IPI, 0, {0}, FORMAT_SPARSE, 1, {mask, 0}};
    memcpy(call_input, &ipi, sizeof ipi);
    CHECK_EQUAL("an interrupt call with a sparse set succeeds", status_of(CALL_SEND_IPI_EX | CALL_VARIABLE(1)), STATUS_SUCCESS);
    check_arrival("a sparse set", mask);
    ipi.valid_banks = 3;
    memcpy(call_input, &ipi, sizeof ipi);
    CHECK_EQUAL("a sparse set with a bank without VPs is accepted", status_of(CALL_SEND_IPI_EX | CALL_VARIABLE(2)),
                STATUS_SUCCESS);
    check_arrival("a sparse set of two banks", mask);
    if (hyperv_has(HV_XMM_INPUT)) {
        ipi.valid_banks = 1;
        CHECK_EQUAL("an interrupt call with a sparse set in registers succeeds",
                    hypercall_xmm(CALL_SEND_IPI_EX | CALL_VARIABLE(1), &ipi, 32), STATUS_SUCCESS);
        check_arrival("a sparse set in registers", mask);
    }
}

static void bad_interrupts(void)
{
    static const uint32_t vectors[] = {0, 1, 15, 256, 0x10000 | VECTOR_IPI, UINT32_MAX};
    for (unsigned i = 0; i < ARRAY_LENGTH(vectors); i++)
        CHECK_EQUAL_NAMED(hypercall(CALL_SEND_IPI | CALL_FAST, vectors[i], 1), STATUS_INVALID_HYPERCALL_INPUT,
                          "vector 0x%x is refused", vectors[i]);
    CHECK_EQUAL("an interrupt call without targets succeeds", hypercall(CALL_SEND_IPI | CALL_FAST, VECTOR_IPI, 0), STATUS_SUCCESS);
    CHECK_EQUAL("an interrupt call to VPs that do not exist succeeds",
                hypercall(CALL_SEND_IPI | CALL_FAST, VECTOR_IPI, 1ULL << 63), STATUS_SUCCESS);
    if (!hyperv_has(HV_USE_EX_MASKS))
        return;
    struct ipi_ex ipi = {VECTOR_IPI, 0, {0}, FORMAT_SPARSE, 1, {1, 0}};
    memcpy(call_input, &ipi, sizeof ipi);
    CHECK_EQUAL("a sparse set without its bank is refused", status_of(CALL_SEND_IPI_EX), STATUS_INVALID_HYPERCALL_INPUT);
    CHECK_EQUAL("a sparse set with an extra bank is refused", status_of(CALL_SEND_IPI_EX | CALL_VARIABLE(2)),
                STATUS_INVALID_HYPERCALL_INPUT);
}

void interrupts(void)
{
    if (!hyperv_has(HV_USE_CLUSTER_IPI)) {
        CHECK_EQUAL("interrupts by call are not offered", hypercall(CALL_SEND_IPI | CALL_FAST, VECTOR_IPI, 1),
                    STATUS_ACCESS_DENIED);
        CHECK_EQUAL("interrupts to sparse sets by call are not offered", status_of(CALL_SEND_IPI_EX), STATUS_ACCESS_DENIED);
        return;
    }
    count_interrupts(VECTOR_IPI);
    interrupt_counts_clear();
    for (uint64_t mask = 1; mask < 1ULL << cpu_count && mask < 64; mask++) {
        plain(mask);
        if (hyperv_has(HV_USE_EX_MASKS))
            sparse(mask);
    }
    if (hyperv_has(HV_USE_EX_MASKS)) {
        struct ipi_ex ipi = {VECTOR_IPI, 0, {0}, FORMAT_ALL, 0, {0, 0}};
        memcpy(call_input, &ipi, sizeof ipi);
        CHECK_EQUAL("an interrupt call to all VPs succeeds", status_of(CALL_SEND_IPI_EX), STATUS_SUCCESS);
        check_arrival("the set of all", (1ULL << cpu_count) - 1);
    }
    bad_interrupts();
    wait_with_interrupts(1);
    CHECK_EQUAL("refused calls send no interrupts", interrupts_counted_total(), 0);
}

/* Accesses a page, maps it to another place without invalidating the TLB, and then flushes by hypercall. */
static uint64_t *window, *places[2];
static uint64_t *window_entry;
static unsigned stale;

static void look(void *expected)
{
    atomic_add(&stale, *(volatile uint64_t *)window != (uint64_t)expected);
}

static void point_window(unsigned place)
{
    *(volatile uint64_t *)window_entry = (*window_entry & 0xfff) | gpa(places[place]);
}

/* The page table entry of the window. It is written directly, because map() would invalidate the stale translation. */
static uint64_t *entry_of(uint64_t address)
{
    uint64_t *table = (uint64_t *)(read_cr3() & ~0xfffULL);
    for (unsigned level = 3; level > 0; level--)
        table = (uint64_t *)(table[address >> (12 + 9 * level) & 511] & 0x000ffffffffff000ULL);
    return &table[address >> 12 & 511];
}

static void check_flush(const char *how, uint64_t (*flush)(void))
{
    for (unsigned place = 0; place < 2; place++) {
        point_window(place);
        CHECK_EQUAL_NAMED(flush(), STATUS_SUCCESS, "%s succeeds", how);
        atomic_store(&stale, 0);
        on_each_vp(look, (void *)(uint64_t)(place + 1));
        CHECK_EQUAL_NAMED(stale, 0, "no VP sees a stale translation after %s", how);
    }
}

struct flush {
    uint64_t space, flags, mask;
};
struct flush_ex {
    uint64_t space, flags, format, valid_banks, bank;
};

static uint64_t flush_everything(void)
{
    struct flush flush = {0, FLUSH_ALL_PROCESSORS | FLUSH_ALL_SPACES, 0};
    memcpy(call_input, &flush, sizeof flush);
    return status_of(CALL_FLUSH_SPACE);
}

static uint64_t flush_space_by_mask(void)
{
    struct flush flush = {read_cr3(), 0, (1ULL << cpu_count) - 1};
    memcpy(call_input, &flush, sizeof flush);
    return status_of(CALL_FLUSH_SPACE);
}

static uint64_t flush_list(void)
{
    struct flush flush = {read_cr3(), 0, (1ULL << cpu_count) - 1};
    memcpy(call_input, &flush, sizeof flush);
    *(uint64_t *)(call_input + sizeof flush) = (uint64_t)window;
    uint64_t result = hypercall(CALL_FLUSH_LIST | CALL_REPS(1), gpa(call_input), 0);
    CHECK_EQUAL("a flushed list counts as completed", RESULT_REPS(result), 1);
    return RESULT_STATUS(result);
}

static uint64_t flush_sparse(void)
{
    struct flush_ex flush = {read_cr3(), 0, FORMAT_SPARSE, 1, (1ULL << cpu_count) - 1};
    memcpy(call_input, &flush, sizeof flush);
    return status_of(CALL_FLUSH_SPACE_EX | CALL_VARIABLE(1));
}

static uint64_t flush_xmm(void)
{
    struct flush flush = {read_cr3(), 0, (1ULL << cpu_count) - 1};
    return RESULT_STATUS(hypercall_xmm(CALL_FLUSH_SPACE, &flush, sizeof flush));
}

void flushes(void)
{
    if (!hyperv_has(HV_USE_FLUSHES)) {
        static const uint16_t codes[] = {CALL_FLUSH_SPACE, CALL_FLUSH_LIST, CALL_FLUSH_SPACE_EX, CALL_FLUSH_LIST_EX};
        for (unsigned i = 0; i < ARRAY_LENGTH(codes); i++)
            CHECK_EQUAL_NAMED(hypercall_xmm(codes[i] | CALL_REPS(1), "", 0), STATUS_ACCESS_DENIED,
                              "the flush 0x%x is not offered", codes[i]);
        return;
    }
    window = pages_allocate(1);
    for (uint64_t place = 0; place < 2; place++) {
        places[place] = pages_allocate_zeroed(1);
        *places[place] = place + 1;
    }
    map(gpa(window), gpa(places[0]), PAGE_SIZE, PAGE_WRITE);
    window_entry = entry_of(gpa(window));
    CHECK_EQUAL("the window shows the first place", *window, 1);
    check_flush("a flush of everything", flush_everything);
    check_flush("a flush of one space by mask", flush_space_by_mask);
    check_flush("a flush of a list", flush_list);
    if (hyperv_has(HV_USE_EX_MASKS))
        check_flush("a flush of a sparse set", flush_sparse);
    if (hyperv_has(HV_XMM_INPUT))
        check_flush("a flush with parameters in registers", flush_xmm);
}
