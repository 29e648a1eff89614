/*
 * As much of IPv4 as it takes to get an address by DHCP, to ping and to be pinged, and to exchange datagrams: one question at a
 * time, each asked again while no answer comes. What others ask is answered meanwhile.
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
    /* What others have asked, and got. */
    struct {
        unsigned arps, pings, datagrams, discarded;
    } answered;
    bool was_told_to_end;
};

/* Ports on which a host listens. */
#define PORT_END 4     /* a datagram comes back, and the host is told to end */
#define PORT_ECHO 7    /* datagrams come back (RFC 862) */
#define PORT_DISCARD 9 /* datagrams are counted (RFC 863) */

/* Reads an address such as 10.3.0.1. */
bool ipv4_parse(const char *text, struct ipv4_address *address);
bool ipv4_is_set(struct ipv4_address address);
bool ipv4_equal(struct ipv4_address left, struct ipv4_address right);

/* DHCP (RFC 2131): from DISCOVER to ACK. Without it, `address` may be set by hand. */
bool ipv4_configure(struct ipv4_host *host);
/* ARP (RFC 826): the Ethernet address of a neighbour. */
bool ipv4_resolve(struct ipv4_host *host, struct ipv4_address address, struct mac *mac);
/* ICMP echo (RFC 792) through that neighbour; how long the answer took. */
bool ipv4_ping(struct ipv4_host *host, struct ipv4_address address, struct mac mac, uint64_t *microseconds);
/* Tells that neighbour to end: see PORT_END. */
bool ipv4_tell_to_end(struct ipv4_host *host, struct ipv4_address address, struct mac mac);
/* Answers what comes in that time; false if nothing came. */
bool ipv4_serve(struct ipv4_host *host, uint64_t milliseconds);

/* Datagrams that were sent to where they come back, and what became of them. */
struct ipv4_exchange {
    uint64_t sent, back, lost, damaged;
};

/* Sends `count` datagrams to that port, `window` of them on their way at once, each with a number that has to come back in turn. */
bool ipv4_exchange(struct ipv4_host *host, struct ipv4_address address, struct mac mac, uint16_t port, uint64_t count,
                   unsigned window, struct ipv4_exchange *exchange);
