#include "socket.h"

#include "check.h"
#include "hyperv.h"
#include "time.h"

#define TLNPI_PROVIDER 0x2000
#define NUMBERS 4

struct guid socket_port(uint32_t port)
{
    struct guid guid = {
        {0, 0, 0, 0, 0xcb, 0xfa, 0xe6, 0x11, 0xbd, 0x58, 0x64, 0x00, 0x6a, 0x79, 0x86, 0xd3},
    };
    memcpy(guid.bytes, &port, sizeof port);
    return guid;
}

bool socket_post_request(uint32_t port, uint32_t own_port)
{
    struct {
        uint32_t type, reserved;
        struct guid endpoint, service, silo;
    } request = {.type = TL_CONNECT_REQUEST, .endpoint = socket_port(own_port), .service = socket_port(port)};
    return vmbus_post(&request, sizeof request);
}

enum answer socket_ask(uint32_t port, uint32_t own_port, const struct offer **offer)
{
    struct guid service = socket_port(port), endpoint = socket_port(own_port);
    uint64_t deadline = deadline_after(VMBUS_PATIENCE_MILLISECONDS);
    if (!socket_post_request(port, own_port))
        return NOTHING;
    do {
        struct vmbus_message message;
        if ((*offer = vmbus_offer(&service, &endpoint, 0)))
            return CHECK("the offer says that the guest connects", (*offer)->flags & TLNPI_PROVIDER && !(*offer)->from_host)
                       ? GRANTED
                       : NOTHING;
        if (vmbus_try_next(&message)) {
            bool refused = message.type == TL_CONNECT_RESULT && message.words[8] == STATUS_CONNECTION_REFUSED &&
                           !memcmp(message.bytes, &endpoint, sizeof endpoint) &&
                           !memcmp(message.bytes + sizeof endpoint, &service, sizeof service);
            return CHECK("the answer is a refusal", refused) ? REFUSED : NOTHING;
        }
    } while (rdtsc() < deadline);
    return NOTHING;
}

bool socket_open(struct socket *socket, const struct offer *offer, unsigned number)
{
    static uint8_t rings[NUMBERS][2 * SOCKET_RING_PAGES * PAGE_SIZE] NOT_CLEARED __attribute__((aligned(PAGE_SIZE)));
    socket->open = channel_open(&socket->channel, offer, rings[number], SOCKET_RING_PAGES, hyperv_vp_index());
    return socket->open;
}

bool socket_connect(struct socket *socket, uint32_t port, uint32_t own_port, unsigned number)
{
    const struct offer *offer = NULL;
    return CHECK_NAMED(socket_ask(port, own_port, &offer) == GRANTED, "the host accepts a connection to %u", port) &&
           CHECK_NAMED(socket_open(socket, offer, number), "the connection to %u opens", port);
}

bool socket_accept(struct socket *socket, uint32_t port, unsigned number)
{
    struct guid service = socket_port(port);
    const struct offer *offer = vmbus_await_offer(&service, NULL, 0);
    return CHECK_NAMED(offer && offer->flags & TLNPI_PROVIDER && offer->from_host, "the host connects to %u", port) &&
           CHECK_NAMED(socket_open(socket, offer, number), "the connection from the host to %u opens", port);
}

bool socket_send_raw(struct socket *socket, uint16_t type, const void *bytes, unsigned length)
{
    struct packet packet = {.type = type, .payload = bytes, .payload_length = length};
    while (!channel_send(&socket->channel, &packet))
        if (!channel_await_room(&socket->channel, length))
            return false;
    return true;
}

bool socket_send(struct socket *socket, const void *data, unsigned length)
{
    static struct {
        struct socket_header header;
        uint8_t data[SOCKET_MAX_SENT];
    } packet;
    packet.header = (struct socket_header){SOCKET_DATA, length};
    memcpy(packet.data, data, length);
    return socket_send_raw(socket, PACKET_IN_BAND, &packet, sizeof packet.header + length);
}

bool socket_end(struct socket *socket)
{
    return socket_send(socket, NULL, 0);
}

bool socket_receive(struct socket *socket)
{
    struct packet_header header;
    int length = channel_receive(&socket->channel, &header, &socket->received, sizeof socket->received);
    socket->length = socket->received.header.size;
    return CHECK("a packet of the host arrives", length >= (int)sizeof socket->received.header) &&
           CHECK("the packet is data", header.type == PACKET_IN_BAND && socket->received.header.type == SOCKET_DATA) &&
           CHECK("the packet contains its data", socket->length + sizeof socket->received.header <= (unsigned)length);
}

bool socket_finish(struct socket *socket)
{
    const struct offer *offer = socket->channel.offer;
    bool gone = CHECK("the host rescinds the channel", vmbus_await_rescind(offer));
    if (socket->open)
        gone &= CHECK("the host releases the rings", vmbus_gpadl_teardown(offer->channel, socket->channel.gpadl));
    socket->open = false;
    if (gone)
        vmbus_release(offer);
    return gone;
}
