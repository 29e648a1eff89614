/*
 * A guest that floods the host with requests of the kind that the command line selects. It prints "flooding" when it has begun.
 *
 *   flood=verify|compare|unmap   repeated commands over a whole disk, whose completions are read
 *   flood=fill                   writes from the first block on
 *   flood=prefetch|flush|map     repeated PRE-FETCH, SYNCHRONIZE CACHE or GET LBA STATUS
 *   flood=durable                WRITE AND VERIFY from the first block on
 *   flood=pattern                repeated WRITE SAME of a pattern over the first 64 MiB
 *   flood=headers                n=N writes (default 3000) of a qcow2 header to the disk's first block; then powers off
 *   flood=contacts               n=N INITIATE_CONTACTs (default 3000) without reading answers; prints the number of answers; powers off
 *   flood=messages               repeated INITIATE_CONTACTs, whose answers are not read
 *   flood=network                datagrams from all ports in turn to the gateway's port=N (default 9, where nobody listens)
 *   flood=lookups                look-ups of a name from all ports in turn
 *   flood=streams                streams to port=N of the gateway; begun when the first stream has accepted some bytes
 *   flood=ring                   moves a ring's write index round and round over the same packets, on the channel of device=NAME (default
 *                                SCSI; ring.c has a list)
 *   flood=sockets                connects to port=N of the host (default 2048) again and again, and keeps the last sockets=N connections
 *                                open (default: all that the host grants); begun when the host refuses one
 *   flood=doorbells|calls        signals a channel, or posts messages that are refused, from all processors
 *   flood=console                prints lines
 *   flood=spin                   all processors spin with interrupts off
 *   flood=nothing                halts
 *
 * `seconds=N` is the duration (default: without end). Then it unloads VMBus, prints whether that succeeded, and powers off.
 */
#include "flood.h"

#include "hypercall.h"
#include "interfaces.h"
#include "session.h"
#include "storvsc.h"
#include "synic.h"

static uint64_t end;

bool flood_goes_on(void)
{
    return rdtsc() < end;
}

static void say_begun(void)
{
    print("flooding\n");
}

static uint64_t post_contact(void)
{
    struct {
        uint32_t type, reserved, version, vp;
        uint8_t sint, vtl, padding[6];
        uint64_t monitors[2];
    } contact = {.type = INITIATE_CONTACT, .version = VMBUS_NEWEST, .vp = hyperv_vp_index(), .sint = VMBUS_SINT};
    return vmbus_post_once(CONNECTION_MESSAGES_5, &contact, sizeof contact);
}

static void contacts(void)
{
    uint64_t count = command_line_number("n", 3000);
    unsigned answers = 0;
    struct message message;

    for (uint64_t i = 0; i < count; i++)
        if (post_contact() != STATUS_SUCCESS)
            print("contact %lu is refused\n", i);
    while (WAIT_UNTIL(message_take(VMBUS_SINT, &message), 500))
        answers++;
    print("%lu contacts, %u answers\n", count, answers);
    machine_power_off();
}

static void signal_channel(void *argument)
{
    const struct offer *offer = argument;
    while (flood_goes_on())
        hypercall(CALL_SIGNAL_EVENT | CALL_FAST, offer->connection, 0);
}

static void post_nonsense(void *unused)
{
    uint64_t page = (uint64_t)unused + this_cpu()->index * PAGE_SIZE;
    uint32_t *input = (uint32_t *)page;
    input[0] = CONNECTION_MESSAGES_5;
    input[2] = 1;
    input[3] = 16;
    while (flood_goes_on())
        hypercall(CALL_POST_MESSAGE, page, 0);
}

static void spin(void *unused)
{
    (void)unused;
    while (flood_goes_on())
        relax();
}

static void everywhere(cpu_function *function, void *argument)
{
    smp_start_all();
    say_begun();
    smp_run_everywhere(function, argument, UINT32_MAX);
}

static bool flood(const char *kind)
{
    if (text_equal(kind, "doorbells")) {
        static struct storvsc storvsc;
        const struct offer *offer = vmbus_offer(&scsi_interface, NULL, 0);
        if (!offer || !storvsc_open(&storvsc, offer, pages_allocate_zeroed(2 * STORVSC_RING_PAGES)))
            return FAILED("there is no channel to signal");
        everywhere(signal_channel, (void *)offer);
        return storvsc_close(&storvsc);
    }
    if (text_equal(kind, "calls")) {
        everywhere(post_nonsense, pages_allocate_zeroed(CPUS_MAX));
        return true;
    }
    if (text_equal(kind, "spin")) {
        everywhere(spin, NULL);
        return true;
    }
    say_begun();
    if (text_equal(kind, "messages")) {
        while (flood_goes_on())
            post_contact();
        struct message message;
        while (WAIT_UNTIL(message_take(VMBUS_SINT, &message), 500))
            ;
        return true;
    }
    if (text_equal(kind, "console")) {
        for (unsigned line = 0; flood_goes_on(); line++)
            print("line %u of a guest that prints without end, whether or not somebody reads it\n", line);
        return true;
    }
    while (text_equal(kind, "nothing") && flood_goes_on())
        wait_a_while();
    return text_equal(kind, "nothing") || FAILED("flood=%s is not one of the kinds in flood.c", kind);
}

int main(void)
{
    char kind[COMMAND_LINE_VALUE_MAX] = "nothing";
    const char *value = command_line_value("flood");

    if (value)
        memcpy(kind, value, sizeof kind);
    uint64_t seconds = command_line_number("seconds", 0);
    checks_be_quiet();
    if (!session_begin())
        return EXIT_FAILED;
    bool is_of_network = text_equal(kind, "network") || text_equal(kind, "lookups") || text_equal(kind, "streams");
    end = seconds ? deadline_after(seconds * 1000) : UINT64_MAX;
    if (text_equal(kind, "contacts"))
        contacts();
    if (text_equal(kind, "ring") ? !flood_ring(say_begun)
        : is_of_network ? !flood_network(kind, say_begun)
        : text_equal(kind, "sockets") ? !flood_sockets(say_begun)
        : flood_is_of_disk(kind) ? !flood_disk(kind, say_begun)
                     : !flood(kind))
        return EXIT_FAILED;
    print("VMBus is %s\n", vmbus_unload() ? "left" : "not left");
    machine_power_off();
    return EXIT_PASSED;
}
