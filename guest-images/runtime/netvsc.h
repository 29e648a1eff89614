/*
 * A driver for network adapters on VMBus, made like Linux's drivers/net/hyperv: NVSP, RNDIS inside of it, and frames one at a
 * time; ipv4.h has what goes into the frames.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmbus.h"

/* Of each ring, control page included. */
#define NETVSC_RING_PAGES 2
/* All of the memory that a driver needs: rings, receive buffer, send buffer, and a page for control messages. */
#define NETVSC_RECEIVE_PAGES 16
#define NETVSC_SEND_PAGES 2
#define NETVSC_PAGES (2 * NETVSC_RING_PAGES + NETVSC_RECEIVE_PAGES + NETVSC_SEND_PAGES + 1)

#define NETVSC_FRAME_MAX 1518
/* Frames that wait to be received; of those that come meanwhile none is kept. */
#define NETVSC_FRAMES 4

struct mac {
    uint8_t bytes[6];
};

struct netvsc_frame {
    uint16_t length;
    uint8_t bytes[NETVSC_FRAME_MAX];
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
    uint64_t transaction, completed;
    uint32_t request;
    /* The last completion's message, and the last control message. */
    uint32_t answer[10], reply[64];
    struct netvsc_frame frames[NETVSC_FRAMES];
    unsigned frames_put, frames_taken;
};

#define NVSP_VERSION_1 2
#define NVSP_VERSION_2 0x30002
#define NVSP_VERSION(major, minor) ((major) << 16 | (minor)) /* from 4.0 on */

/* Opens the adapter's channel, with memory of NETVSC_PAGES. */
bool netvsc_open(struct netvsc *netvsc, const struct offer *offer, void *memory);
/* From NVSP's INIT to RNDIS's packet filter: the adapter then has a MAC address, and frames come and go. */
bool netvsc_negotiate(struct netvsc *netvsc);
/* Sends a frame, and waits until the host has taken it. */
bool netvsc_send(struct netvsc *netvsc, const void *frame, unsigned length);
/* The next frame's length, or -1 if none comes in time. */
int netvsc_receive(struct netvsc *netvsc, void *frame, unsigned size, uint64_t milliseconds);
/* Halts the adapter, takes the buffers back, and closes the channel. */
bool netvsc_close(struct netvsc *netvsc);
