/*
 * Floods the network: datagrams from all ports in turn to a port where nobody listens, look-ups in the name server, or
 * streams to a host that does not read.
 */
#include "flood.h"
#include "frames.h"
#include "interfaces.h"
#include "session.h"

/* Where nobody listens. */
#define DISCARD 9
#define NAME_SERVER 53
#define FIRST_PORT 1024

/* A question for the address of "abc". */
static const uint8_t lookup[] = {0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 'a', 'b', 'c', 0, 0, 1, 0, 1};

#define PROTOCOL_TCP 6
#define TCP_SOURCE 34
#define TCP_DESTINATION 36
#define TCP_SEQUENCE 38
#define TCP_ACKNOWLEDGED 42
#define TCP_HEADER_LENGTH 46
#define TCP_FLAGS 47
#define TCP_WINDOW 48
#define TCP_CHECKSUM 50
#define TCP_END 54
#define TCP_SYN 2
#define TCP_ACK 16
/* The size of a segment, and the number of segments that are sent at once. */
#define SEGMENT 256
#define BURST 8
#define FIRST_SEQUENCE 1000
/* More bytes than a host buffers for a stream that is not read. */
#define ENOUGH 16384

static struct ipv4_host host;
static struct mac router;

/* The last segment of the first stream's peer. */
static struct {
    uint32_t sequence, acknowledged;
    uint16_t window;
    bool is_open;
} stream;

static uint16_t tcp_checksum(unsigned end)
{
    uint32_t sum = PROTOCOL_TCP + end - TCP_SOURCE;
    /* The sum starts at the addresses, which lie before the segment. */
    for (unsigned at = IPV4_SOURCE; at < end; at += 2)
        sum += get16(question + at);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

static bool send_segment(unsigned from, unsigned to, uint32_t sequence, uint32_t acknowledged, uint8_t flags, unsigned length)
{
    unsigned end = TCP_END + length;
    memset(question, 0, sizeof question);
    begin_ipv4(&host, end, router, host.gateway, PROTOCOL_TCP);
    put16(question + TCP_SOURCE, from);
    put16(question + TCP_DESTINATION, to);
    put32(question + TCP_SEQUENCE, sequence);
    put32(question + TCP_ACKNOWLEDGED, acknowledged);
    question[TCP_HEADER_LENGTH] = (TCP_END - TCP_SOURCE) / 4 << 4;
    question[TCP_FLAGS] = flags;
    put16(question + TCP_WINDOW, 4096);
    put16(question + TCP_CHECKSUM, tcp_checksum(end));
    return netvsc_send(host.netvsc, question, end < FRAME_LEAST ? FRAME_LEAST : end);
}

/* Receives frames for this time. Returns false if an answer cannot be sent. */
static bool take_frames(uint64_t milliseconds)
{
    while ((answer = netvsc_receive(host.netvsc, &answer_length, milliseconds))) {
        milliseconds = 0;
        if (is_ipv4(PROTOCOL_TCP, TCP_END) && get16(answer + TCP_DESTINATION) == FIRST_PORT && answer[TCP_FLAGS] & TCP_ACK) {
            if (answer[TCP_FLAGS] & TCP_SYN)
                stream.sequence = get32(answer + TCP_SEQUENCE) + 1;
            stream.is_open = true;
            stream.acknowledged = get32(answer + TCP_ACKNOWLEDGED);
            stream.window = get16(answer + TCP_WINDOW);
        } else if (!ipv4_reply(&host)) {
            return false;
        }
    }
    return true;
}

/* Opens a stream to a port, sends as much as it accepts, and opens further streams. Calls `begun` when the first stream has
 * accepted some bytes. */
static bool flood_streams(unsigned to, void (*begun)(void))
{
    bool has_begun = false;
    for (unsigned port = FIRST_PORT; flood_goes_on();) {
        if ((!stream.is_open || has_begun) && !send_segment(port, to, FIRST_SEQUENCE, 0, TCP_SYN, 0))
            return FAILED("the adapter takes no more frames");
        if (!take_frames(has_begun ? 0 : 50))
            return FAILED("the adapter takes no answers");
        for (unsigned i = 0; stream.is_open && i < BURST && (i + 1) * SEGMENT <= stream.window; i++)
            if (!send_segment(FIRST_PORT, to, stream.acknowledged + i * SEGMENT, stream.sequence, TCP_ACK, SEGMENT))
                return FAILED("the adapter takes no more frames");
        if (!has_begun && stream.is_open && stream.acknowledged - FIRST_SEQUENCE > ENOUGH) {
            has_begun = true;
            begun();
        }
        if (has_begun)
            port = port == UINT16_MAX ? FIRST_PORT + 1 : port + 1;
    }
    return true;
}

/* Datagrams from all ports in turn, with these bytes. */
static bool flood_datagrams(struct ipv4_address to, unsigned port, const uint8_t *bytes, unsigned length, void (*begun)(void))
{
    unsigned end = UDP_END + length < FRAME_LEAST ? FRAME_LEAST : UDP_END + length;
    begun();
    for (unsigned from = FIRST_PORT; flood_goes_on(); from = from == UINT16_MAX ? FIRST_PORT : from + 1) {
        begin_ipv4(&host, end, router, to, PROTOCOL_UDP);
        put16(question + UDP_SOURCE, from);
        put16(question + UDP_DESTINATION, port);
        put16(question + UDP_LENGTH, end - UDP_SOURCE);
        memcpy(question + UDP_END, bytes, length);
        if (!netvsc_send(host.netvsc, question, end))
            return FAILED("the adapter takes no more frames");
        if (!take_frames(0))
            return FAILED("the adapter takes no answers");
    }
    return true;
}

bool flood_network(const char *kind, void (*begun)(void))
{
    static uint8_t memory[NETVSC_PAGES * PAGE_SIZE] NOT_CLEARED __attribute__((aligned(PAGE_SIZE)));
    static struct netvsc netvsc NOT_CLEARED;
    const struct offer *offer = vmbus_offer(&network_interface, NULL, 0);

    if (!offer || !session_open_adapter(&netvsc, offer, memory))
        return FAILED("there is no network adapter");
    host.netvsc = &netvsc;
    if (!ipv4_configure(&host) || !ipv4_resolve(&host, host.gateway, &router))
        return FAILED("there is no gateway");
    bool is_done = text_equal(kind, "streams") ? flood_streams(command_line_number("port", DISCARD), begun)
                   : text_equal(kind, "lookups")
                       ? flood_datagrams(host.name_server, NAME_SERVER, lookup, sizeof lookup, begun)
                       : flood_datagrams(host.gateway, command_line_number("port", DISCARD), NULL, 0, begun);
    return session_close_adapter(&netvsc) && is_done;
}
