/*
 * A driver that releases and adds memory on request, and checks the content of the memory that it gets.
 */
#include "dm.h"

#include "paging.h"

#define PATTERN 0x9d5c3a1bfeedf00dULL
/* Pages of the memory at the start, below this one, are released: the highest first. The image, its stack and its tables are far below. */
#define END (128ULL << 20 >> 12)
/* The unit of a demand that is typed. */
#define UNIT (20ULL << 20 >> 12)

static uint64_t lowest = END; /* the first released page; all from there to END are released */
static uint64_t demand = 10000; /* number of pages that the guest needs */

static void fill(uint64_t first, uint64_t count)
{
    for (uint64_t page = first; page < first + count; page++)
        write64(page << 12, PATTERN ^ page);
}

static bool is_all(uint64_t first, uint64_t count, bool zero)
{
    for (uint64_t page = first; page < first + count; page++)
        if (read64(page << 12) != (zero ? 0 : PATTERN ^ page))
            return false;
    return true;
}

static bool give(struct dm *dm, uint64_t count)
{
    uint64_t first = lowest - count, half = count / 2;
    fill(first, count);
    uint64_t ranges[2] = {PAGES(first, half), PAGES(first + half, count - half)};
    lowest = first;
    return CHECK("the first half is released", dm_give(dm, ranges, 1, true)) &&
           CHECK("the second half is released", dm_give(dm, ranges + 1, 1, false));
}

/* Takes released pages back. The host returns the lowest pages first. */
static bool take_back(struct dm *dm)
{
    uint32_t ranges = dm->received.words[1];
    for (uint32_t i = 0; i < ranges; i++) {
        uint64_t range = dm->received.quads[1 + i], first = range & 0xffffffffffULL, length = range >> 40;
        if (!CHECK("the host returns the pages in order", first == lowest) ||
            !CHECK("the host returns no more than was released", length <= END - lowest))
            return false;
        CHECK("the returned pages are zero", is_all(first, length, true));
        fill(first, length);
        CHECK("the returned pages can be used", is_all(first, length, false));
        lowest += length;
    }
    return CHECK("the reply is sent", dm_send(dm, UNBALLOON_RESPONSE, NULL, 0));
}

static bool add(struct dm *dm)
{
    uint64_t range = dm->received.quads[0], first = range & 0xffffffffffULL, count = range >> 40;
    if (dm->received.size == 24) {
        uint64_t region = dm->received.quads[1];
        CHECK_EQUAL("the region starts at a multiple of the block size", region % 32768, 0);
        CHECK_EQUAL("the region is a multiple of the block size", (region >> 40) % 32768, 0);
        CHECK("the region contains the pages",
              (region & 0xffffffffffULL) <= first && (region & 0xffffffffffULL) + (region >> 40) >= first + count);
    }
    map(first << 12, first << 12, count << 12, PAGE_WRITE);
    CHECK("new memory is zero", is_all(first, count, true));
    fill(first, count);
    CHECK("new memory can be used", is_all(first, count, false));
    uint32_t reply[2] = {count, 1};
    return CHECK("the reply is sent", dm_send(dm, HOT_ADD_RESPONSE, reply, sizeof reply));
}

/* Reports what the guest needs. As in Linux, released pages are part of it. */
static bool report(struct dm *dm)
{
    return dm_report(dm, demand + END - lowest);
}

/* Reports the demand that was typed: a digit. Returns false when a q is typed. */
static bool listen(struct dm *dm)
{
    int byte = console_read();
    if (byte >= '0' && byte <= '9') {
        demand = (byte - '0') * UNIT;
        report(dm);
    }
    return byte != 'q';
}

bool serve(unsigned requests, bool listens)
{
    static struct dm dm;
    if (!CHECK("the channel opens", dm_open(&dm)) ||
        !dm_negotiate(&dm, VERSION_2_0, CAN_BALLOON | CAN_HOT_ADD | ALIGNMENT_128_MIB) || !report(&dm))
        return false;
    print("serving\n");
    while (requests && (!listens || listen(&dm))) {
        if (!dm_take(&dm)) {
            wait_a_while();
            continue;
        }
        requests--;
        bool answered = false;
        switch (dm.received.type) {
        case BALLOON_REQUEST:
            answered = give(&dm, dm.received.words[0]);
            break;
        case UNBALLOON_REQUEST:
            answered = take_back(&dm);
            break;
        case HOT_ADD_REQUEST:
            answered = add(&dm);
            break;
        }
        if (!CHECK_NAMED(answered && report(&dm), "message %u is answered", dm.received.type))
            return false;
    }
    print("served\n");
    return CHECK("the host reads the last reply", channel_await_reading(&dm.channel));
}
