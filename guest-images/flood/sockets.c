/*
 * Connects to a port of the host again and again, and keeps the last connections open.
 */
#include "flood.h"
#include "hyperv.h"
#include "interfaces.h"
#include "session.h"

#define RING_PAGES 2
/* More than the host grants a machine. */
#define SOCKETS_MAX 600
#define FIRST_PORT 10000
/* Number of connections after which their number is printed. */
#define STEP 16

static struct channel sockets[SOCKETS_MAX];

static struct guid port_guid(uint32_t port)
{
    struct guid guid = {
        {0, 0, 0, 0, 0xcb, 0xfa, 0xe6, 0x11, 0xbd, 0x58, 0x64, 0x00, 0x6a, 0x79, 0x86, 0xd3},
    };
    memcpy(guid.bytes, &port, sizeof port);
    return guid;
}

/* Requests a connection. Returns its offer, or NULL if the host refuses. */
static const struct offer *ask(uint32_t port, uint32_t own_port)
{
    struct {
        uint32_t type, reserved;
        struct guid endpoint, service, silo;
    } request = {.type = TL_CONNECT_REQUEST, .endpoint = port_guid(own_port), .service = port_guid(port)};
    const struct offer *offer = NULL;
    struct vmbus_message refusal;
    uint64_t deadline = deadline_after(VMBUS_PATIENCE_MILLISECONDS);
    if (!vmbus_post(&request, sizeof request))
        return NULL;
    while (!(offer = vmbus_offer(&request.service, &request.endpoint, 0)) && !vmbus_try_next(&refusal) && rdtsc() < deadline)
        ;
    return offer;
}

/* Ends a connection that the host has not ended, and forgets it. */
static bool finish(struct channel *socket)
{
    const struct offer *offer = socket->offer;
    socket->offer = NULL;
    bool is_over = offer->rescinded || vmbus_post_words(CLOSECHANNEL, offer->channel, 0);
    if (!is_over || !vmbus_gpadl_teardown(offer->channel, socket->gpadl) || !vmbus_await_rescind(offer))
        return false;
    vmbus_release(offer);
    return true;
}

/* Opens the channel of a connection. Returns false if the host has taken it back. */
static bool begin(struct channel *socket, const struct offer *offer, void *rings)
{
    if (channel_open(socket, offer, rings, RING_PAGES, hyperv_vp_index()))
        return true;
    socket->offer = NULL;
    if (vmbus_await_rescind(offer))
        vmbus_release(offer);
    return false;
}

bool flood_sockets(void (*begun)(void))
{
    static uint8_t *rings;
    uint32_t port = command_line_number("port", 2048), own_port = FIRST_PORT;
    uint64_t count = command_line_number("sockets", SOCKETS_MAX), opened = 0;
    bool has_begun = false;

    if (!count || count > SOCKETS_MAX)
        return FAILED("sockets=N has a value from 1 to %u", SOCKETS_MAX);
    rings = pages_allocate_zeroed(count * 2 * RING_PAGES);
    for (unsigned at = 0; flood_goes_on(); at = (at + 1) % count) {
        struct channel *socket = &sockets[at];
        /* A connection that the host has ended makes room for another, and so does the oldest. */
        if (socket->offer && !finish(socket))
            return FAILED("a connection does not end");
        const struct offer *offer = ask(port, own_port++);
        if (offer && begin(socket, offer, rings + at * 2 * RING_PAGES * PAGE_SIZE)) {
            if (!(++opened % STEP))
                print("%lu connections\n", opened);
            continue;
        }
        /* The host refuses more. */
        if (!has_begun)
            begun();
        has_begun = true;
    }
    return true;
}
