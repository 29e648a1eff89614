/*
 * Sends datagrams to another host, which echoes them.
 *
 * They have no checksum, as RFC 768 allows. Each carries a number, and the numbers must be echoed in order.
 */
#include "frames.h"
#include "memory.h"

/* Our own port. It is not one of the answered ports. */
#define PORT 0x5644
#define DATAGRAM_LENGTH (FRAME_LEAST - UDP_SOURCE)
#define NUMBER UDP_END
#define PATIENCE_MILLISECONDS 2000

static void begin_datagram(const struct ipv4_host *host, struct mac mac, struct ipv4_address to, uint16_t port)
{
    begin_ipv4(host, FRAME_LEAST, mac, to, PROTOCOL_UDP);
    put16(question + UDP_SOURCE, PORT);
    put16(question + UDP_DESTINATION, port);
    put16(question + UDP_LENGTH, DATAGRAM_LENGTH);
}

/* Returns true if the frame is a datagram from the destination of the request. */
static bool is_back(const struct ipv4_host *host)
{
    return is_ipv4(PROTOCOL_UDP, FRAME_LEAST) && get16(answer + UDP_DESTINATION) == PORT &&
           get16(answer + UDP_SOURCE) == get16(question + UDP_DESTINATION) &&
           !memcmp(answer + IPV4_SOURCE, question + IPV4_DESTINATION, 4) &&
           !memcmp(answer + IPV4_DESTINATION, &host->address, 4);
}

bool ipv4_tell_to_end(struct ipv4_host *host, struct ipv4_address address, struct mac mac)
{
    begin_datagram(host, mac, address, PORT_END);
    return ipv4_ask(host, FRAME_LEAST, is_back);
}

/* Processes an echoed number. Skipped numbers count as lost; a lower number arrived late and already counted as lost. */
static void take_number(struct ipv4_exchange *exchange)
{
    uint64_t number = (uint64_t)get32(answer + NUMBER) << 32 | get32(answer + NUMBER + 4);
    uint64_t next = exchange->back + exchange->lost;
    if (number < next || number >= exchange->sent) {
        exchange->damaged++;
        return;
    }
    exchange->lost += number - next;
    exchange->back++;
}

bool ipv4_exchange(struct ipv4_host *host, struct ipv4_address address, struct mac mac, uint16_t port, uint64_t count,
                   unsigned window, struct ipv4_exchange *exchange)
{
    *exchange = (struct ipv4_exchange){0};
    begin_datagram(host, mac, address, port);
    while (exchange->back + exchange->lost < count) {
        for (; exchange->sent < count && exchange->sent - exchange->back - exchange->lost < window; exchange->sent++) {
            put32(question + NUMBER, exchange->sent >> 32);
            put32(question + NUMBER + 4, exchange->sent);
            if (!netvsc_send(host->netvsc, question, FRAME_LEAST))
                return false;
        }
        answer = netvsc_receive(host->netvsc, &answer_length, PATIENCE_MILLISECONDS);
        if (!answer)
            exchange->lost = exchange->sent - exchange->back;
        else if (is_back(host))
            take_number(exchange);
        else if (!ipv4_reply(host))
            return false;
    }
    return true;
}
