/*
 * Ethernet frames with ARP, DHCP, ICMP and UDP in them, as ipv4.c and dhcp.c read and write them. Offsets count from a frame's
 * first byte.
 */
#pragma once

#include "ipv4.h"

#define ETHERNET_SOURCE 6
#define ETHERNET_TYPE 12
#define ETHERNET_LENGTH 14
#define FRAME_LEAST 60
#define TYPE_IPV4 0x0800
#define TYPE_ARP 0x0806

#define ARP_OPERATION 20
#define ARP_SENDER_MAC 22
#define ARP_SENDER 28
#define ARP_TARGET_MAC 32
#define ARP_TARGET 38
#define ARP_END 42
#define ARP_REQUEST 1
#define ARP_REPLY 2

#define IPV4_LENGTH 16
#define IPV4_LIFETIME 22
#define IPV4_PROTOCOL 23
#define IPV4_CHECKSUM 24
#define IPV4_SOURCE 26
#define IPV4_DESTINATION 30
#define IPV4_END 34
#define PROTOCOL_ICMP 1
#define PROTOCOL_UDP 17

#define UDP_SOURCE 34
#define UDP_DESTINATION 36
#define UDP_LENGTH 38
#define UDP_END 42

#define ICMP_TYPE 34
#define ICMP_CHECKSUM 36
#define ICMP_IDENTIFIER 38
#define ICMP_SEQUENCE 40
#define ICMP_DATA 42
#define ICMP_DATA_LENGTH 32
#define ICMP_END (ICMP_DATA + ICMP_DATA_LENGTH)
#define ICMP_ECHO 8
#define ICMP_ECHO_REPLY 0
#define IDENTIFIER 0x5644

static inline void put16(uint8_t *at, uint16_t value)
{
    at[0] = value >> 8;
    at[1] = value;
}

static inline void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value);
}

static inline uint16_t get16(const uint8_t *at)
{
    return at[0] << 8 | at[1];
}

static inline uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

extern const struct mac everybody;
extern const struct ipv4_address ipv4_broadcast;

/* The request that a host sends, and the frame that was received last. */
#define QUESTION_MAX 344
extern uint8_t question[QUESTION_MAX];
extern const uint8_t *answer;
extern unsigned answer_length;

/* Starts an IPv4 request: writes its header, and zeros after it. */
void begin_ipv4(const struct ipv4_host *host, unsigned length, struct mac mac, struct ipv4_address to, uint8_t protocol);
/* Returns true if the answer is a complete IPv4 packet of that protocol, without options and with valid checksums. */
bool is_ipv4(uint8_t protocol, unsigned least);
/* Answers the received frame if it is a request. Returns false if the answer cannot be sent. */
bool ipv4_reply(struct ipv4_host *host);
/* Sends the request repeatedly until its answer arrives. */
bool ipv4_ask(struct ipv4_host *host, unsigned length, bool (*is_answer)(const struct ipv4_host *host));
