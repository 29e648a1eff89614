/*
 * Ethernet frames with ARP, DHCP and ICMP in them. Offsets count from a frame's first byte.
 */
#include "ipv4.h"

#include "memory.h"
#include "time.h"

#define ATTEMPTS 3
#define PATIENCE_MILLISECONDS 1000

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

#define DHCP_OPERATION 42
#define DHCP_TRANSACTION 46
#define DHCP_FLAGS 52
#define DHCP_YOUR_ADDRESS 58
#define DHCP_CLIENT_MAC 70
#define DHCP_COOKIE 278
#define DHCP_OPTIONS 282
#define DHCP_END 342 /* servers of old want 300 bytes */
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

static const struct mac everybody = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
static const struct ipv4_address nobody, broadcast = {{255, 255, 255, 255}};

/* What is asked, and what came. */
static uint8_t question[DHCP_END] __attribute__((aligned(8))), answer[NETVSC_FRAME_MAX] __attribute__((aligned(8)));
static unsigned answer_length;

static void put16(uint8_t *at, uint16_t value)
{
    at[0] = value >> 8;
    at[1] = value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value);
}

static uint16_t get16(const uint8_t *at)
{
    return at[0] << 8 | at[1];
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

/* The internet checksum (RFC 1071) of an even number of bytes; over bytes that hold one it is 0. */
static uint16_t checksum(const uint8_t *bytes, unsigned length)
{
    uint32_t sum = 0;
    for (unsigned i = 0; i < length; i += 2)
        sum += get16(bytes + i);
    sum = (sum & 0xffff) + (sum >> 16);
    return ~(sum + (sum >> 16));
}

/* Starts a frame: all zeros behind its header. */
static void begin(const struct ipv4_host *host, uint8_t *frame, unsigned length, struct mac to, uint16_t type)
{
    memset(frame, 0, length);
    memcpy(frame, &to, sizeof to);
    memcpy(frame + ETHERNET_SOURCE, &host->netvsc->mac, sizeof host->netvsc->mac);
    put16(frame + ETHERNET_TYPE, type);
}

static void begin_ipv4(const struct ipv4_host *host, unsigned length, struct mac mac, struct ipv4_address to, uint8_t protocol)
{
    begin(host, question, length, mac, TYPE_IPV4);
    question[ETHERNET_LENGTH] = 0x45;
    put16(question + IPV4_LENGTH, length - ETHERNET_LENGTH);
    question[IPV4_LIFETIME] = 64;
    question[IPV4_PROTOCOL] = protocol;
    memcpy(question + IPV4_SOURCE, &host->address, 4);
    memcpy(question + IPV4_DESTINATION, &to, 4);
    put16(question + IPV4_CHECKSUM, checksum(question + ETHERNET_LENGTH, IPV4_END - ETHERNET_LENGTH));
}

static void fill_arp(const struct ipv4_host *host, uint8_t *frame, uint16_t operation, struct mac mac, struct ipv4_address target)
{
    static const uint8_t ethernet_and_ipv4[] = {0, 1, 8, 0, 6, 4};
    memcpy(frame + ETHERNET_LENGTH, ethernet_and_ipv4, sizeof ethernet_and_ipv4);
    put16(frame + ARP_OPERATION, operation);
    memcpy(frame + ARP_SENDER_MAC, &host->netvsc->mac, 6);
    memcpy(frame + ARP_SENDER, &host->address, 4);
    memcpy(frame + ARP_TARGET_MAC, &mac, 6);
    memcpy(frame + ARP_TARGET, &target, 4);
}

static bool is_arp(uint16_t operation)
{
    return answer_length >= ARP_END && get16(answer + ETHERNET_TYPE) == TYPE_ARP && get16(answer + ARP_OPERATION) == operation;
}

/* IPv4 without options, whole and undamaged, of that protocol. */
static bool is_ipv4(uint8_t protocol, unsigned least)
{
    return answer_length >= least && get16(answer + ETHERNET_TYPE) == TYPE_IPV4 && answer[ETHERNET_LENGTH] == 0x45 &&
           answer[IPV4_PROTOCOL] == protocol && get16(answer + IPV4_LENGTH) >= least - ETHERNET_LENGTH &&
           !checksum(answer + ETHERNET_LENGTH, IPV4_END - ETHERNET_LENGTH);
}

/* Somebody asks for our Ethernet address. */
static bool answer_arp(struct ipv4_host *host)
{
    uint8_t frame[FRAME_LEAST];
    struct mac mac;
    struct ipv4_address target;
    if (!memcmp(&host->address, &nobody, 4) || !is_arp(ARP_REQUEST) || memcmp(answer + ARP_TARGET, &host->address, 4))
        return true;
    memcpy(&mac, answer + ARP_SENDER_MAC, sizeof mac);
    memcpy(&target, answer + ARP_SENDER, sizeof target);
    begin(host, frame, sizeof frame, mac, TYPE_ARP);
    fill_arp(host, frame, ARP_REPLY, mac, target);
    return netvsc_send(host->netvsc, frame, sizeof frame);
}

/* Sends the question until its answer has come. */
static bool ask(struct ipv4_host *host, unsigned length, bool (*is_answer)(const struct ipv4_host *host))
{
    for (unsigned attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t deadline = deadline_after(PATIENCE_MILLISECONDS);
        if (!netvsc_send(host->netvsc, question, length))
            return false;
        while (rdtsc() < deadline) {
            int received = netvsc_receive(host->netvsc, answer, sizeof answer, PATIENCE_MILLISECONDS);
            if (received < 0)
                break;
            answer_length = received;
            if (is_answer(host))
                return true;
            if (!answer_arp(host))
                return false;
        }
    }
    return false;
}

/* An option's value in the answer, if it has at least so many bytes; NULL otherwise. */
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
    begin_ipv4(host, DHCP_END, everybody, broadcast, PROTOCOL_UDP);
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

/* Adds, in the place of the end, the address that was offered and who offered it. */
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
    if (!ask(host, DHCP_END, is_offer))
        return false;
    memcpy(&offered, answer + DHCP_YOUR_ADDRESS, 4);
    take_address(&host->server, OPTION_SERVER);
    fill_dhcp(host, DHCP_REQUEST);
    add_choice(offered, host->server);
    if (!ask(host, DHCP_END, is_ack))
        return false;
    memcpy(&host->address, answer + DHCP_YOUR_ADDRESS, 4);
    take_address(&host->mask, OPTION_MASK);
    take_address(&host->gateway, OPTION_ROUTER);
    take_address(&host->name_server, OPTION_NAME_SERVER);
    const uint8_t *lease = dhcp_option(OPTION_LEASE, 4);
    host->lease_seconds = lease ? get32(lease) : 0;
    return true;
}

/* An ARP reply that tells what the question asks for. */
static bool is_neighbour(const struct ipv4_host *host)
{
    (void)host;
    return is_arp(ARP_REPLY) && !memcmp(answer + ARP_SENDER, question + ARP_TARGET, 4);
}

bool ipv4_resolve(struct ipv4_host *host, struct ipv4_address address, struct mac *mac)
{
    begin(host, question, FRAME_LEAST, everybody, TYPE_ARP);
    fill_arp(host, question, ARP_REQUEST, (struct mac){{0}}, address);
    if (!ask(host, FRAME_LEAST, is_neighbour))
        return false;
    memcpy(mac, answer + ARP_SENDER_MAC, sizeof *mac);
    return true;
}

/* The echo of the question, undamaged. */
static bool is_echo(const struct ipv4_host *host)
{
    return is_ipv4(PROTOCOL_ICMP, ICMP_END) && answer[ICMP_TYPE] == ICMP_ECHO_REPLY &&
           !memcmp(answer + IPV4_SOURCE, question + IPV4_DESTINATION, 4) &&
           !memcmp(answer + IPV4_DESTINATION, &host->address, 4) && !checksum(answer + ICMP_TYPE, ICMP_END - ICMP_TYPE) &&
           !memcmp(answer + ICMP_IDENTIFIER, question + ICMP_IDENTIFIER, ICMP_END - ICMP_IDENTIFIER);
}

bool ipv4_ping(struct ipv4_host *host, struct ipv4_address address, struct mac mac, uint64_t *microseconds)
{
    static uint16_t sequence;
    begin_ipv4(host, ICMP_END, mac, address, PROTOCOL_ICMP);
    question[ICMP_TYPE] = ICMP_ECHO;
    put16(question + ICMP_IDENTIFIER, IDENTIFIER);
    put16(question + ICMP_SEQUENCE, ++sequence);
    for (unsigned i = 0; i < ICMP_DATA_LENGTH; i++)
        question[ICMP_DATA + i] = i;
    put16(question + ICMP_CHECKSUM, checksum(question + ICMP_TYPE, ICMP_END - ICMP_TYPE));
    uint64_t before = rdtsc();
    if (!ask(host, ICMP_END, is_echo))
        return false;
    *microseconds = (rdtsc() - before) / (tsc_frequency() / 1000000);
    return true;
}
