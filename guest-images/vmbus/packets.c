/*
 * Packets of one channel.
 */
#include "tests.h"

#define SENT_PACKETS 200

void open_and_close(void)
{
    struct channel channel;
    unsigned rounds = 0;
    const struct offer *offer = device();
    while (offer && rounds < 20 && channel_open(&channel, offer, ring_memory(0), RING_PAGES, hyperv_vp_index()) &&
           echo(&channel) && channel_close(&channel))
        rounds++;
    CHECK_EQUAL("the channel opens, works and closes 20 times", rounds, 20);
}

/* Packets of many sizes, so that they end and wrap at every position. The longest leaves one byte of the ring free. */
void sizes(void)
{
    struct channel channel;
    if (!open_device(&channel))
        return;
    unsigned longest = RING_BYTES - ring_space(0) - 8, right = 0, tried = 0;
    for (unsigned length = sizeof(struct request); length <= longest; length += length < 64 ? 1 : 104) {
        tried++;
        right += ask(&channel, COMMAND_ECHO, 0, 0, length);
    }
    CHECK_EQUAL("packets of every size are echoed unchanged", right, tried);
    CHECK("the longest possible packet is echoed", ask(&channel, COMMAND_ECHO, 0, 0, longest));
    struct packet too_long = {.type = PACKET_IN_BAND, .payload = buffer, .payload_length = longest + 8};
    CHECK("a longer packet does not fit into an empty ring", !channel_send(&channel, &too_long));
    close_device(&channel);
}

static uint8_t pattern(unsigned number, unsigned index)
{
    return number * 7 + index * 13;
}

/* The host fills the ring and waits for the guest to make room. */
void host_waits(void)
{
    static const unsigned lengths[] = {8, 600, 4000};
    struct channel channel;
    struct packet_header header;
    if (!open_device(&channel))
        return;
    for (unsigned i = 0; i < ARRAY_LENGTH(lengths); i++) {
        struct request request = {COMMAND_SEND, SENT_PACKETS, lengths[i], 0};
        struct packet packet = {.type = PACKET_IN_BAND, .payload = &request, .payload_length = sizeof request};
        CHECK_NAMED(channel_send(&channel, &packet), "%u packets of %u bytes are requested from the host", SENT_PACKETS, lengths[i]);
        unsigned right = 0;
        for (unsigned number = 0; number < SENT_PACKETS; number++) {
            int length = channel_receive(&channel, &header, buffer, sizeof buffer);
            unsigned last = lengths[i] - 1;
            if (length < 0)
                break;
            right += header.transaction == number && length == (int)(lengths[i] + 7) / 8 * 8 &&
                     buffer[0] == pattern(number, 0) && buffer[last] == pattern(number, last);
        }
        CHECK_EQUAL_NAMED(right, SENT_PACKETS, "all packets of %u bytes arrive, in order", lengths[i]);
    }
    close_device(&channel);
}

/* The guest fills the ring, announces the size that it waits for, and sleeps until the host signals. */
void guest_waits(void)
{
    static uint8_t answer[RING_BYTES];
    struct channel channel;
    struct packet_header header;
    unsigned sent = 0, received = 0, waits = 0;
    if (!open_device(&channel))
        return;
    struct request request = {COMMAND_ECHO, 0, 0, 0};
    struct packet packet = {.type = PACKET_IN_BAND, .payload = buffer, .payload_length = 1000};
    memcpy(buffer, &request, sizeof request);
    while (sent < SENT_PACKETS) {
        /* Every tenth packet requires a completion. */
        packet.transaction = sent;
        packet.flags = sent % 10 == 9 ? PACKET_WANTS_COMPLETION : 0;
        if (channel_send(&channel, &packet)) {
            sent++;
            continue;
        }
        /* A host without room for its answers reads no more packets. */
        while (channel_take(&channel, &header, answer, sizeof answer) >= 0)
            received++;
        waits++;
        if (!CHECK_NAMED(channel_await_room(&channel, packet.payload_length), "the host makes room after packet %u", sent))
            break;
    }
    while (received < sent / 10 && channel_receive(&channel, &header, answer, sizeof answer) >= 0)
        received++;
    CHECK_EQUAL("each packet that requires a completion gets one", received, SENT_PACKETS / 10);
    print("# the guest waited for room %u times\n", waits);
    close_device(&channel);
}

static void fill_data(void)
{
    memset(data_pages, 0x0f, 4 * PAGE_SIZE);
}

/* Returns the number of inverted bytes in a part of the data pages. */
static unsigned inverted(unsigned from, unsigned to)
{
    unsigned count = 0;
    for (unsigned i = from; i < to; i++)
        count += data_pages[i] == 0xf0;
    return count;
}

static bool invert(struct channel *channel, uint16_t type, const void *extra, unsigned length, uint32_t gpadl)
{
    struct request request = {COMMAND_INVERT, 0, 0, gpadl};
    struct packet_header header;
    struct packet packet = {
        .type = type,
        .flags = PACKET_WANTS_COMPLETION,
        .transaction = 77,
        .extra = extra,
        .extra_length = length,
        .payload = &request,
        .payload_length = sizeof request,
    };
    return channel_send(channel, &packet) && channel_receive(channel, &header, buffer, sizeof buffer) > 0 &&
           header.transaction == 77;
}

/* Two ranges: the end of one page and the start of another, and 16 bytes of a third. */
void gpa_direct(void)
{
    struct channel channel;
    uint64_t frame = (uint64_t)data_pages / PAGE_SIZE;
    uint64_t extra[] = {2ULL << 32, 200 | 4000ULL << 32, frame, frame + 2, 16 | 8ULL << 32, frame + 1};
    if (!open_device(&channel))
        return;
    fill_data();
    CHECK("a packet with pages is answered", invert(&channel, PACKET_GPA_DIRECT, extra, sizeof extra, 0));
    CHECK_EQUAL("the end of the first page is changed", inverted(4000, 4096), 96);
    CHECK_EQUAL("the start of the next page in the list is changed", inverted(2 * 4096, 2 * 4096 + 104), 104);
    CHECK_EQUAL("the bytes of the second range are changed", inverted(4096 + 8, 4096 + 24), 16);
    CHECK_EQUAL("no other bytes of the pages are changed", inverted(0, 4 * 4096), 96 + 104 + 16);
    close_device(&channel);
}

void transfer_pages(void)
{
    struct channel channel;
    if (!open_device(&channel))
        return;
    fill_data();
    uint32_t gpadl = vmbus_gpadl(channel.offer->channel, data_pages, 4);
    CHECK("a GPADL is created while the channel is open", gpadl);
    /* The device uses the GPADL's id as page set. Two ranges of length and offset follow. */
    uint64_t extra[] = {1 | 2ULL << 32, 8 | 4092ULL << 32, 100 | (3 * PAGE_SIZE) << 32};
    CHECK("a packet with ranges of the GPADL is answered", invert(&channel, PACKET_TRANSFER_PAGES, extra, sizeof extra, gpadl));
    CHECK_EQUAL("the first range of the GPADL is changed", inverted(4092, 4100), 8);
    CHECK_EQUAL("the second range of the GPADL is changed", inverted(3 * 4096, 3 * 4096 + 100), 100);
    CHECK_EQUAL("no other bytes of the GPADL are changed", inverted(0, 4 * 4096), 108);
    CHECK("the GPADL is torn down while the channel is open", vmbus_gpadl_teardown(channel.offer->channel, gpadl));
    CHECK("the channel still works", echo(&channel));
    close_device(&channel);
}

/* More pages than fit into one message. */
void long_gpadl(void)
{
    static const unsigned pages[] = {1, 25, 26, 27, 54, 55, DATA_PAGES};
    const struct offer *offer = device();
    for (unsigned i = 0; offer && i < ARRAY_LENGTH(pages); i++) {
        uint32_t gpadl = vmbus_gpadl(offer->channel, data_pages, pages[i]);
        CHECK_NAMED(gpadl, "a GPADL of %u pages is made", pages[i]);
        CHECK_NAMED(vmbus_gpadl_teardown(offer->channel, gpadl), "a GPADL of %u pages is torn down", pages[i]);
    }
}
