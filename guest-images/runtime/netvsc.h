/*
 * A driver for network adapters on VMBus that behaves like Linux's drivers/net/hyperv: NVSP, RNDIS inside of it, and frames.
 * See ipv4.h for the content of frames.
 *
 * Received frames stay in the receive buffer until they are released. The driver can record as many frames as the buffer has
 * sections, so it loses none. The host counts the frames for which there was no section.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmbus.h"

/* Size of each ring, including its control page. */
#define NETVSC_RING_PAGES 2
/* The memory that a driver needs: rings, receive buffer, send buffer, and a page for control messages. */
#define NETVSC_RECEIVE_PAGES 16
#define NETVSC_SEND_PAGES 24
#define NETVSC_PAGES (2 * NETVSC_RING_PAGES + NETVSC_RECEIVE_PAGES + NETVSC_SEND_PAGES + 1)

#define NETVSC_FRAME_MAX 1518
/* Maximum number of sections of the receive buffer. */
#define NETVSC_FRAMES 64
/* Maximum number of frames in flight to the host. */
#define NETVSC_SENDS_MAX 32

struct mac {
    uint8_t bytes[6];
};

/* A received frame. Releasing the last frame of a packet returns the packet's sections to the host. */
struct netvsc_frame {
    uint32_t offset; /* in the receive buffer */
    uint16_t length;
    bool is_last;
    uint64_t transaction;
};

struct netvsc {
    struct channel channel;
    uint32_t version; /* the negotiated version, as NVSP_VERSION */
    struct mac mac;
    bool link_is_up;
    uint32_t sections; /* of the receive buffer */
    /* The last request and its status, for error messages. */
    const char *asked;
    uint32_t status;

    uint8_t *receive_buffer, *send_buffer;
    uint32_t *control;
    uint32_t receive_gpadl, send_gpadl, send_section;
    uint32_t sends_free; /* a bit for each section of the send buffer */
    unsigned refused;    /* number of frames that the host completed with an error */
    uint64_t transaction, completed;
    uint32_t request;
    /* The last completion's message, and the last control message. */
    uint32_t answer[10], reply[64];
    struct netvsc_frame frames[NETVSC_FRAMES];
    unsigned frames_put, frames_taken;
    bool has_turn; /* a received frame must be released before the next one */
};

#define NVSP_VERSION_1 2
#define NVSP_VERSION_2 0x30002
#define NVSP_VERSION(major, minor) ((major) << 16 | (minor)) /* from 4.0 on */

/* Opens the adapter's channel. `memory` has NETVSC_PAGES pages. */
bool netvsc_open(struct netvsc *netvsc, const struct offer *offer, void *memory);
/* Sets up the adapter, from NVSP's INIT to RNDIS's packet filter. Then its MAC address is known, and frames are transferred. */
bool netvsc_negotiate(struct netvsc *netvsc);
/* Sends a frame as soon as there is room for it. Returns false at the time limit. */
bool netvsc_send(struct netvsc *netvsc, const void *frame, unsigned length);
/* Returns the next frame, valid until the next call, and its length; or NULL at the time limit. */
const uint8_t *netvsc_receive(struct netvsc *netvsc, unsigned *length, uint64_t milliseconds);
/* Halts the adapter, revokes the buffers, and closes the channel. */
bool netvsc_close(struct netvsc *netvsc);
