/*
 * A minimal IPv4: gets an address by DHCP, sends and answers pings, and exchanges datagrams. It sends one request at a time,
 * and repeats it until it is answered. Requests of other hosts are answered meanwhile.
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
    /* From DHCP; zeros if the server did not send it. */
    struct ipv4_address address, mask, gateway, name_server, server;
    uint32_t lease_seconds;
    /* Number of answered requests of other hosts. */
    struct {
        unsigned arps, pings, datagrams, discarded;
    } answered;
    bool was_told_to_end;
};

/* Ports on which a host listens. */
#define PORT_END 4     /* the datagram is echoed, and the host ends */
#define PORT_ECHO 7    /* datagrams are echoed (RFC 862) */
#define PORT_DISCARD 9 /* datagrams are counted (RFC 863) */

/* Reads an address such as 10.3.0.1. */
bool ipv4_parse(const char *text, struct ipv4_address *address);
bool ipv4_is_set(struct ipv4_address address);
bool ipv4_equal(struct ipv4_address left, struct ipv4_address right);

/* DHCP (RFC 2131): from DISCOVER to ACK. Without it, `address` may be set by hand. */
bool ipv4_configure(struct ipv4_host *host);
/* ARP (RFC 826): the Ethernet address of a neighbour. */
bool ipv4_resolve(struct ipv4_host *host, struct ipv4_address address, struct mac *mac);
/* ICMP echo (RFC 792) through that neighbour. Returns how long the answer took. */
bool ipv4_ping(struct ipv4_host *host, struct ipv4_address address, struct mac mac, uint64_t *microseconds);
/* Ends that neighbour: see PORT_END. */
bool ipv4_tell_to_end(struct ipv4_host *host, struct ipv4_address address, struct mac mac);
/* Answers requests for this time. Returns false if none arrived. */
bool ipv4_serve(struct ipv4_host *host, uint64_t milliseconds);

/* The result of sending datagrams to an echo port. */
struct ipv4_exchange {
    uint64_t sent, back, lost, damaged;
};

/* Sends `count` datagrams to that port, `window` of them at once, with numbers that must be echoed in order. */
bool ipv4_exchange(struct ipv4_host *host, struct ipv4_address address, struct mac mac, uint16_t port, uint64_t count,
                   unsigned window, struct ipv4_exchange *exchange);
