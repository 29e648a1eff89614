/*
 * A driver for network adapters on VMBus, made like Linux's drivers/net/hyperv: NVSP, RNDIS inside of it, and frames; ipv4.h has
 * what goes into those.
 *
 * Frames that have come stay where the host has put them until their turn is over. The host has no more sections to put some
 * in than the driver can note, so none is lost here: what the host has no room for, the host counts.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmbus.h"

/* Of each ring, control page included. */
#define NETVSC_RING_PAGES 2
/* All of the memory that a driver needs: rings, receive buffer, send buffer, and a page for control messages. */
#define NETVSC_RECEIVE_PAGES 16
#define NETVSC_SEND_PAGES 24
#define NETVSC_PAGES (2 * NETVSC_RING_PAGES + NETVSC_RECEIVE_PAGES + NETVSC_SEND_PAGES + 1)

#define NETVSC_FRAME_MAX 1518
/* Sections of the receive buffer that the driver can keep track of. */
#define NETVSC_FRAMES 64
/* Frames that can be on their way to the host at once. */
#define NETVSC_SENDS_MAX 32

struct mac {
    uint8_t bytes[6];
};

/* A frame that has come. Behind the last one of its packet, the host gets the packet's sections back. */
struct netvsc_frame {
    uint32_t offset; /* in the receive buffer */
    uint16_t length;
    bool is_last;
    uint64_t transaction;
};

struct netvsc {
    struct channel channel;
    uint32_t version; /* as NVSP_VERSION has it, once it is negotiated */
    struct mac mac;
    bool link_is_up;
    uint32_t sections; /* of the receive buffer */
    /* The last question, and the status that answered it: for those who report that it failed. */
    const char *asked;
    uint32_t status;

    uint8_t *receive_buffer, *send_buffer;
    uint32_t *control;
    uint32_t receive_gpadl, send_gpadl, send_section;
    uint32_t sends_free; /* a bit for each section of the send buffer */
    unsigned refused;    /* frames that the host has completed with another status than success */
    uint64_t transaction, completed;
    uint32_t request;
    /* The last completion's message, and the last control message. */
    uint32_t answer[10], reply[64];
    struct netvsc_frame frames[NETVSC_FRAMES];
    unsigned frames_put, frames_taken;
    bool has_turn; /* the frame before the next one to be taken */
};

#define NVSP_VERSION_1 2
#define NVSP_VERSION_2 0x30002
#define NVSP_VERSION(major, minor) ((major) << 16 | (minor)) /* from 4.0 on */

/* Opens the adapter's channel, with memory of NETVSC_PAGES. */
bool netvsc_open(struct netvsc *netvsc, const struct offer *offer, void *memory);
/* From NVSP's INIT to RNDIS's packet filter: the adapter then has a MAC address, and frames come and go. */
bool netvsc_negotiate(struct netvsc *netvsc);
/* Sends a frame as soon as there is room for it; false if there is none for too long. */
bool netvsc_send(struct netvsc *netvsc, const void *frame, unsigned length);
/* The next frame and its length, valid until the next call; NULL if none comes in time. */
const uint8_t *netvsc_receive(struct netvsc *netvsc, unsigned *length, uint64_t milliseconds);
/* Halts the adapter, takes the buffers back, and closes the channel. */
bool netvsc_close(struct netvsc *netvsc);
