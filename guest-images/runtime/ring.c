/*
 * Indexes of rings, copies that wrap at a ring's end, and decisions to signal the other side.
 */
#include "ring.h"

#include "memory.h"
#include "pages.h"

#define UNIT 8
#define FOOTER 8
#define FEATURE_PENDING_SEND_SIZE 1

void ring_initialize(struct ring *ring, void *memory, unsigned pages)
{
    ring->control = memset(memory, 0, PAGE_SIZE);
    ring->data = (uint8_t *)memory + PAGE_SIZE;
    ring->size = (pages - 1) * PAGE_SIZE;
    ring->next = 0;
    atomic_store(&ring->control->features, FEATURE_PENDING_SEND_SIZE);
}

static uint32_t advance(const struct ring *ring, uint32_t at, uint32_t length)
{
    uint32_t next = at + length;
    return next < ring->size ? next : next - ring->size;
}

/* Inlined because most lengths are constant and most packets do not wrap, so that a few moves are enough. */
static inline uint32_t copy_in(struct ring *ring, uint32_t at, const void *from, uint32_t length)
{
    uint32_t to_end = ring->size - at;
    if (length <= to_end) {
        memcpy(ring->data + at, from, length);
    } else {
        memcpy(ring->data + at, from, to_end);
        memcpy(ring->data, (const uint8_t *)from + to_end, length - to_end);
    }
    return advance(ring, at, length);
}

static inline void copy_out(const struct ring *ring, uint32_t at, void *to, uint32_t length)
{
    uint32_t to_end = ring->size - at;
    if (length <= to_end) {
        memcpy(to, ring->data + at, length);
    } else {
        memcpy(to, ring->data + at, to_end);
        memcpy((uint8_t *)to + to_end, ring->data, length - to_end);
    }
}

static uint32_t round_up(uint32_t length)
{
    return (length + UNIT - 1) & ~(UNIT - 1);
}

uint32_t ring_space(unsigned payload)
{
    return sizeof(struct packet_header) + round_up(payload) + FOOTER;
}

/* Returns the space for the writer. One byte stays free to distinguish a full ring from an empty one. */
static uint32_t room(const struct ring *ring, uint32_t read, uint32_t write)
{
    return write >= read ? ring->size - (write - read) : read - write;
}

bool ring_has_room(const struct ring *ring, uint32_t space)
{
    return room(ring, atomic_load(&ring->control->read), ring->control->write) > space;
}

bool ring_write(struct ring *ring, const struct packet *packet, bool *signal)
{
    uint32_t before = ring->control->write, payload_offset = sizeof(struct packet_header) + packet->extra_length;
    uint32_t length = payload_offset + round_up(packet->payload_length);
    if (!ring_has_room(ring, length + FOOTER))
        return false;
    struct packet_header header = {
        .type = packet->type,
        .payload_offset = payload_offset / UNIT,
        .length = length / UNIT,
        .flags = packet->flags,
        .transaction = packet->transaction,
    };
    static const uint8_t zeros[UNIT];
    uint64_t footer = (uint64_t)before << 32;
    uint32_t at = copy_in(ring, before, &header, sizeof header), padding = length - payload_offset - packet->payload_length;
    if (packet->extra_length)
        at = copy_in(ring, at, packet->extra, packet->extra_length);
    at = copy_in(ring, at, packet->payload, packet->payload_length);
    if (padding)
        at = copy_in(ring, at, zeros, padding);
    at = copy_in(ring, at, &footer, sizeof footer);
    atomic_store(&ring->control->write, at);
    /* Unless the reader masks interrupts, it may be asleep if it had read everything before this packet. */
    *signal = !atomic_load(&ring->control->interrupt_mask) && atomic_load(&ring->control->read) == before;
    return true;
}

/* Copies the next packet's header. */
static bool read_header(const struct ring *ring, struct packet_header *header)
{
    if (atomic_load(&ring->control->write) == ring->next)
        return false;
    copy_out(ring, ring->next, header, sizeof *header);
    return true;
}

/* Copies the packet from `offset` on, and advances to the next packet. */
static int read_from(struct ring *ring, const struct packet_header *header, unsigned offset, void *to, unsigned size)
{
    unsigned length = header->length * UNIT - offset;
    if (length > size)
        return -1;
    copy_out(ring, advance(ring, ring->next, offset), to, length);
    ring->next = advance(ring, ring->next, header->length * UNIT + FOOTER);
    return length;
}

int ring_read(struct ring *ring, struct packet_header *header, void *payload, unsigned size)
{
    return read_header(ring, header) ? read_from(ring, header, header->payload_offset * UNIT, payload, size) : -1;
}

int ring_read_whole(struct ring *ring, struct packet_header *header, void *body, unsigned size)
{
    return read_header(ring, header) ? read_from(ring, header, sizeof *header, body, size) : -1;
}

bool ring_release(struct ring *ring)
{
    uint32_t before = ring->control->read, write;
    atomic_store(&ring->control->read, ring->next);
    if (!(atomic_load(&ring->control->features) & FEATURE_PENDING_SEND_SIZE))
        return false;
    uint32_t pending = atomic_load(&ring->control->pending_send_size);
    if (!pending)
        return false;
    write = atomic_load(&ring->control->write);
    uint32_t now = room(ring, ring->next, write), freed = (ring->next + ring->size - before) % ring->size;
    /* Signal only if this read made enough room. Before it there was too little; a negative difference wraps to a large number. */
    return now > pending && now - freed <= pending;
}

bool ring_wait_for_room(struct ring *ring, uint32_t space)
{
    atomic_store(&ring->control->pending_send_size, space);
    return ring_has_room(ring, space);
}
