/*
 * More flows through the network than it keeps: a datagram each, from all ports in turn, to the gateway.
 */
#include "flood.h"
#include "frames.h"
#include "interfaces.h"
#include "session.h"

/* Where nobody listens. */
#define DISCARD 9
#define FIRST_PORT 1024

bool flood_network(void (*begun)(void))
{
    static uint8_t memory[NETVSC_PAGES * PAGE_SIZE] NOT_CLEARED __attribute__((aligned(PAGE_SIZE)));
    static struct netvsc netvsc NOT_CLEARED;
    struct ipv4_host host = {.netvsc = &netvsc};
    struct mac mac;
    const struct offer *offer = vmbus_offer(&network_interface, NULL, 0);

    if (!offer || !session_open_adapter(&netvsc, offer, memory))
        return FAILED("there is no network adapter");
    if (!ipv4_configure(&host) || !ipv4_resolve(&host, host.gateway, &mac))
        return FAILED("there is no gateway");
    begun();
    for (unsigned port = FIRST_PORT; flood_goes_on(); port = port == UINT16_MAX ? FIRST_PORT : port + 1) {
        begin_ipv4(&host, FRAME_LEAST, mac, host.gateway, PROTOCOL_UDP);
        put16(question + UDP_SOURCE, port);
        put16(question + UDP_DESTINATION, DISCARD);
        put16(question + UDP_LENGTH, FRAME_LEAST - UDP_SOURCE);
        if (!netvsc_send(&netvsc, question, FRAME_LEAST))
            return FAILED("the adapter takes no more frames");
        while ((answer = netvsc_receive(&netvsc, &answer_length, 0)))
            if (!ipv4_reply(&host))
                return FAILED("the adapter takes no answers");
    }
    return session_close_adapter(&netvsc);
}
