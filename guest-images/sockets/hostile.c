/*
 * Drivers that violate the protocol. After each, sockets must work for a driver that follows it.
 */
#include "check.h"
#include "hypercall.h"
#include "hyperv.h"
#include "socket.h"
#include "time.h"

/* A port of the host with an echo, and one without a listener. */
#define ECHO_PORT 2048
#define NOBODY 2049

static struct socket socket, other;
static uint32_t next_port = 6000;

static void let_the_host_react(void)
{
    interrupts_on();
    delay_microseconds(20000);
    interrupts_off();
}

static bool connected(struct socket *socket, unsigned number)
{
    return socket_connect(socket, ECHO_PORT, next_port++, number);
}

static void it_works(void)
{
    if (!connected(&other, 1))
        return;
    CHECK("data is sent", socket_send(&other, "ping", 4) && socket_end(&other));
    CHECK("data comes back", socket_receive(&other) && other.length == 4 && !memcmp(other.received.data, "ping", 4));
    CHECK("the host closes its direction", socket_receive(&other) && !other.length);
    socket_finish(&other);
}

static void send_and_be_cut_off(uint16_t type, const void *bytes, unsigned length)
{
    if (!connected(&socket, 0))
        return;
    CHECK("the packet is sent", socket_send_raw(&socket, type, bytes, length));
    socket_finish(&socket);
    it_works();
}

static void packets_that_are_malformed(void)
{
    static const struct socket_header headers[] = {{0, 0}, {2, 4}, {1, 9}, {1, 0xffffffff}, {1, 65537}, {0xffffffff, 0}};
    for (unsigned i = 0; i < ARRAY_LENGTH(headers); i++) {
        struct {
            struct socket_header header;
            uint8_t data[8];
        } packet = {.header = headers[i]};
        send_and_be_cut_off(PACKET_IN_BAND, &packet, sizeof packet);
    }
    send_and_be_cut_off(PACKET_IN_BAND, "", 0);
    struct socket_header end = {SOCKET_DATA, 0};
    send_and_be_cut_off(PACKET_COMPLETION, &end, sizeof end);
    send_and_be_cut_off(PACKET_GPA_DIRECT, &end, sizeof end);
}

static void data_after_the_end(void)
{
    if (!connected(&socket, 0))
        return;
    CHECK("the end is sent", socket_end(&socket));
    /* The host may have ended the connection already; then the channel is gone. */
    socket_send(&socket, "more", 4);
    socket_finish(&socket);
    it_works();
}

static void many_ends(void)
{
    if (!connected(&socket, 0))
        return;
    struct socket_header end = {SOCKET_DATA, 0};
    struct packet packet = {.type = PACKET_IN_BAND, .payload = &end, .payload_length = sizeof end};
    /* The host stops reading when the connection has ended, and the ring fills. */
    for (unsigned i = 0; i < 1000 && channel_send(&socket.channel, &packet); i++)
        ;
    socket_finish(&socket);
    it_works();
}

static void a_ring_with_impossible_indexes(void)
{
    if (!connected(&socket, 0))
        return;
    socket.channel.out.control->write = 0xfffffff8;
    hypercall(CALL_SIGNAL_EVENT | CALL_FAST, socket.channel.offer->connection, 0);
    socket_finish(&socket);
    it_works();
}

static void a_channel_that_is_closed_in_the_middle(void)
{
    if (!connected(&socket, 0))
        return;
    CHECK("data is sent", socket_send(&socket, "ping", 4));
    CHECK("the channel closes", channel_close(&socket.channel));
    socket.open = false;
    CHECK("the closed channel cannot be opened again", !socket_open(&socket, socket.channel.offer, 0));
    socket_finish(&socket);
    it_works();
}

static void a_channel_that_is_never_opened(void)
{
    const struct offer *offer = NULL;
    if (!CHECK("the host accepts", socket_ask(ECHO_PORT, next_port++, &offer) == GRANTED))
        return;
    it_works();
    CHECK("the host gives up", vmbus_await_rescind(offer));
    vmbus_release(offer);
    it_works();
}

static void a_channel_that_nobody_offered(void)
{
    static uint8_t rings[2 * SOCKET_RING_PAGES * PAGE_SIZE] NOT_CLEARED __attribute__((aligned(PAGE_SIZE)));
    struct offer made_up = {.present = true, .channel = 1500, .connection = 0x2000 + 1500};
    struct channel channel;
    CHECK("a channel with an unknown id does not open", !channel_open(&channel, &made_up, rings, SOCKET_RING_PAGES, hyperv_vp_index()));
    it_works();
}

static void the_same_request_twice(void)
{
    uint32_t port = next_port++;
    const struct offer *offer = NULL;
    if (!CHECK("the host accepts", socket_ask(ECHO_PORT, port, &offer) == GRANTED) || !socket_open(&socket, offer, 0))
        return;
    struct vmbus_message answer;
    CHECK("the same connection is requested again", socket_post_request(ECHO_PORT, port));
    CHECK("the second request is refused", vmbus_expect(TL_CONNECT_RESULT, &answer) && answer.words[8] == STATUS_CONNECTION_REFUSED);
    socket_end(&socket);
    socket_finish(&socket);
    it_works();
}

static void a_flood_of_requests_that_nobody_accepts(void)
{
    enum { REQUESTS = 2000 };
    struct vmbus_message answer;
    unsigned refused = 0;
    for (unsigned i = 0; i < REQUESTS; i++) {
        CHECK("a request is posted", socket_post_request(NOBODY, 10000 + i));
        while (vmbus_try_next(&answer))
            refused += answer.type == TL_CONNECT_RESULT;
    }
    while (refused < REQUESTS && vmbus_next(&answer))
        refused += answer.type == TL_CONNECT_RESULT;
    CHECK_EQUAL("each request to a port without a listener is refused", refused, REQUESTS);
    it_works();
}

static void a_flood_of_requests_that_nobody_opens(void)
{
    enum { REQUESTS = 700 };
    struct vmbus_message answer;
    unsigned refused = 0;
    for (unsigned i = 0; i < REQUESTS; i++) {
        CHECK("a request is posted", socket_post_request(ECHO_PORT, 20000 + i));
        while (vmbus_try_next(&answer))
            refused += answer.type == TL_CONNECT_RESULT;
    }
    /* The host rescinds each granted connection that is not opened. */
    uint64_t deadline = deadline_after(VMBUS_PATIENCE_MILLISECONDS);
    unsigned released = 0;
    while (released + refused < REQUESTS && rdtsc() < deadline) {
        while (vmbus_try_next(&answer))
            refused += answer.type == TL_CONNECT_RESULT;
        released += vmbus_release_rescinded();
    }
    CHECK_EQUAL("each request is refused, or its connection is rescinded", released + refused, REQUESTS);
    it_works();
}

static void a_version_without_sockets(void)
{
    CHECK("the guest connects by version 3.0", vmbus_contact(VMBUS_VERSION(3, 0)) && vmbus_request_offers());
    CHECK("a request is posted with version 3.0", socket_post_request(ECHO_PORT, 30000));
    let_the_host_react();
    struct vmbus_message answer;
    CHECK("a request with version 3.0 is not answered", !vmbus_try_next(&answer));
    CHECK("the guest connects by version 4.0", vmbus_contact(VMBUS_VERSION(4, 0)) && vmbus_request_offers());
    it_works();
    CHECK("the guest connects by the newest version", vmbus_negotiate() && vmbus_request_offers());
    it_works();
}

static void a_kernel_that_starts_again_with_a_connection_open(void)
{
    if (!connected(&socket, 0))
        return;
    CHECK("data is sent", socket_send(&socket, "ping", 4));
    CHECK("the guest connects again", vmbus_negotiate() && vmbus_request_offers());
    struct guid service = socket_port(ECHO_PORT);
    CHECK("the connection is not offered again", !vmbus_offer(&service, NULL, 0));
    socket.open = false;
    it_works();
}

const struct test hostile_tests[] = {
    {"packets that are malformed", packets_that_are_malformed},
    {"data after the end", data_after_the_end},
    {"many ends", many_ends},
    {"a ring with impossible indexes", a_ring_with_impossible_indexes},
    {"a channel that is closed in the middle", a_channel_that_is_closed_in_the_middle},
    {"a channel that is never opened", a_channel_that_is_never_opened},
    {"a channel that nobody offered", a_channel_that_nobody_offered},
    {"the same request twice", the_same_request_twice},
    {"a flood of requests that nobody accepts", a_flood_of_requests_that_nobody_accepts},
    {"a flood of requests that nobody opens", a_flood_of_requests_that_nobody_opens},
    {"a version without sockets", a_version_without_sockets},
    {"a kernel that starts again with a connection open", a_kernel_that_starts_again_with_a_connection_open},
};
const unsigned hostile_test_count = ARRAY_LENGTH(hostile_tests);
