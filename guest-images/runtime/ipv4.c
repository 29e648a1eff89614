/*
 * ARP, and IPv4 with ICMP and UDP: sends requests, and answers requests of other hosts.
 */
#include "frames.h"
#include "memory.h"
#include "text.h"
#include "time.h"

#define ATTEMPTS 3
#define PATIENCE_MILLISECONDS 1000

const struct mac everybody = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
const struct ipv4_address ipv4_broadcast = {{255, 255, 255, 255}};

uint8_t question[QUESTION_MAX] __attribute__((aligned(8)));
const uint8_t *answer;
unsigned answer_length;

bool ipv4_parse(const char *text, struct ipv4_address *address)
{
    for (unsigned i = 0; i < sizeof address->bytes; i++) {
        unsigned value = 0, digits = 0;
        for (; *text >= '0' && *text <= '9' && digits < 3; text++, digits++)
            value = value * 10 + *text - '0';
        if (!digits || value > 255 || *text++ != (i < sizeof address->bytes - 1 ? '.' : 0))
            return false;
        address->bytes[i] = value;
    }
    return true;
}

bool ipv4_equal(struct ipv4_address left, struct ipv4_address right)
{
    return !memcmp(&left, &right, sizeof left);
}

bool ipv4_is_set(struct ipv4_address address)
{
    return !ipv4_equal(address, (struct ipv4_address){{0}});
}

/*
 * Returns the internet checksum (RFC 1071) of an even number of bytes. It is 0 for bytes that include their checksum. Adding
 * longer words has the same result; only the byte order differs from that of the frame.
 */
static uint16_t checksum(const uint8_t *bytes, unsigned length)
{
    uint64_t sum = 0;
    uint32_t word;
    uint16_t half;
    for (; length >= sizeof word; length -= sizeof word, bytes += sizeof word) {
        memcpy(&word, bytes, sizeof word);
        sum += word;
    }
    if (length) {
        memcpy(&half, bytes, sizeof half);
        sum += half;
    }
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return ~get16((const uint8_t *)&sum);
}

/* Starts a frame: writes its header, and zeros after it. */
static void begin(const struct ipv4_host *host, uint8_t *frame, unsigned length, struct mac to, uint16_t type)
{
    memset(frame, 0, length);
    memcpy(frame, &to, sizeof to);
    memcpy(frame + ETHERNET_SOURCE, &host->netvsc->mac, sizeof host->netvsc->mac);
    put16(frame + ETHERNET_TYPE, type);
}

void begin_ipv4(const struct ipv4_host *host, unsigned length, struct mac mac, struct ipv4_address to, uint8_t protocol)
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

bool is_ipv4(uint8_t protocol, unsigned least)
{
    return answer_length >= least && get16(answer + ETHERNET_TYPE) == TYPE_IPV4 && answer[ETHERNET_LENGTH] == 0x45 &&
           answer[IPV4_PROTOCOL] == protocol && get16(answer + IPV4_LENGTH) >= least - ETHERNET_LENGTH &&
           get16(answer + IPV4_LENGTH) <= answer_length - ETHERNET_LENGTH &&
           !checksum(answer + ETHERNET_LENGTH, IPV4_END - ETHERNET_LENGTH);
}

static bool is_for(const struct ipv4_host *host, unsigned destination)
{
    return !memcmp(answer + destination, &host->address, 4);
}

/* Another host asks for our Ethernet address. */
static bool answer_arp(struct ipv4_host *host)
{
    uint8_t frame[FRAME_LEAST];
    struct mac mac;
    struct ipv4_address target;
    memcpy(&mac, answer + ARP_SENDER_MAC, sizeof mac);
    memcpy(&target, answer + ARP_SENDER, sizeof target);
    begin(host, frame, sizeof frame, mac, TYPE_ARP);
    fill_arp(host, frame, ARP_REPLY, mac, target);
    host->answered.arps++;
    return netvsc_send(host->netvsc, frame, sizeof frame);
}

static void swap(uint8_t *one, uint8_t *other, unsigned length)
{
    uint8_t kept[6];
    memcpy(kept, one, length);
    memcpy(one, other, length);
    memcpy(other, kept, length);
}

/* Copies the packet with source and destination exchanged, which does not change its checksums. */
static uint8_t *turn_round(void)
{
    static uint8_t frame[NETVSC_FRAME_MAX] __attribute__((aligned(8)));
    memcpy(frame, answer, answer_length);
    swap(frame, frame + ETHERNET_SOURCE, 6);
    swap(frame + IPV4_SOURCE, frame + IPV4_DESTINATION, 4);
    return frame;
}

static bool answer_ping(struct ipv4_host *host)
{
    uint8_t *frame = turn_round();
    frame[ICMP_TYPE] = ICMP_ECHO_REPLY;
    /* The type changes from 8 to 0, so the sum decreases by the type, and its complement increases. */
    uint32_t sum = get16(frame + ICMP_CHECKSUM) + (ICMP_ECHO << 8);
    put16(frame + ICMP_CHECKSUM, sum + (sum >> 16));
    host->answered.pings++;
    return netvsc_send(host->netvsc, frame, answer_length);
}

static bool answer_datagram(struct ipv4_host *host)
{
    uint16_t port = get16(answer + UDP_DESTINATION);
    host->answered.discarded += port == PORT_DISCARD;
    if (port != PORT_ECHO && port != PORT_END)
        return true;
    host->answered.datagrams += port == PORT_ECHO;
    host->was_told_to_end |= port == PORT_END;
    uint8_t *frame = turn_round();
    swap(frame + UDP_SOURCE, frame + UDP_DESTINATION, 2);
    return netvsc_send(host->netvsc, frame, answer_length);
}

bool ipv4_reply(struct ipv4_host *host)
{
    if (!ipv4_is_set(host->address))
        return true;
    if (is_arp(ARP_REQUEST))
        return !is_for(host, ARP_TARGET) || answer_arp(host);
    if (answer_length < IPV4_END || !is_for(host, IPV4_DESTINATION))
        return true;
    if (is_ipv4(PROTOCOL_UDP, UDP_END))
        return answer_datagram(host);
    if (is_ipv4(PROTOCOL_ICMP, ICMP_DATA) && answer[ICMP_TYPE] == ICMP_ECHO)
        return answer_ping(host);
    return true;
}

static bool receive(struct ipv4_host *host)
{
    answer = netvsc_receive(host->netvsc, &answer_length, PATIENCE_MILLISECONDS);
    return answer;
}

bool ipv4_ask(struct ipv4_host *host, unsigned length, bool (*is_answer)(const struct ipv4_host *host))
{
    for (unsigned attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t deadline = deadline_after(PATIENCE_MILLISECONDS);
        if (!netvsc_send(host->netvsc, question, length))
            return false;
        while (rdtsc() < deadline && receive(host)) {
            if (is_answer(host))
                return true;
            if (!ipv4_reply(host))
                return false;
        }
    }
    return false;
}

bool ipv4_serve(struct ipv4_host *host, uint64_t milliseconds)
{
    answer = netvsc_receive(host->netvsc, &answer_length, milliseconds);
    return answer && ipv4_reply(host);
}

/* Returns true if the frame is the ARP reply to the request. */
static bool is_neighbour(const struct ipv4_host *host)
{
    (void)host;
    return is_arp(ARP_REPLY) && !memcmp(answer + ARP_SENDER, question + ARP_TARGET, 4);
}

bool ipv4_resolve(struct ipv4_host *host, struct ipv4_address address, struct mac *mac)
{
    begin(host, question, FRAME_LEAST, everybody, TYPE_ARP);
    fill_arp(host, question, ARP_REQUEST, (struct mac){{0}}, address);
    if (!ipv4_ask(host, FRAME_LEAST, is_neighbour))
        return false;
    memcpy(mac, answer + ARP_SENDER_MAC, sizeof *mac);
    return true;
}

/* Returns true if the frame is the unchanged echo of the request. */
static bool is_echo(const struct ipv4_host *host)
{
    return is_ipv4(PROTOCOL_ICMP, ICMP_END) && answer[ICMP_TYPE] == ICMP_ECHO_REPLY &&
           !memcmp(answer + IPV4_SOURCE, question + IPV4_DESTINATION, 4) && is_for(host, IPV4_DESTINATION) &&
           !checksum(answer + ICMP_TYPE, ICMP_END - ICMP_TYPE) &&
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
    if (!ipv4_ask(host, ICMP_END, is_echo))
        return false;
    *microseconds = (rdtsc() - before) / (tsc_frequency() / 1000000);
    return true;
}
