/*
 * Invalid control messages, too many messages, and the end of connections.
 */
#include "tests.h"

/* Posts a message of these words, padded with zeros. The hypercall itself must succeed. */
static void post_odd(const char *what, const uint32_t *words, unsigned length)
{
    uint8_t bytes[MESSAGE_PAYLOAD_MAX] = {0};
    memcpy(bytes, words, length < 28 ? length : 28);
    CHECK_EQUAL_NAMED(vmbus_post_once(CONNECTION_MESSAGES_5, bytes, length), STATUS_SUCCESS, "%s is accepted by the hypercall", what);
}

/* Expects a refusal of this type as the next message. */
static void expect_refusal(enum vmbus_message_type type)
{
    struct vmbus_message answer;
    if (!vmbus_expect(type, &answer))
        return;
    uint32_t status = type == MODIFYCHANNEL_RESPONSE ? answer.modified.status
                      : type == GPADL_CREATED        ? answer.created.status
                                                     : answer.opened.status;
    CHECK_NAMED(status != 0, "the answer of type %u has an error status", type);
}

void malformed(void)
{
    const struct offer *offer = device();
    struct channel channel;
    if (!offer || command_line_number("max", VMBUS_NEWEST) < VMBUS_NEWEST)
        return;
    uint32_t id = offer->channel;
    post_odd("an empty message", (uint32_t[7]){0}, 0);
    post_odd("half a header", (uint32_t[7]){REQUESTOFFERS}, 4);
    post_odd("a message of no known type", (uint32_t[7]){99}, 240);
    post_odd("a message that only a host sends", (uint32_t[7]){OFFERCHANNEL}, 240);
    post_odd("a second request for offers", (uint32_t[7]){REQUESTOFFERS}, 8);
    post_odd("OPENCHANNEL, cut short", (uint32_t[7]){OPENCHANNEL, 0, id}, 16);
    post_odd("CLOSECHANNEL of a closed channel", (uint32_t[7]){CLOSECHANNEL, 0, id}, 12);
    post_odd("CLOSECHANNEL of no channel", (uint32_t[7]){CLOSECHANNEL, 0, 2000}, 12);
    post_odd("GPADL_TEARDOWN of no GPADL", (uint32_t[7]){GPADL_TEARDOWN, 0, id, 0xdead}, 16);
    post_odd("GPADL_BODY without a header", (uint32_t[7]){GPADL_BODY, 0, 0, 0xdead}, 24);
    post_odd("RELID_RELEASED of no channel", (uint32_t[7]){RELID_RELEASED, 0, 0xffffffff}, 12);

    post_odd("OPENCHANNEL on no GPADL", (uint32_t[7]){OPENCHANNEL, 0, id, 1, 0xdead}, 148);
    expect_refusal(OPENCHANNEL_RESULT);
    post_odd("OPENCHANNEL of no channel", (uint32_t[7]){OPENCHANNEL, 0, 2047, 1, 1}, 148);
    expect_refusal(OPENCHANNEL_RESULT);
    post_odd("MODIFYCHANNEL of a closed channel", (uint32_t[7]){MODIFYCHANNEL, 0, id, 0}, 16);
    expect_refusal(MODIFYCHANNEL_RESPONSE);
    /* The words are channel, GPADL, length and count of the ranges, and the first range's length and offset. */
    post_odd("a GPADL of no range", (uint32_t[7]){GPADL_HEADER, 0, id, 0x7001, 16}, 36);
    expect_refusal(GPADL_CREATED);
    post_odd("a GPADL of no bytes", (uint32_t[7]){GPADL_HEADER, 0, id, 0x7002, 16 | 1 << 16, 0, 0}, 36);
    expect_refusal(GPADL_CREATED);
    post_odd("a GPADL of fewer pages than bytes", (uint32_t[7]){GPADL_HEADER, 0, id, 0x7003, 16 | 1 << 16, 0x10000, 0}, 36);
    expect_refusal(GPADL_CREATED);
    post_odd("a GPADL with more than it announces", (uint32_t[7]){GPADL_HEADER, 0, id, 0x7004, 8 | 1 << 16, 4096, 0}, 36);
    expect_refusal(GPADL_CREATED);
    CHECK("a GPADL of a page that does not exist is refused", !vmbus_gpadl(id, (void *)page_of_nothing(), 1));

    if (open_device(&channel)) {
        CHECK("the channel works after all invalid messages", echo(&channel));
        close_device(&channel);
    }
}

#define REFUSALS 200

/* Causes more answers than the SynIC has buffers, without reading them. */
void back_pressure(void)
{
    uint32_t request[37] = {OPENCHANNEL, 0, 2047};
    const struct offer *offer = device();
    uint32_t connection =
        command_line_number("max", VMBUS_NEWEST) >= VMBUS_VERSION(5, 0) ? CONNECTION_MESSAGES_5 : CONNECTION_MESSAGES;
    struct vmbus_message answer;
    unsigned posted = 0, right = 0;
    if (!offer)
        return;
    for (request[3] = 0; request[3] < REFUSALS; request[3]++)
        posted += vmbus_post_once(connection, request, sizeof request) == STATUS_SUCCESS;
    CHECK_EQUAL("the host accepts requests while no answers are read", posted, REFUSALS);
    for (unsigned number = 0; number < posted; number++)
        right += vmbus_expect(OPENCHANNEL_RESULT, &answer) && answer.opened.open == number;
    CHECK_EQUAL("every answer arrives, in order", right, posted);
}

/* A kernel that unloads VMBus before it reconnects, and one that does not. */
void reconnect(void)
{
    struct guid instance = instance_of(1);
    struct channel channel;
    for (unsigned round = 0; round < 4; round++) {
        if (!open_device(&channel))
            return;
        CHECK("the channel works", echo(&channel));
        if (round % 2)
            CHECK("unload closes the channel", vmbus_unload());
        CHECK("the guest connects again", vmbus_negotiate());
        CHECK("there are no offers before they are requested", !vmbus_offer(&echo_interface, &instance, 0));
        CHECK("all offers arrive again", vmbus_request_offers());
        offers();
    }
}
