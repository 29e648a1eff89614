/*
 * A working guest, whose progress shows what its neighbours cost it: it reads its disk and computes repeatedly, and prints the
 * number of both every `window=MILLISECONDS` (default 1000): "work 1234 reads 5678 sums". After `windows=N` lines (default:
 * without end), it powers off.
 *
 * With `echo=PORT`, it instead sends datagrams to that port of the gateway, which echoes them: "work 1234 datagrams 0 lost".
 * `pause=MILLISECONDS` is the time that it waits after each few of them (default 0).
 */
#include "hyperv.h"
#include "interfaces.h"
#include "runtime.h"
#include "session.h"
#include "storvsc.h"

#define READ_LENGTH 4096
/* Steps of the computation after each read: some microseconds, even on a host that emulates each instruction. */
#define SUM_STEPS 100
/* Number of datagrams between two reads of the clock. */
#define DATAGRAMS 8

static struct storvsc storvsc;
static volatile uint64_t sum;
static struct ipv4_host host;
static struct mac router;

static bool read_once(uint8_t *data)
{
    struct scsi_result result;
    struct scsi_command command = {
        .direction = SCSI_IN,
        .cdb_length = 10,
        .cdb = {0x28, [8] = READ_LENGTH / 512},
        .data = data,
        .length = READ_LENGTH,
    };
    return storvsc_execute(&storvsc, &command, &result);
}

/* Works until `end` and prints how much was done. If it cannot work, prints why and returns false. */
static bool read_until(uint64_t end)
{
    static uint8_t *data;
    unsigned reads = 0, sums = 0;
    if (!data)
        data = pages_allocate_zeroed(1);
    while (rdtsc() < end) {
        if (!read_once(data))
            return FAILED("a read is not answered");
        reads++;
        for (unsigned step = 0; step < SUM_STEPS; step++)
            sum += step;
        sums++;
    }
    print("work %u reads %u sums\n", reads, sums);
    return true;
}

static bool exchange_until(uint64_t end, uint16_t port)
{
    uint64_t back = 0, lost = 0, pause = command_line_number("pause", 0);
    while (rdtsc() < end) {
        struct ipv4_exchange some;
        if (!ipv4_exchange(&host, host.gateway, router, port, DATAGRAMS, 1, &some) || some.damaged)
            return FAILED("the adapter takes no datagrams, or they come back damaged");
        back += some.back;
        lost += some.lost;
        for (uint64_t rested = deadline_after(pause); rdtsc() < rested;)
            ipv4_serve(&host, 10);
    }
    print("work %lu datagrams %lu lost\n", back, lost);
    return true;
}

static bool open_disk(void)
{
    const struct offer *offer = vmbus_offer(&scsi_interface, NULL, 0);
    return (offer && storvsc_open(&storvsc, offer, pages_allocate_zeroed(2 * STORVSC_RING_PAGES)) &&
            storvsc_negotiate(&storvsc)) ||
           FAILED("there is no disk");
}

static bool open_network(void)
{
    static uint8_t memory[NETVSC_PAGES * PAGE_SIZE] NOT_CLEARED __attribute__((aligned(PAGE_SIZE)));
    static struct netvsc netvsc NOT_CLEARED;
    const struct offer *offer = vmbus_offer(&network_interface, NULL, 0);
    if (!offer || !session_open_adapter(&netvsc, offer, memory))
        return FAILED("there is no network adapter");
    host.netvsc = &netvsc;
    return (ipv4_configure(&host) && ipv4_resolve(&host, host.gateway, &router)) || FAILED("there is no gateway");
}

int main(void)
{
    uint64_t window = command_line_number("window", 1000), windows = command_line_number("windows", UINT64_MAX);
    uint16_t port = command_line_number("echo", 0);

    checks_be_quiet();
    if (!session_begin() || !(port ? open_network() : open_disk()))
        return EXIT_FAILED;
    for (uint64_t i = 0; i < windows; i++) {
        uint64_t end = deadline_after(window);
        if (!(port ? exchange_until(end, port) : read_until(end)))
            return EXIT_FAILED;
    }
    machine_power_off();
    return EXIT_PASSED;
}
