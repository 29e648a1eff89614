/*
 * Drivers that violate the protocol. After each, the service must work for a driver that follows it.
 */
#include "ic.h"

static struct ic ic;

/* Long enough to notice a reaction of the host. */
static void let_the_host_react(void)
{
    interrupts_on();
    delay_microseconds(20000);
    interrupts_off();
}

static bool opened(enum service_kind kind)
{
    return CHECK_NAMED(ic_open(&ic, kind) && ic_receive(&ic) && ic.header.type == IC_NEGOTIATE, "%s: the host negotiates",
                       services[kind].name);
}

static void close_it(void)
{
    CHECK_NAMED(ic_close(&ic), "%s: the channel closes", ic.service->name);
}

/* The channel can be opened and negotiated again. Services that send the first message do so. */
static void it_works(enum service_kind kind)
{
    if (!CHECK_NAMED(ic_open(&ic, kind) && ic_negotiate(&ic), "%s: the service can be negotiated again", services[kind].name))
        return;
    if (kind == TIME || kind == HEARTBEAT || kind == KVP)
        CHECK_NAMED(ic_receive(&ic) && ic.header.type == ic.service->type, "%s: the service works again", ic.service->name);
    close_it();
}

#define FOR_EACH_SERVICE(kind) for (enum service_kind kind = 0; kind < SERVICES; kind++, close_it(), it_works(kind - 1))

static bool is_quiet(void)
{
    let_the_host_react();
    return !ic_take(&ic);
}

static void versions_that_do_not_exist(void)
{
    static const uint16_t choices[][3] = {{0, 0, 0}, {2, 3, 0}, {3, 9, 9}, {0xffff, 0xffff, 0xffff}};
    for (unsigned i = 0; i < ARRAY_LENGTH(choices); i++) {
        FOR_EACH_SERVICE(kind) {
            if (!opened(kind))
                return;
            ic_choose(&ic, choices[i][0], choices[i][1], choices[i][2]);
            CHECK("the choice is sent", ic_reply(&ic, 0));
            CHECK_NAMED(is_quiet(), "%s: a guest with version %x gets no messages", ic.service->name, choices[i][1]);
        }
    }
}

static void a_guest_that_never_answers(void)
{
    FOR_EACH_SERVICE(kind) {
        if (!opened(kind))
            return;
        CHECK_NAMED(is_quiet(), "%s: the host waits", ic.service->name);
    }
}

/* Sends the message when the ring has room. */
static void send_soon(void)
{
    while (!ic_send(&ic, ic.bytes, ic.length))
        let_the_host_react();
}

static void replies_that_nobody_asked_for(void)
{
    FOR_EACH_SERVICE(kind) {
        if (!opened(kind))
            return;
        uint8_t id = ic.header.id;
        ic_choose(&ic, 3, ic.service->major, ic.service->minor);
        ic.header.flags = IC_RESPONSE;
        for (unsigned i = 0; i < 2000; i++) {
            ic.header.id = id + 1 + i % 255;
            ic.header.type = i % 9;
            ic.header.status = i;
            send_soon();
        }
        /* The host still waits for the right reply. */
        ic.header.id = id;
        ic.header.type = IC_NEGOTIATE;
        ic.header.status = 0;
        send_soon();
        CHECK_NAMED(channel_await_reading(&ic.channel), "%s: the replies are read", ic.service->name);
        if (kind == HEARTBEAT || kind == TIME || kind == KVP)
            CHECK_NAMED(ic_receive(&ic) && ic.header.type == ic.service->type, "%s: the right reply is accepted", ic.service->name);
    }
}

/* Malformed packets end the service of the channel. */
static void packets_that_are_none(void)
{
    static const struct {
        const char *what;
        unsigned length, kind, message, body;
    } packets[] = {
        {"empty", 0, 1, 0, 0},
        {"only the pipe's header", 8, 1, 20, 0},
        {"cut off", 24, 1, 20, 0},
        {"of another kind", 64, 7, 56, 16},
        {"with a message that is longer than the packet", 64, 1, 57, 16},
        {"with a message of 4 GiB", 64, 1, 0xffffffff, 16},
        {"with a body that is longer than the message", 64, 1, 56, 37},
        {"with a body of 64 KiB", 64, 1, 56, 0xffff},
        {"too long", 8000, 1, 7992, 16},
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(packets); i++) {
        FOR_EACH_SERVICE(kind) {
            if (!opened(kind))
                return;
            ic.header.kind = packets[i].kind;
            ic.header.length = packets[i].message;
            ic.header.size = packets[i].body;
            ic.header.flags = IC_RESPONSE;
            CHECK_NAMED(ic_send(&ic, ic.bytes, packets[i].length), "a packet is sent: %s", packets[i].what);
            CHECK_NAMED(is_quiet(), "%s: no answer to a packet that is %s", ic.service->name, packets[i].what);
        }
    }
}

/* Valid headers with bodies that are too short for the reply. */
static void short_bodies(void)
{
    FOR_EACH_SERVICE(kind) {
        if (kind == SHUTDOWN || kind == VSS || kind == FILE_COPY) {
            if (!opened(kind))
                return;
            continue;
        }
        if (!CHECK("the service can be negotiated", ic_open(&ic, kind) && ic_negotiate(&ic)))
            return;
        for (unsigned i = 0; i < 5 && ic_receive(&ic); i++) {
            ic.header.size = i;
            ic.header.length = sizeof(struct ic_header) - 8 + i;
            ic.length = sizeof(struct ic_header) + i;
            CHECK("the short reply is sent", ic_reply(&ic, 0));
            if (kind == KVP)
                break; /* The host sends its request again later. */
        }
    }
}

const struct test hostile_tests[] = {
    {"versions", versions_that_do_not_exist}, {"silence", a_guest_that_never_answers},
    {"unasked", replies_that_nobody_asked_for}, {"framing", packets_that_are_none},
    {"short", short_bodies},
};
const unsigned hostile_test_count = ARRAY_LENGTH(hostile_tests);
