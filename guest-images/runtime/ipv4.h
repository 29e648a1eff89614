/*
 * As much of IPv4 as it takes to get an address by DHCP and to ping: one question at a time, each asked again while no answer
 * comes. Requests for our own Ethernet address are answered meanwhile.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "netvsc.h"

struct ipv4_address {
    uint8_t bytes[4];
};

/* To print an address: "%u.%u.%u.%u" takes these. */
#define IPV4_BYTES(address) (address).bytes[0], (address).bytes[1], (address).bytes[2], (address).bytes[3]

struct ipv4_host {
    struct netvsc *netvsc;
    /* From DHCP; zeros where the server did not tell. */
    struct ipv4_address address, mask, gateway, name_server, server;
    uint32_t lease_seconds;
};

/* DHCP (RFC 2131): from DISCOVER to ACK. */
bool ipv4_configure(struct ipv4_host *host);
/* ARP (RFC 826): the Ethernet address of a neighbour. */
bool ipv4_resolve(struct ipv4_host *host, struct ipv4_address address, struct mac *mac);
/* ICMP echo (RFC 792) through that neighbour; how long the answer took. */
bool ipv4_ping(struct ipv4_host *host, struct ipv4_address address, struct mac mac, uint64_t *microseconds);
