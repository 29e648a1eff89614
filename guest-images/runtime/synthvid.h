/*
 * A driver for synthetic video that behaves like Linux's drivers/gpu/drm/hyperv, and checks the content of each message of the
 * host. Images that violate the protocol send their messages with the same functions.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmbus.h"

/* Size of each ring, including its control page. */
#define SYNTHVID_RING_PAGES 4
#define SYNTHVID_VERSION(major, minor) ((uint32_t)(minor) << 16 | (major))
#define SYNTHVID_NEWEST SYNTHVID_VERSION(3, 5)
#define SYNTHVID_SIZES_MAX 64
#define SYNTHVID_EDID 128

/* The start of the window for the memory of VMBus devices. Drivers find it in the `_CRS` of the VMBus device; it does not move. */
#define SYNTHVID_WINDOW 0xf8000000UL
/* The part of it that a screen may have. */
#define SYNTHVID_WINDOW_LENGTH 0x4000000UL

enum synthvid_message {
    SYNTHVID_VERSION_REQUEST = 1,
    SYNTHVID_VERSION_RESPONSE,
    SYNTHVID_VRAM_LOCATION,
    SYNTHVID_VRAM_ACK,
    SYNTHVID_SITUATION,
    SYNTHVID_SITUATION_ACK,
    SYNTHVID_POINTER_POSITION,
    SYNTHVID_POINTER_SHAPE,
    SYNTHVID_FEATURES,
    SYNTHVID_DIRT,
    SYNTHVID_BIOS_REQUEST,
    SYNTHVID_BIOS_RESPONSE,
    SYNTHVID_SIZES_REQUEST,
    SYNTHVID_SIZES_RESPONSE,
    SYNTHVID_CAPABILITY_REQUEST,
    SYNTHVID_CAPABILITY_RESPONSE,
    SYNTHVID_MESSAGES,
};

struct synthvid_size {
    uint16_t width, height;
};

struct __attribute__((packed)) synthvid_situation {
    uint64_t context;
    uint8_t outputs, active;
    uint32_t offset;
    uint8_t depth;
    uint32_t width, height, pitch;
};

struct synthvid {
    struct channel channel;
    uint32_t version;
    unsigned size_count, size_default;
    struct synthvid_size sizes[SYNTHVID_SIZES_MAX];
    /* The size that the host prefers: that of its last EDID. */
    struct synthvid_size preferred;
    /* Whether the host has said if it wants reports of what is drawn. */
    bool told;
    /* Whether it wants them. */
    bool reports;
    /* Called when that changes, unless it is NULL. */
    void (*changed)(const struct synthvid *video);
    /* The last message, from the pipe's header on. */
    unsigned length;
    union {
        uint8_t bytes[1024];
        uint32_t words[256];
    };
};

/* Opens the device's channel with rings in memory of 2 * SYNTHVID_RING_PAGES. */
bool synthvid_open(struct synthvid *video, const struct offer *offer, void *rings);
bool synthvid_close(struct synthvid *video);

/* Sends a message with a body of `length` bytes. */
bool synthvid_send(struct synthvid *video, uint32_t type, const void *body, unsigned length);
/* Sends a packet as it is. */
bool synthvid_send_packet(struct synthvid *video, const void *bytes, unsigned length);
/* Receives a message. Returns false if there is none now. */
bool synthvid_take(struct synthvid *video);
/* Waits for a message of this type with a body of `length` bytes. Messages about reports may precede it. */
bool synthvid_await(struct synthvid *video, uint32_t type, unsigned length);
/* Returns the body of the last message. */
static inline const uint8_t *synthvid_body(const struct synthvid *video)
{
    return video->bytes + 16;
}

/* Requests a version. Returns true if it is accepted. */
bool synthvid_request_version(struct synthvid *video, uint32_t version);
/* Requests the sizes that the screen can have. */
bool synthvid_request_sizes(struct synthvid *video);
/* Asks for the firmware's use of the screen, and for the host's capabilities, as Windows does. */
bool synthvid_request_capabilities(struct synthvid *video);
/* Requests the newest version, and the sizes. */
bool synthvid_negotiate(struct synthvid *video);
/* Returns an address for a picture of `length` bytes, and maps it if it is above 4 GiB. Returns 0 if there is none. */
uint64_t synthvid_memory(uint64_t length);
/* Sets the address of the screen's memory. */
bool synthvid_locate(struct synthvid *video, uint64_t address);
/* Sets size and place of the picture. */
bool synthvid_show(struct synthvid *video, const struct synthvid_situation *situation);
/* Reports what was drawn. */
bool synthvid_report(struct synthvid *video, uint32_t left, uint32_t top, uint32_t right, uint32_t bottom);
