/*
 * A ring that is never empty: another processor moves the write index round and round over packets that are already in the
 * ring, so that the host always finds more of them.
 */
#include "flood.h"
#include "hypercall.h"
#include "interfaces.h"
#include "session.h"

#define RING_PAGES 1021
/* Everything in a packet but its payload: a header, and a trailer of eight bytes. */
#define AROUND (sizeof(struct packet_header) + 8)

/* For each device, a packet that it answers or ignores, and that leaves its channel open. The ring's size is a multiple of the
 * packet's, so that packets lie at the same places each time round. */
static const struct {
    const char *device;
    unsigned length;
    uint32_t payload[4];
} kinds[] = {
    /* EXECUTE_SRB, too short for a command. */
    {"SCSI", 16, {3}},
    /* SEND_RNDIS_PACKET, before the adapter is set up. */
    {"network", 16, {107, 0, UINT32_MAX}},
    /* PROTOCOL_REQUEST, with a version that does not exist. */
    {"keyboard", 16, {1, 2}},
    /* Messages of an unknown type, in a pipe. */
    {"mouse", 16, {1, 8, 99, 0}},
    {"video", 16, {1, 8, 99, 8}},
    /* Replies to nothing, in a pipe. */
    {"heartbeat", 56, {1, 20}},
    {"shutdown", 56, {1, 20}},
    {"KVP", 56, {1, 20}},
};

static struct channel channel;
static uint32_t packet_size;
static volatile bool is_going, is_over;

static void cycle(void *unused)
{
    uint32_t size = channel.out.size, step = (size / packet_size / 2 - 1) * packet_size, write = 0;
    (void)unused;
    is_going = true;
    while (!is_over) {
        write += step;
        if (write >= size)
            write -= size;
        *(volatile uint32_t *)&channel.out.control->write = write;
    }
}

static const struct offer *offer_of(const char *device)
{
    const struct offer *offer = vmbus_offer_after(NULL);
    while (offer && !text_equal(interface_name(&offer->interface), device))
        offer = vmbus_offer_after(offer);
    return offer;
}

static void fill(const uint32_t *payload, unsigned length)
{
    for (uint32_t i = 0; i < channel.out.size / packet_size; i++) {
        struct packet_header *header = (struct packet_header *)(channel.out.data + i * packet_size);
        *header = (struct packet_header){
            .type = PACKET_IN_BAND,
            .payload_offset = sizeof *header / 8,
            .length = (sizeof *header + length) / 8,
            .flags = PACKET_WANTS_COMPLETION,
            .transaction = i,
        };
        memcpy(header + 1, payload, sizeof kinds->payload);
    }
}

bool flood_ring(void (*begun)(void))
{
    const char *device = command_line_value("device");
    unsigned kind = 0;
    while (device && kind < ARRAY_LENGTH(kinds) && !text_equal(kinds[kind].device, device))
        kind++;
    if (kind == ARRAY_LENGTH(kinds))
        return FAILED("device=%s is not one of those in ring.c", device);
    const struct offer *offer = offer_of(kinds[kind].device);
    if (!offer || !channel_open(&channel, offer, pages_allocate_zeroed(2 * RING_PAGES), RING_PAGES, VMBUS_NO_VP))
        return FAILED("there is no channel");
    if (smp_start_all() < 2)
        return FAILED("this takes two processors");
    packet_size = AROUND + kinds[kind].length;
    fill(kinds[kind].payload, kinds[kind].length);
    smp_run(1, cycle, NULL);
    if (!WAIT_UNTIL(is_going, 20000))
        return FAILED("the second processor does not run");
    hypercall(CALL_SIGNAL_EVENT | CALL_FAST, offer->connection, 0);
    if (!WAIT_UNTIL(*(volatile uint32_t *)&channel.out.control->read, 20000))
        return FAILED("the host does not read the ring");
    begun();
    while (flood_goes_on())
        wait_a_while();
    /* The channel must be closed while the ring is never empty. */
    print("VMBus is %s\n", vmbus_unload() ? "left" : "not left");
    is_over = true;
    smp_wait(1, 20000);
    machine_power_off();
    return true;
}
