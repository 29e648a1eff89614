/*
 * The guest's side of dynamic memory: the channel and its messages.
 */
#pragma once

#include "runtime.h"
#include "vmbus.h"

/* The size that Linux uses: 20 KiB, including the control page. */
#define DM_RING_PAGES 5
#define DM_MESSAGE_MAX 4096

enum dm_type {
    DM_VERSION_REQUEST = 1,
    DM_VERSION_RESPONSE,
    CAPABILITIES_REPORT,
    CAPABILITIES_RESPONSE,
    STATUS_REPORT,
    BALLOON_REQUEST,
    BALLOON_RESPONSE,
    UNBALLOON_REQUEST,
    UNBALLOON_RESPONSE,
    HOT_ADD_REQUEST,
    HOT_ADD_RESPONSE,
    INFORMATION,
};

#define VERSION_2_0 0x20000U
#define CAN_BALLOON 1
#define CAN_HOT_ADD 2
#define ALIGNMENT_128_MIB (7 << 2)

/* A range: the first page in the low 40 bits, the number of pages above. */
#define PAGES(first, count) ((uint64_t)(first) | (uint64_t)(count) << 40)

struct dm_message {
    uint16_t type, size;
    uint32_t transaction;
    union {
        uint32_t words[(DM_MESSAGE_MAX - 8) / 4];
        uint64_t quads[(DM_MESSAGE_MAX - 8) / 8];
    };
};

struct dm {
    struct channel channel;
    struct dm_message received;
    int length;
};

/* Opens the channel, and closes it. */
bool dm_open(struct dm *dm);
bool dm_close(struct dm *dm);
/* Sends a message with `length` bytes after its header. */
bool dm_send(struct dm *dm, enum dm_type type, const void *body, unsigned length);
/* Sends any bytes. */
bool dm_send_raw(struct dm *dm, const void *bytes, unsigned length);
/* Receives a message of the host. Returns false if there is none now. */
bool dm_take(struct dm *dm);
/* Waits for a message of this type. */
bool dm_expect(struct dm *dm, enum dm_type type);
/* Negotiates a version and reports capabilities; true if the host accepts both. */
bool dm_negotiate(struct dm *dm, uint32_t version, uint64_t capabilities);
/* Reports a status with this number of committed pages. */
bool dm_report(struct dm *dm, uint64_t committed);
/* Releases ranges of pages. */
bool dm_give(struct dm *dm, const uint64_t *ranges, unsigned count, bool more);

/*
 * The driver that follows the protocol. Returns after it has served this number of requests. If it listens, it also takes
 * demands from the console, and returns when a q is typed.
 */
bool serve(unsigned requests, bool listens);
/* Drivers that violate the protocol, and cold discard. */
extern const struct test hostile_tests[];
extern const unsigned hostile_test_count;
