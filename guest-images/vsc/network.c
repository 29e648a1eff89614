/*
 * Network adapters: an address by DHCP, and a ping to the gateway.
 *
 * An adapter without a link is not used, nor is a network without a DHCP server; neither is a failure.
 */
#include "vsc.h"

static bool use_link(struct netvsc *netvsc)
{
    struct ipv4_host host = {.netvsc = netvsc};
    struct mac mac;
    uint64_t microseconds;
    session_get_address(&host);
    if (!ipv4_is_set(host.address))
        return true;
    if (!ipv4_resolve(&host, host.gateway, &mac))
        return FAILED("the gateway %u.%u.%u.%u does not say where it is", IPV4_BYTES(host.gateway));
    if (!ipv4_ping(&host, host.gateway, mac, &microseconds))
        return FAILED("the gateway %u.%u.%u.%u does not answer a ping", IPV4_BYTES(host.gateway));
    print("    gateway      %u.%u.%u.%u answers a ping after %lu microseconds\n", IPV4_BYTES(host.gateway), microseconds);
    return true;
}

bool use_network(const struct offer *offer)
{
    static uint8_t memory[NETVSC_PAGES * PAGE_SIZE] NOT_CLEARED __attribute__((aligned(PAGE_SIZE)));
    static struct netvsc netvsc NOT_CLEARED;
    return session_open_adapter(&netvsc, offer, memory) && (!netvsc.link_is_up || use_link(&netvsc)) &&
           session_close_adapter(&netvsc);
}
