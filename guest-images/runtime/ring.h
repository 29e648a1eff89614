/*
 * The rings of a channel, from the guest's side. The rules for signals are those of Linux's drivers/hv/ring_buffer.c.
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

/* A packet to be sent: `extra` is what its type has between header and payload, a multiple of eight bytes. */
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
    uint32_t next; /* of the ring that is read: where the next packet starts */
};

/* Takes `pages` of memory, the control page first, and empties the ring. */
void ring_initialize(struct ring *ring, void *memory, unsigned pages);
/* The bytes that a packet with so much payload takes. */
uint32_t ring_space(unsigned payload);
bool ring_has_room(const struct ring *ring, uint32_t space);
/* Writes a packet; `signal` says whether the reader may be asleep. False if there is no room. */
bool ring_write(struct ring *ring, const struct packet *packet, bool *signal);
/* Copies the next packet's header and payload; the payload's length, or -1 if there is none, or it is longer than `size`. */
int ring_read(struct ring *ring, struct packet_header *header, void *payload, unsigned size);
/* The same with all that is behind the header: what the packet's type has there, and then the payload. */
int ring_read_whole(struct ring *ring, struct packet_header *header, void *body, unsigned size);
/* Where the payload lies in that body. */
static inline unsigned packet_payload_offset(const struct packet_header *header)
{
    return header->payload_offset * 8 - sizeof *header;
}
/* Gives the writer the room of what was read; whether it waits for that. */
bool ring_release(struct ring *ring);
/* Leaves the size that the writer waits for, 0 for none; whether there is room already. */
bool ring_wait_for_room(struct ring *ring, uint32_t space);
