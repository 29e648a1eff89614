/*
 * Drivers that violate the protocol. After each, the device must work for a driver that follows it.
 */
#include "dm.h"

#include "hypercall.h"

static struct dm dm;

/* Long enough to notice a reaction of the host. */
static void let_the_host_react(void)
{
    interrupts_on();
    delay_microseconds(20000);
    interrupts_off();
}

static bool is_quiet(void)
{
    let_the_host_react();
    return !dm_take(&dm);
}

static bool opened(void)
{
    return CHECK("the channel opens", dm_open(&dm));
}

static bool connected(void)
{
    return opened() && dm_negotiate(&dm, VERSION_2_0, CAN_BALLOON | CAN_HOT_ADD);
}

/* The host asks a guest that has reported its status. */
static bool ready(void)
{
    return connected() && dm_report(&dm, 10000);
}

/* The channel closes, and can be opened and negotiated again. */
static void it_works_again(void)
{
    CHECK("the channel closes", dm_close(&dm));
    if (opened() && dm_negotiate(&dm, VERSION_2_0, CAN_BALLOON))
        CHECK("the channel closes again", dm_close(&dm));
}

static void versions(void)
{
    static const uint32_t unknown[] = {0, 4, 0x10001, 0x30000, UINT32_MAX};
    static const uint32_t known[] = {3, 0x10000, 0x20000};
    for (unsigned i = 0; i < ARRAY_LENGTH(known); i++) {
        if (!opened())
            return;
        for (unsigned j = 0; j < ARRAY_LENGTH(unknown); j++) {
            uint32_t request[2] = {unknown[j], 0};
            CHECK("a version is proposed", dm_send(&dm, DM_VERSION_REQUEST, request, sizeof request));
            if (dm_expect(&dm, DM_VERSION_RESPONSE))
                CHECK_EQUAL_NAMED(dm.received.quads[0], 0, "version %x is refused", unknown[j]);
        }
        dm_negotiate(&dm, known[i], CAN_BALLOON);
        it_works_again();
    }
    if (!opened())
        return;
    uint32_t last[2] = {0x30000, 1};
    CHECK("a last version is proposed", dm_send(&dm, DM_VERSION_REQUEST, last, sizeof last));
    dm_expect(&dm, DM_VERSION_RESPONSE);
    CHECK("a guest without a version gets no messages", is_quiet());
    it_works_again();
}

/* Messages that are not allowed now, or have a wrong length, end the service of the channel. */
static void messages_out_of_place(void)
{
    static uint64_t body[40];
    for (unsigned type = 0; type < 16; type++) {
        if (type == STATUS_REPORT)
            continue;
        if (!connected())
            return;
        CHECK("the message is sent", dm_send(&dm, type, body, sizeof body));
        CHECK_NAMED(is_quiet(), "no answer to message %u", type);
        it_works_again();
    }
    static const struct {
        const char *what;
        uint16_t size;
        unsigned length;
    } packets[] = {
        {"empty", 0, 0},          {"shorter than a header", 8, 4}, {"with the length 0", 0, 16},
        {"cut off", 48, 32},      {"with a short body", 16, 16},   {"of 64 KiB by its own words", 0xffff, 4096},
        {"too long", 6000, 6000},
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(packets); i++) {
        static uint8_t bytes[6000];
        struct dm_message *message = (void *)bytes;
        message->type = STATUS_REPORT;
        message->size = packets[i].size;
        if (!connected())
            return;
        CHECK_NAMED(dm_send_raw(&dm, bytes, packets[i].length), "a message is sent: %s", packets[i].what);
        CHECK_NAMED(is_quiet(), "no answer to a message that is %s", packets[i].what);
        it_works_again();
    }
}

/* The host has a smaller target, so it requests memory of each driver. This one never answers, or closes in the middle. */
static void a_guest_that_never_answers(void)
{
    if (!ready())
        return;
    dm_expect(&dm, BALLOON_REQUEST);
    for (unsigned i = 0; i < 5; i++)
        dm_report(&dm, i);
    CHECK("the host sends its request once", is_quiet());
    it_works_again();
}

static void ranges_that_are_not_the_guests(void)
{
    static uint64_t ranges[510];
    if (!ready())
        return;
    dm_expect(&dm, BALLOON_REQUEST);
    for (unsigned round = 0; round < 50; round++) {
        for (unsigned i = 0; i < ARRAY_LENGTH(ranges); i++)
            ranges[i] = round % 2 ? PAGES(0xffffffffff - i, 0xffffff - round) : PAGES(0x80000000 + i, 77);
        /* The image's own first pages are not released: their content would be lost. */
        ranges[0] = PAGES(0x4000, 1);
        ranges[1] = PAGES(0x4000, 1);
        while (!dm_give(&dm, ranges, ARRAY_LENGTH(ranges), true))
            let_the_host_react();
    }
    CHECK("the host still serves the channel", is_quiet());
    CHECK("the last pages are released", dm_give(&dm, ranges, 1, false));
    it_works_again();
}

static void a_count_without_ranges(void)
{
    if (!ready())
        return;
    dm_expect(&dm, BALLOON_REQUEST);
    uint32_t body[2] = {0, UINT32_MAX};
    CHECK("the response is sent", dm_send(&dm, BALLOON_RESPONSE, body, sizeof body));
    CHECK("there is no answer", is_quiet());
    it_works_again();
}

static void free_pages(void)
{
    static uint64_t input[512] __attribute__((aligned(PAGE_SIZE))), output[1] __attribute__((aligned(PAGE_SIZE)));
    const uint64_t large = 1 << 11, reps = CALL_REPS(1);
    const uint64_t page = 96ULL << 20;
    CHECK_EQUAL("the extended capabilities can be queried",
                RESULT_STATUS(hypercall(CALL_EXT_QUERY_CAPABILITIES, 0, (uint64_t)output)), STATUS_SUCCESS);
    CHECK("pages can be discarded", output[0] & 1 << 8);
    for (uint64_t at = page; at < page + 8 * LARGE_PAGE_SIZE; at += PAGE_SIZE)
        write64(at, at);
    input[0] = 2;
    input[1] = (page + LARGE_PAGE_SIZE) | large | 1;
    uint64_t result = hypercall(CALL_EXT_MEMORY_HEAT_HINT | reps, (uint64_t)input, 0);
    CHECK_EQUAL("two large pages are discarded", RESULT_STATUS(result), STATUS_SUCCESS);
    CHECK_EQUAL("the call completes one rep for them", RESULT_REPS(result), 1);
    for (unsigned i = 0; i < 8; i++)
        for (uint64_t at = page + i * LARGE_PAGE_SIZE; at < page + (i + 1) * LARGE_PAGE_SIZE; at += PAGE_SIZE)
            if (read64(at) != (i == 1 || i == 2 ? 0 : at)) {
                CHECK_EQUAL_NAMED(read64(at), i == 1 || i == 2 ? 0 : at, "the word at %lx", at);
                break;
            }
    for (unsigned i = 1; i < 512; i++)
        input[i] = (page + i % 8 * LARGE_PAGE_SIZE) | large;
    result = hypercall(CALL_EXT_MEMORY_HEAT_HINT | CALL_REPS(511), (uint64_t)input, 0);
    CHECK_EQUAL("a call with 511 ranges succeeds", RESULT_STATUS(result), STATUS_SUCCESS);
    CHECK_EQUAL("the call completes all 511 reps", RESULT_REPS(result), 511);
    input[3] = page; /* small */
    result = hypercall(CALL_EXT_MEMORY_HEAT_HINT | CALL_REPS(5), (uint64_t)input, 0);
    CHECK_EQUAL("small pages are refused", RESULT_STATUS(result), STATUS_INVALID_PARAMETER);
    CHECK_EQUAL("the reps before the small pages are completed", RESULT_REPS(result), 2);
    /* Beyond all memory, there is nothing to release. */
    input[1] = 1ULL << 50 | large | 0x7ff;
    CHECK_EQUAL("pages that do not exist are ignored",
                RESULT_STATUS(hypercall(CALL_EXT_MEMORY_HEAT_HINT | reps, (uint64_t)input, 0)), STATUS_SUCCESS);
    input[0] = 1;
    CHECK_EQUAL("other hints are refused",
                RESULT_STATUS(hypercall(CALL_EXT_MEMORY_HEAT_HINT | reps, (uint64_t)input, 0)), STATUS_INVALID_PARAMETER);
}

const struct test hostile_tests[] = {
    {"versions", versions},
    {"places", messages_out_of_place},
    {"silence", a_guest_that_never_answers},
    {"ranges", ranges_that_are_not_the_guests},
    {"count", a_count_without_ranges},
    {"free", free_pages},
};
const unsigned hostile_test_count = ARRAY_LENGTH(hostile_tests);
