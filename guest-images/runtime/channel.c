/*
 * GPADLs and channels: creates and opens them, and transfers packets.
 */
#include "hypercall.h"
#include "memory.h"
#include "pages.h"
#include "smp.h"
#include "time.h"
#include "vmbus.h"

/* The id of the next GPADL or open request. Each gets a different one. */
static uint32_t next_id = 1;

uint32_t vmbus_gpadl(uint32_t channel, const void *start, unsigned pages)
{
    struct {
        uint32_t type, reserved, channel, gpadl;
        uint16_t range_bytes, range_count;
        uint32_t byte_count, byte_offset; /* unaligned, as in the message */
        uint64_t frames[26];
    } __attribute__((packed)) header = {
        .type = GPADL_HEADER,
        .channel = channel,
        .gpadl = next_id++,
        .range_bytes = 8 + 8 * pages,
        .range_count = 1,
        .byte_count = pages * PAGE_SIZE,
    };
    struct {
        uint32_t type, reserved, number, gpadl;
        uint64_t frames[28];
    } body = {.type = GPADL_BODY, .gpadl = header.gpadl};
    struct vmbus_message answer;
    uint64_t frame = (uint64_t)start / PAGE_SIZE;
    unsigned sent = 0, here;

    for (here = 0; here < ARRAY_LENGTH(header.frames) && sent < pages; here++, sent++)
        header.frames[here] = frame++;
    bool posted = vmbus_post(&header, sizeof header - sizeof header.frames + here * 8);
    while (posted && sent < pages) {
        for (here = 0; here < ARRAY_LENGTH(body.frames) && sent < pages; here++, sent++)
            body.frames[here] = frame++;
        posted = vmbus_post(&body, sizeof body - sizeof body.frames + here * 8);
        body.number++;
    }
    if (!posted || !vmbus_expect(GPADL_CREATED, &answer) || answer.created.gpadl != header.gpadl)
        return 0;
    return answer.created.status ? 0 : header.gpadl;
}

bool vmbus_gpadl_teardown(uint32_t channel, uint32_t gpadl)
{
    struct vmbus_message answer;
    return vmbus_post_words(GPADL_TEARDOWN, channel, gpadl) && vmbus_expect(GPADL_TORNDOWN, &answer) &&
           answer.torndown.gpadl == gpadl;
}

bool channel_open(struct channel *channel, const struct offer *offer, void *memory, unsigned pages, uint32_t vp)
{
    struct {
        uint32_t type, reserved, channel, open, gpadl, vp, downstream;
        uint8_t user_defined[120];
    } request = {
        .type = OPENCHANNEL,
        .channel = offer->channel,
        .open = next_id++,
        .vp = vp,
        .downstream = pages,
    };
    struct vmbus_message answer;

    *channel = (struct channel){.offer = offer, .vp = vp, .pages = pages};
    ring_initialize(&channel->out, memory, pages);
    ring_initialize(&channel->in, (uint8_t *)memory + pages * PAGE_SIZE, pages);
    channel->gpadl = request.gpadl = vmbus_gpadl(offer->channel, memory, 2 * pages);
    if (!channel->gpadl || !vmbus_post(&request, sizeof request) || !vmbus_expect(OPENCHANNEL_RESULT, &answer))
        return false;
    if (answer.opened.open == request.open && !answer.opened.status)
        return true;
    vmbus_gpadl_teardown(offer->channel, channel->gpadl);
    return false;
}

bool channel_close(struct channel *channel)
{
    uint32_t id = channel->offer->channel;
    return vmbus_post_words(CLOSECHANNEL, id, 0) && vmbus_gpadl_teardown(id, channel->gpadl);
}

bool channel_retarget(struct channel *channel, uint32_t vp)
{
    struct vmbus_message answer;
    if (!vmbus_post_words(MODIFYCHANNEL, channel->offer->channel, vp))
        return false;
    if (vmbus_version() >= VMBUS_VERSION(5, 3) && (!vmbus_expect(MODIFYCHANNEL_RESPONSE, &answer) || answer.modified.status))
        return false;
    channel->vp = vp;
    return true;
}

static void signal_host(const struct channel *channel)
{
    /* The result is ignored: the host may have rescinded the channel. */
    hypercall(CALL_SIGNAL_EVENT | CALL_FAST, channel->offer->connection, 0);
}

bool channel_put(struct channel *channel, const struct packet *packet)
{
    bool signal;
    if (!ring_write(&channel->out, packet, &signal))
        return false;
    channel->owes_signal |= signal;
    return true;
}

void channel_flush(struct channel *channel)
{
    if (channel->owes_signal)
        signal_host(channel);
    channel->owes_signal = false;
}

bool channel_send(struct channel *channel, const struct packet *packet)
{
    bool sent = channel_put(channel, packet);
    channel_flush(channel);
    return sent;
}

typedef int read_function(struct ring *ring, struct packet_header *header, void *to, unsigned size);

static int take(struct channel *channel, read_function *read, struct packet_header *header, void *to, unsigned size)
{
    int length = read(&channel->in, header, to, size);
    if (length >= 0 && ring_release(&channel->in))
        signal_host(channel);
    return length;
}

int channel_take(struct channel *channel, struct packet_header *header, void *buffer, unsigned size)
{
    return take(channel, ring_read, header, buffer, size);
}

unsigned channel_interrupts(const struct channel *channel, unsigned cpu)
{
    return vmbus_interrupts(cpu, channel->offer->channel);
}

/* Returns the number of the channel's interrupts on all processors. */
static unsigned signals(const struct channel *channel)
{
    unsigned sum = 0;
    for (unsigned cpu = 0; cpu < cpu_count; cpu++)
        sum += channel_interrupts(channel, cpu);
    return sum;
}

/* Waits until the number of interrupts differs from `before`. Returns false at the time limit. */
static bool await_signal(const struct channel *channel, unsigned before, uint64_t milliseconds)
{
    uint64_t deadline = deadline_after(milliseconds);
    while (signals(channel) == before) {
        if (rdtsc() > deadline)
            return false;
        wait_a_while();
    }
    return true;
}

static int receive(struct channel *channel, read_function *read, struct packet_header *header, void *to, unsigned size,
                   uint64_t milliseconds)
{
    int length = take(channel, read, header, to, size);
    while (length < 0) {
        channel_flush(channel);
        /* Count before reading the ring, so that no signal after the read is missed. */
        unsigned before = signals(channel);
        length = take(channel, read, header, to, size);
        if (length < 0 && !await_signal(channel, before, milliseconds))
            return -1;
    }
    return length;
}

int channel_receive(struct channel *channel, struct packet_header *header, void *buffer, unsigned size)
{
    return receive(channel, ring_read, header, buffer, size, VMBUS_PATIENCE_MILLISECONDS);
}

int channel_receive_whole(struct channel *channel, struct packet_header *header, void *body, unsigned size,
                          uint64_t milliseconds)
{
    return receive(channel, ring_read_whole, header, body, size, milliseconds);
}

bool channel_await_room(struct channel *channel, unsigned payload)
{
    uint32_t space = ring_space(payload);
    unsigned before = signals(channel);
    bool room = ring_wait_for_room(&channel->out, space);
    while (!room && await_signal(channel, before, VMBUS_PATIENCE_MILLISECONDS)) {
        before = signals(channel);
        room = ring_has_room(&channel->out, space);
    }
    ring_wait_for_room(&channel->out, 0);
    return room;
}

bool channel_await_reading(struct channel *channel)
{
    struct ring_control *control = channel->out.control;
    return WAIT_UNTIL(atomic_load(&control->read) == control->write, VMBUS_PATIENCE_MILLISECONDS);
}
