/*
 * An address by DHCP (RFC 2131): DISCOVER, OFFER, REQUEST, ACK.
 */
#include "frames.h"
#include "memory.h"

#define DHCP_OPERATION 42
#define DHCP_TRANSACTION 46
#define DHCP_FLAGS 52
#define DHCP_YOUR_ADDRESS 58
#define DHCP_CLIENT_MAC 70
#define DHCP_COOKIE 278
#define DHCP_OPTIONS 282
#define DHCP_END 342 /* old servers require messages of 300 bytes */
_Static_assert(DHCP_END <= QUESTION_MAX, "a question has room for it");
#define DHCP_SERVER_PORT 67
#define DHCP_CLIENT_PORT 68
#define DHCP_BROADCAST 0x8000
#define DHCP_MAGIC 0x63825363
#define TRANSACTION 0x76697269
#define OPTION_MASK 1
#define OPTION_ROUTER 3
#define OPTION_NAME_SERVER 6
#define OPTION_REQUESTED 50
#define OPTION_LEASE 51
#define OPTION_MESSAGE_TYPE 53
#define OPTION_SERVER 54
#define OPTION_WANTED 55
#define OPTION_END 255
enum { DHCP_DISCOVER = 1, DHCP_OFFER, DHCP_REQUEST, DHCP_ACK = 5 };

/* Returns an option's value in the answer if it has at least `length` bytes, or NULL. */
static const uint8_t *dhcp_option(uint8_t code, unsigned least)
{
    unsigned at = DHCP_OPTIONS;
    while (at + 1 < answer_length && answer[at] != OPTION_END) {
        unsigned length = answer[at] ? answer[at + 1] + 2 : 1; /* a zero is padding */
        if (answer[at] == code)
            return length >= least + 2 && at + length <= answer_length ? answer + at + 2 : NULL;
        at += length;
    }
    return NULL;
}

static bool is_dhcp(const struct ipv4_host *host, uint8_t message_type)
{
    if (!is_ipv4(PROTOCOL_UDP, DHCP_OPTIONS) || get16(answer + UDP_DESTINATION) != DHCP_CLIENT_PORT ||
        get32(answer + DHCP_TRANSACTION) != TRANSACTION || get32(answer + DHCP_COOKIE) != DHCP_MAGIC ||
        memcmp(answer + DHCP_CLIENT_MAC, &host->netvsc->mac, 6))
        return false;
    const uint8_t *type = dhcp_option(OPTION_MESSAGE_TYPE, 1);
    return type && *type == message_type;
}

static bool is_offer(const struct ipv4_host *host)
{
    return is_dhcp(host, DHCP_OFFER);
}

static bool is_ack(const struct ipv4_host *host)
{
    return is_dhcp(host, DHCP_ACK);
}

static void fill_dhcp(const struct ipv4_host *host, uint8_t message_type)
{
    begin_ipv4(host, DHCP_END, everybody, ipv4_broadcast, PROTOCOL_UDP);
    put16(question + UDP_SOURCE, DHCP_CLIENT_PORT);
    put16(question + UDP_DESTINATION, DHCP_SERVER_PORT);
    put16(question + UDP_LENGTH, DHCP_END - UDP_SOURCE);
    static const uint8_t request_from_ethernet[] = {1, 1, 6};
    memcpy(question + DHCP_OPERATION, request_from_ethernet, sizeof request_from_ethernet);
    put32(question + DHCP_TRANSACTION, TRANSACTION);
    put16(question + DHCP_FLAGS, DHCP_BROADCAST);
    memcpy(question + DHCP_CLIENT_MAC, &host->netvsc->mac, 6);
    put32(question + DHCP_COOKIE, DHCP_MAGIC);
    const uint8_t options[] = {
        OPTION_MESSAGE_TYPE, 1, message_type, OPTION_WANTED, 3, OPTION_MASK, OPTION_ROUTER, OPTION_NAME_SERVER, OPTION_END,
    };
    memcpy(question + DHCP_OPTIONS, options, sizeof options);
}

/* Replaces the end marker by the offered address and the server that offered it. */
static void add_choice(struct ipv4_address offered, struct ipv4_address server)
{
    const uint8_t options[] = {
        OPTION_REQUESTED, 4, IPV4_BYTES(offered), OPTION_SERVER, 4, IPV4_BYTES(server), OPTION_END,
    };
    memcpy(question + DHCP_OPTIONS + 8, options, sizeof options);
}

static void take_address(struct ipv4_address *address, uint8_t code)
{
    const uint8_t *value = dhcp_option(code, 4);
    if (value)
        memcpy(address, value, 4);
}

bool ipv4_configure(struct ipv4_host *host)
{
    struct ipv4_address offered;
    *host = (struct ipv4_host){.netvsc = host->netvsc};
    fill_dhcp(host, DHCP_DISCOVER);
    if (!ipv4_ask(host, DHCP_END, is_offer))
        return false;
    memcpy(&offered, answer + DHCP_YOUR_ADDRESS, 4);
    take_address(&host->server, OPTION_SERVER);
    fill_dhcp(host, DHCP_REQUEST);
    add_choice(offered, host->server);
    if (!ipv4_ask(host, DHCP_END, is_ack))
        return false;
    memcpy(&host->address, answer + DHCP_YOUR_ADDRESS, 4);
    take_address(&host->mask, OPTION_MASK);
    take_address(&host->gateway, OPTION_ROUTER);
    take_address(&host->name_server, OPTION_NAME_SERVER);
    const uint8_t *lease = dhcp_option(OPTION_LEASE, 4);
    host->lease_seconds = lease ? get32(lease) : 0;
    return true;
}
