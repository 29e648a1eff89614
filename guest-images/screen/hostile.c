/*
 * Drivers that violate the protocol. After each, the device must work for a driver that follows it.
 */
#include "screen.h"

static struct input input;

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
    return !input_take(&input);
}

static bool opened(enum input_kind kind)
{
    return CHECK_NAMED(input_open(&input, kind), "input %u: the channel opens", kind);
}

static void close_it(void)
{
    CHECK_NAMED(input_close(&input), "%s: the channel closes", input.name);
}

static void it_works(enum input_kind kind)
{
    if (!opened(kind))
        return;
    CHECK_NAMED(input_begin(&input), "%s: the device works again", input.name);
    close_it();
}

#define FOR_EACH_INPUT(kind)                                                                                             \
    for (enum input_kind kind = 0; kind < INPUTS && opened(kind); close_it(), it_works(kind), kind++)

static void versions_that_do_not_exist(void)
{
    static const uint32_t versions[] = {0, 1, 0x10001, 0x20001, 0x30000, 0xffffffff};
    FOR_EACH_INPUT(kind) {
        for (unsigned i = 0; i < ARRAY_LENGTH(versions); i++) {
            bool accepted = true;
            if (input_negotiate(&input, versions[i], &accepted))
                CHECK_NAMED(!accepted, "%s: version %x is refused", input.name, versions[i]);
        }
        CHECK_NAMED(is_quiet(), "%s: the host sends nothing more", input.name);
        CHECK_NAMED(input_begin(&input), "%s: the right version is accepted after all", input.name);
    }
}

static void a_guest_that_says_nothing(void)
{
    FOR_EACH_INPUT(kind)
        CHECK_NAMED(is_quiet(), "%s: the host waits", input.name);
}

static void messages_that_mean_nothing(void)
{
    FOR_EACH_INPUT(kind) {
        if (!input_begin(&input))
            return;
        for (uint32_t type = 0; type < 2000; type++) {
            uint32_t keyboard[] = {type + 5, type}, mouse[] = {PIPE_DATA, 12, type + 1, 4, type};
            while (!(kind == MOUSE ? input_send(&input, mouse, sizeof mouse) : input_send(&input, keyboard, sizeof keyboard)))
                let_the_host_react();
        }
        CHECK_NAMED(channel_await_reading(&input.channel), "%s: the packets are read", input.name);
        CHECK_NAMED(is_quiet(), "%s: the packets are not answered", input.name);
        CHECK_NAMED(input_begin(&input), "%s: the version can be negotiated again", input.name);
    }
}

/* Sends requests until the ring is full, without reading answers. */
static void requests_without_end(void)
{
    FOR_EACH_INPUT(kind) {
        uint32_t keyboard[] = {KEYBOARD_REQUEST, KEYBOARD_VERSION}, mouse[] = {PIPE_DATA, 12, MOUSE_REQUEST, 4, MOUSE_VERSION};
        for (unsigned i = 0; i < 3000; i++) {
            if (kind == MOUSE ? input_send(&input, mouse, sizeof mouse) : input_send(&input, keyboard, sizeof keyboard))
                continue;
            let_the_host_react();
            while (input_take(&input))
                ;
        }
        let_the_host_react();
        while (input_take(&input))
            ;
    }
}

/* Truncated packets, and packets that claim more bytes than they have, end the service of the channel. */
static void packets_that_are_none(void)
{
    static const struct {
        const char *what;
        enum input_kind kind;
        unsigned length;
        uint32_t words[5];
    } packets[] = {
        {"empty", KEYBOARD, 0, {0}},
        {"empty", MOUSE, 0, {0}},
        {"only the pipe's header", MOUSE, 8, {PIPE_DATA, 0}},
        {"of another kind", MOUSE, 20, {2, 12, MOUSE_REQUEST, 4, MOUSE_VERSION}},
        {"longer than it is", MOUSE, 20, {PIPE_DATA, 0xffffffff, MOUSE_REQUEST, 4, MOUSE_VERSION}},
        {"a request without a version", MOUSE, 16, {PIPE_DATA, 8, MOUSE_REQUEST, 0}},
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(packets); i++) {
        if (!opened(packets[i].kind))
            return;
        CHECK_NAMED(input_send(&input, packets[i].words, packets[i].length), "%s: sent: %s", input.name, packets[i].what);
        CHECK_NAMED(is_quiet(), "%s: not answered: %s", input.name, packets[i].what);
        close_it();
        it_works(packets[i].kind);
    }
}

const struct test hostile_tests[] = {
    {"versions", versions_that_do_not_exist}, {"silence", a_guest_that_says_nothing},
    {"unknown", messages_that_mean_nothing},  {"requests", requests_without_end},
    {"framing", packets_that_are_none},       {"screen versions", screens_of_no_version},
    {"screens", screens_that_cannot_be},      {"screen framing", screens_that_are_cut_off},
    {"screens without end", screens_without_end},
};
const unsigned hostile_test_count = ARRAY_LENGTH(hostile_tests);
