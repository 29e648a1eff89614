/*
 * A driver for the device of Viridian's VMBus tests: connects, opens channels, exchanges packets, and violates the protocol.
 *
 * Command line: `devices=N` is the number of devices (default 1), and `max=VERSION` the newest version that the host supports,
 * as in INITIATE_CONTACT (default 0x50003).
 */
#include "tests.h"

/* "echo" in ASCII. */
const struct guid echo_interface = {{0x6f, 0x68, 0x63, 0x65}};
uint8_t *data_pages;
uint8_t buffer[RING_BYTES];
static uint8_t *rings;
static bool connected;

#define RINGS (1 + CPUS_MAX)

struct guid instance_of(unsigned device)
{
    return (struct guid){{[14] = device >> 8, [15] = device}};
}

void *ring_memory(unsigned index)
{
    return rings + index * 2 * RING_PAGES * PAGE_SIZE;
}

const struct offer *device(void)
{
    struct guid instance = instance_of(1);
    if (!connected)
        connected = vmbus_negotiate() && vmbus_request_offers();
    const struct offer *offer = vmbus_offer(&echo_interface, &instance, 0);
    CHECK("device 1 is offered", offer);
    return offer;
}

bool open_device(struct channel *channel)
{
    const struct offer *offer = device();
    return offer && CHECK("the channel opens", channel_open(channel, offer, ring_memory(0), RING_PAGES, hyperv_vp_index()));
}

void close_device(struct channel *channel)
{
    CHECK("the channel closes, and the host releases its rings", channel_close(channel));
}

bool ask(struct channel *channel, enum command command, uint32_t first, uint32_t second, unsigned length)
{
    static uint64_t transaction;
    static uint8_t answer[RING_BYTES];
    struct request request = {command, first, second, 0};
    struct packet_header header;

    for (unsigned i = sizeof request; i < length; i++)
        buffer[i] = transaction + i * 7;
    memcpy(buffer, &request, sizeof request);
    struct packet packet = {
        .type = PACKET_IN_BAND,
        .flags = PACKET_WANTS_COMPLETION,
        .transaction = ++transaction,
        .payload = buffer,
        .payload_length = length,
    };
    if (!channel_send(channel, &packet))
        return false;
    int received = channel_receive(channel, &header, answer, sizeof answer);
    return received >= (int)length && received < (int)length + 8 && header.type == PACKET_COMPLETION &&
           header.transaction == transaction && !memcmp(answer, buffer, length);
}

bool echo(struct channel *channel)
{
    return ask(channel, COMMAND_ECHO, 0, 0, sizeof(struct request));
}

/* Each version in turn, from contact to unload. */
void versions(void)
{
    static const uint32_t spoken[] = {
        VMBUS_VERSION(2, 4), VMBUS_VERSION(3, 0), VMBUS_VERSION(4, 0), VMBUS_VERSION(4, 1),
        VMBUS_VERSION(5, 0), VMBUS_VERSION(5, 1), VMBUS_VERSION(5, 2), VMBUS_VERSION(5, 3),
    };
    static const uint32_t unknown[] = {0, VMBUS_VERSION(1, 1), VMBUS_VERSION(4, 2), VMBUS_VERSION(5, 4), VMBUS_VERSION(6, 0)};
    uint32_t newest = command_line_number("max", VMBUS_NEWEST);
    struct guid instance = instance_of(1);
    struct channel channel;

    for (unsigned i = 0; i < ARRAY_LENGTH(unknown); i++)
        CHECK_NAMED(!vmbus_contact(unknown[i]), "version 0x%x is refused", unknown[i]);
    for (unsigned i = 0; i < ARRAY_LENGTH(spoken); i++) {
        unsigned major = spoken[i] >> 16, minor = spoken[i] & 0xffff;
        if (spoken[i] > newest) {
            CHECK_NAMED(!vmbus_contact(spoken[i]), "version %u.%u is above the host's limit and is refused", major, minor);
            continue;
        }
        if (!CHECK_NAMED(vmbus_contact(spoken[i]), "version %u.%u is accepted", major, minor))
            continue;
        CHECK_NAMED(vmbus_request_offers(), "%u.%u: all offers arrive", major, minor);
        const struct offer *offer = vmbus_offer(&echo_interface, &instance, 0);
        if (CHECK_NAMED(offer && channel_open(&channel, offer, ring_memory(0), RING_PAGES, hyperv_vp_index()),
                        "%u.%u: the channel opens", major, minor)) {
            CHECK_NAMED(echo(&channel), "%u.%u: a packet is echoed", major, minor);
            CHECK_NAMED(channel_close(&channel), "%u.%u: the channel closes", major, minor);
        }
        CHECK_NAMED(vmbus_unload(), "%u.%u: unload is answered", major, minor);
    }
    CHECK_EQUAL("negotiating downwards finds the newest version", vmbus_negotiate(), newest);
    connected = vmbus_request_offers();
    CHECK("all offers arrive", connected);
}

int main(void)
{
    static const struct test tests[] = {
        {"versions", versions},
        {"offers", offers},
        {"open-and-close", open_and_close},
        {"sizes", sizes},
        {"host-waits", host_waits},
        {"guest-waits", guest_waits},
        {"gpa-direct", gpa_direct},
        {"transfer-pages", transfer_pages},
        {"long-gpadl", long_gpadl},
        {"retarget", retarget},
        {"subchannels", subchannels},
        {"rescind", rescind},
        {"broken-channel", broken_channel},
        {"malformed", malformed},
        {"back-pressure", back_pressure},
        {"reconnect", reconnect},
    };
    smp_start_all();
    if (!CHECK("there is a hypervisor with SynIC, messages and events",
               hyperv_is_there() && hyperv_has(HV_ACCESS_SYNIC) && hyperv_has(HV_POST_MESSAGES) && hyperv_has(HV_SIGNAL_EVENTS)))
        return EXIT_FAILED;
    if (!CHECK("the hypercall page can be enabled", hypercall_enable()))
        return EXIT_FAILED;
    on_each_vp((cpu_function *)vmbus_listen, NULL);
    rings = pages_allocate(RINGS * 2 * RING_PAGES);
    data_pages = pages_allocate(DATA_PAGES);
    return RUN_CHECKS(tests);
}
