/*
 * A driver for all services that answers like Linux and its daemons.
 */
#include "ic.h"

#include "hyperv.h"

#define REFERENCE_SECONDS(seconds) ((seconds) * 10000000)
#define TIME_SYNC 1
#define TIME_SAMPLE 2

static struct {
    uint64_t copied, sum, size;
    unsigned frozen, thawed, items, times;
    bool shut_down;
} seen;

/* Writes a text as UTF-16 into a field of zeros. Returns its length in bytes, including the terminating zero. */
static uint32_t put_text(uint8_t *field, const char *text)
{
    uint32_t length = 0;
    for (; *text; text++, length += 2)
        field[length] = *text;
    return length + 2;
}

static uint32_t number(const uint8_t *bytes)
{
    uint32_t number;
    memcpy(&number, bytes, sizeof number);
    return number;
}

/* There is exactly one intrinsic item. */
static uint32_t exchange_items(uint8_t *body)
{
    enum { SET = 1, DELETE, ENUMERATE };
    switch (body[0]) {
    case SET:
        /* Those of the pool 3 are the host's own. */
        seen.items += body[1] == 0;
        return 0;
    case ENUMERATE:
        if (body[1] != 2 || number(body + 4))
            return IC_NO_MORE;
        uint32_t sizes[3] = {1, put_text(body + 20, "NetworkAddressIPv4"), put_text(body + 532, "10.0.2.15")};
        memcpy(body + 8, sizes, sizeof sizes);
        return 0;
    default:
        return IC_NO_MORE;
    }
}

static uint32_t freeze_or_thaw(uint8_t *body)
{
    enum { HOT_BACKUP = 2, FREEZE = 5, THAW };
    seen.frozen += body[0] == FREEZE;
    seen.thawed += body[0] == THAW;
    if (body[0] == HOT_BACKUP)
        body[8] = 5;
    return 0;
}

static uint32_t copy_file(const uint8_t *body)
{
    enum { START, DATA };
    if (number(body) == START)
        memcpy(&seen.size, body + 1080, sizeof seen.size);
    if (number(body) == DATA) {
        uint32_t length = number(body + 48);
        seen.copied += length;
        for (uint32_t i = 0; i < length; i++)
            seen.sum += body[52 + i];
    }
    return 0;
}

/* From version 4.0: the guest's own reference time when the message was made, and what the guest is to do. */
static void check_reference_time(const uint8_t *body)
{
    uint64_t made, now = reference_time();
    memcpy(&made, body + 8, sizeof made);
    CHECK_NAMED(made <= now && now - made < REFERENCE_SECONDS(10 * patience()), "a message was made at %lu, now it is %lu", made,
                now);
    CHECK_EQUAL("the first message sets the clock, and later ones are samples", body[16], seen.times++ ? TIME_SAMPLE : TIME_SYNC);
}

static bool answer(struct ic *ic)
{
    uint8_t *body = ic_body(ic);
    uint32_t status = 0;
    if (ic->header.type == IC_NEGOTIATE) {
        ic_choose(ic, 3, ic->service->major, ic->service->minor);
    } else {
        switch (ic->service - services) {
        case SHUTDOWN:
            seen.shut_down = true;
            break;
        case TIME:
            check_reference_time(body);
            break;
        case HEARTBEAT:
            ++*(uint64_t *)body;
            break;
        case KVP:
            status = exchange_items(body);
            break;
        case VSS:
            status = freeze_or_thaw(body);
            break;
        case FILE_COPY:
            status = copy_file(body);
            break;
        }
    }
    return ic_reply(ic, status);
}

bool serve(void)
{
    static struct ic ics[SERVICES];
    for (unsigned kind = 0; kind < SERVICES; kind++)
        if (!CHECK_NAMED(ic_open(&ics[kind], kind), "the channel of %s opens", services[kind].name))
            return false;
    print("serving\n");
    while (!seen.shut_down) {
        for (unsigned kind = 0; kind < SERVICES; kind++)
            while (ic_take(&ics[kind]))
                if (!CHECK_NAMED(answer(&ics[kind]), "the answer of %s is sent", services[kind].name))
                    return false;
        wait_a_while();
    }
    if (!CHECK("the host reads the last reply", channel_await_reading(&ics[SHUTDOWN].channel)))
        return false;
    print("copied %lu of %lu bytes with the sum %lu, %u items, frozen %u times, thawed %u times\n", seen.copied, seen.size,
          seen.sum, seen.items, seen.frozen, seen.thawed);
    for (unsigned kind = 0; kind < SERVICES; kind++)
        CHECK_NAMED(ic_close(&ics[kind]), "the channel of %s closes", services[kind].name);
    return true;
}
