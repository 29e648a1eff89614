/*
 * Network adapters: an address by DHCP, and a ping to the gateway.
 *
 * An adapter without a link is left alone, and so is a network where nobody gives addresses: not every one has a server.
 */
#include "vsc.h"

#include "ipv4.h"

static bool use_link(struct netvsc *netvsc)
{
    struct ipv4_host host = {.netvsc = netvsc};
    struct mac mac;
    uint64_t microseconds;
    if (!ipv4_configure(&host)) {
        print("    DHCP         nobody gives an address\n");
        return true;
    }
    print("    DHCP         %u.%u.%u.%u, mask %u.%u.%u.%u, for %u seconds\n", IPV4_BYTES(host.address), IPV4_BYTES(host.mask),
          host.lease_seconds);
    if (!ipv4_resolve(&host, host.gateway, &mac))
        return FAILED("the gateway %u.%u.%u.%u does not say where it is", IPV4_BYTES(host.gateway));
    if (!ipv4_ping(&host, host.gateway, mac, &microseconds))
        return FAILED("the gateway %u.%u.%u.%u does not answer a ping", IPV4_BYTES(host.gateway));
    print("    gateway      %u.%u.%u.%u answers a ping after %lu microseconds\n", IPV4_BYTES(host.gateway), microseconds);
    return true;
}

static bool use_adapter(struct netvsc *netvsc)
{
    const uint8_t *mac = netvsc->mac.bytes;
    if (!netvsc_negotiate(netvsc)) {
        if (netvsc->status == UINT32_MAX)
            return FAILED("the adapter does not answer %s", netvsc->asked);
        return FAILED("the adapter answers %s with status 0x%x", netvsc->asked, netvsc->status);
    }
    print("    protocol     NVSP 0x%x, %u sections to receive in\n", netvsc->version, netvsc->sections);
    print("    adapter      %02x:%02x:%02x:%02x:%02x:%02x, link %s\n", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5],
          netvsc->link_is_up ? "up" : "down");
    return !netvsc->link_is_up || use_link(netvsc);
}

bool use_network(const struct offer *offer)
{
    static uint8_t memory[NETVSC_PAGES * PAGE_SIZE] NOT_CLEARED __attribute__((aligned(PAGE_SIZE)));
    static struct netvsc netvsc NOT_CLEARED;
    if (!netvsc_open(&netvsc, offer, memory))
        return FAILED("channel %u cannot be opened", offer->channel);
    print("  network        channel %u is open\n", offer->channel);
    if (!use_adapter(&netvsc))
        return false;
    return netvsc_close(&netvsc) || FAILED("channel %u cannot be closed", offer->channel);
}
