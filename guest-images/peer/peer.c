/*
 * A peer on a network, as server or client.
 *
 * As a server, it answers ARP, pings, and datagrams to a few ports (see ipv4.h), until it gets a datagram to the port that
 * ends it. With `to=ADDRESS` it is a client: it looks that host up by ARP, pings it, exchanges datagrams with it, and exits,
 * with 1 if an answer is missing. Meanwhile it answers as a server does.
 *
 * address=ADDRESS   its own address; by default, it gets one by DHCP
 * to=ADDRESS        the host to contact, as a client
 * pings=N           number of pings, one after the other (default 4)
 * frames=N          number of datagrams that must be echoed (default 0)
 * window=N          number of datagrams in flight (default 16)
 * end               ends the other host as well
 * serve             continues as a server afterwards
 */
#include "runtime.h"
#include "session.h"

#include "interfaces.h"

#define PINGS 4
#define WINDOW 16
/* The other host may start a little later. */
#define LOOKING_MILLISECONDS 20000

static bool exit_with_usage(const char *name, const char *value)
{
    print("%s=%s: wanted an address such as 10.3.0.1\n", name, value);
    machine_exit(EXIT_USAGE);
}

/* Reads an address from the command line. Returns false if there is none. */
static bool read_address(const char *name, struct ipv4_address *address)
{
    const char *value = command_line_value(name);
    return value && (ipv4_parse(value, address) || exit_with_usage(name, value));
}

static bool set_address(struct ipv4_host *host)
{
    if (!read_address("address", &host->address)) {
        session_get_address(host);
        return ipv4_is_set(host->address) || FAILED("there is no address; give one by address=");
    }
    print("    address      %u.%u.%u.%u\n", IPV4_BYTES(host->address));
    return true;
}

static void serve(struct ipv4_host *host)
{
    print("    serving      ARP, pings, datagrams to port %u; one to port %u ends it\n", PORT_ECHO, PORT_END);
    while (!host->was_told_to_end)
        ipv4_serve(host, VMBUS_PATIENCE_MILLISECONDS);
}

static bool find(struct ipv4_host *host, struct ipv4_address other, struct mac *mac)
{
    uint64_t deadline = deadline_after(LOOKING_MILLISECONDS);
    while (!ipv4_resolve(host, other, mac))
        if (rdtsc() > deadline)
            return FAILED("%u.%u.%u.%u does not say where it is", IPV4_BYTES(other));
    print("    found        %u.%u.%u.%u at %02x:%02x:%02x:%02x:%02x:%02x\n", IPV4_BYTES(other), mac->bytes[0], mac->bytes[1],
          mac->bytes[2], mac->bytes[3], mac->bytes[4], mac->bytes[5]);
    return true;
}

static bool ping(struct ipv4_host *host, struct ipv4_address other, struct mac mac)
{
    uint64_t count = command_line_number("pings", PINGS), least = UINT64_MAX, most = 0, microseconds;
    for (uint64_t i = 0; i < count; i++) {
        if (!ipv4_ping(host, other, mac, &microseconds))
            return FAILED("%u.%u.%u.%u does not answer ping %lu", IPV4_BYTES(other), i + 1);
        least = microseconds < least ? microseconds : least;
        most = microseconds > most ? microseconds : most;
    }
    if (count)
        print("    pings        %lu answered, after %lu to %lu microseconds\n", count, least, most);
    return true;
}

static bool exchange(struct ipv4_host *host, struct ipv4_address other, struct mac mac)
{
    struct ipv4_exchange sum;
    uint64_t count = command_line_number("frames", 0), window = command_line_number("window", WINDOW);
    if (!count)
        return true;
    print("    exchanging   %lu datagrams, %lu at once\n", count, window);
    uint64_t begin = rdtsc();
    if (!ipv4_exchange(host, other, mac, PORT_ECHO, count, window, &sum))
        return FAILED("the adapter takes no more frames");
    uint64_t milliseconds = (rdtsc() - begin) / (tsc_frequency() / 1000) + 1;
    print("    exchanged    %lu came back, %lu did not, %lu out of turn, %u refused, in %lu ms: %lu a second\n", sum.back, sum.lost,
          sum.damaged, host->netvsc->refused, milliseconds, sum.back * 1000 / milliseconds);
    return (sum.back == count && !sum.damaged) || FAILED("not all datagrams have come back, and in turn");
}

static bool ask_other(struct ipv4_host *host, struct ipv4_address other)
{
    struct mac mac;
    if (!find(host, other, &mac) || !ping(host, other, mac) || !exchange(host, other, mac))
        return false;
    if (!command_line_has("end"))
        return true;
    if (!ipv4_tell_to_end(host, other, mac))
        return FAILED("%u.%u.%u.%u does not end", IPV4_BYTES(other));
    print("    end          %u.%u.%u.%u was told to\n", IPV4_BYTES(other));
    return true;
}

static bool use_network(struct ipv4_host *host)
{
    struct ipv4_address other;
    if (!host->netvsc->link_is_up)
        return FAILED("the adapter's link is down");
    if (!set_address(host))
        return false;
    bool asks = read_address("to", &other);
    if (asks && !ask_other(host, other))
        return false;
    if (!asks || command_line_has("serve"))
        serve(host);
    print("    answered     %u ARP requests, %u pings, %u datagrams; discarded %u\n", host->answered.arps,
          host->answered.pings, host->answered.datagrams, host->answered.discarded);
    return true;
}

static bool run(void)
{
    static uint8_t memory[NETVSC_PAGES * PAGE_SIZE] NOT_CLEARED __attribute__((aligned(PAGE_SIZE)));
    static struct netvsc netvsc NOT_CLEARED;
    struct ipv4_host host = {.netvsc = &netvsc};
    if (!session_is_possible() || !session_begin())
        return false;
    const struct offer *offer = vmbus_offer(&network_interface, NULL, 0);
    if (!offer)
        return FAILED("there is no network adapter");
    return session_open_adapter(&netvsc, offer, memory) && use_network(&host) && session_close_adapter(&netvsc) &&
           session_end();
}

int main(void)
{
    checks_be_quiet();
    print("Hello from a Viridian network peer.\n");
    if (!run() || checks_failed())
        return EXIT_FAILED;
    print("All is well; turning the machine off.\n");
    machine_power_off();
    return EXIT_PASSED;
}
