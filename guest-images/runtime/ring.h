/*
 * The guest's side of a channel's rings. The rules for signals are those of Linux's drivers/hv/ring_buffer.c.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define PACKET_IN_BAND 6
#define PACKET_TRANSFER_PAGES 7
#define PACKET_GPA_DIRECT 9
#define PACKET_COMPLETION 11
#define PACKET_WANTS_COMPLETION 1

/* A packet in the ring; offset and length count units of eight bytes. */
struct packet_header {
    uint16_t type, payload_offset, length, flags;
    uint64_t transaction;
};

/* A packet to send. `extra` is the part between header and payload that its type defines, a multiple of eight bytes. */
struct packet {
    uint16_t type, flags;
    uint64_t transaction;
    const void *extra, *payload;
    unsigned extra_length, payload_length;
};

/* A ring's first page. */
struct ring_control {
    uint32_t write, read, interrupt_mask, pending_send_size;
    uint32_t reserved[12];
    uint32_t features;
};

struct ring {
    struct ring_control *control;
    uint8_t *data;
    uint32_t size;
    uint32_t next; /* if this side reads the ring: the position of the next packet */
};

/* Initializes an empty ring in `pages` pages of memory. The first is the control page. */
void ring_initialize(struct ring *ring, void *memory, unsigned pages);
/* Returns the space that a packet with this length of payload needs, in bytes. */
uint32_t ring_space(unsigned payload);
bool ring_has_room(const struct ring *ring, uint32_t space);
/* Writes a packet. Sets `signal` if the reader may be asleep. Returns false if there is no room. */
bool ring_write(struct ring *ring, const struct packet *packet, bool *signal);
/* Copies the next packet's header and payload. Returns the payload's length, or -1 if there is none or it exceeds `size`. */
int ring_read(struct ring *ring, struct packet_header *header, void *payload, unsigned size);
/* The same, but copies everything after the header: the part that the packet's type defines, and the payload. */
int ring_read_whole(struct ring *ring, struct packet_header *header, void *body, unsigned size);
/* Returns the offset of the payload in that body. */
static inline unsigned packet_payload_offset(const struct packet_header *header)
{
    return header->payload_offset * 8 - sizeof *header;
}
/* Releases the space of packets that were read. Returns true if the writer waits for it. */
bool ring_release(struct ring *ring);
/* Announces the size that the writer waits for (0: none). Returns true if there is enough space already. */
bool ring_wait_for_room(struct ring *ring, uint32_t space);
