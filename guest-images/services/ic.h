/*
 * A guest's end of the integration services: channels, headers, negotiation.
 */
#pragma once

#include "runtime.h"
#include "vmbus.h"

#define IC_NEGOTIATE 0
#define IC_RESPONSE 5 /* transaction and response */
#define IC_FAIL 0x80004005U
#define IC_NO_MORE 0x80070103U

/* As Linux's: 16 KiB, control page included. */
#define IC_RING_PAGES 4
#define IC_PACKET_MAX 8192

enum service_kind { SHUTDOWN, TIME, HEARTBEAT, KVP, VSS, FILE_COPY, SERVICES };

struct service {
    const char *name; /* interface_name's */
    uint16_t type, major, minor;
};
extern const struct service services[SERVICES];

/* What a packet starts with: the pipe's header, and the message's. */
struct ic_header {
    uint32_t kind, length;
    uint16_t framework_major, framework_minor, type, major, minor, size;
    uint32_t status;
    uint8_t id, flags, reserved[2];
} __attribute__((packed));

struct ic {
    const struct service *service;
    struct channel channel;
    uint64_t transaction;
    unsigned length;
    union {
        struct ic_header header;
        uint8_t bytes[IC_PACKET_MAX];
    };
    bool open;
};

/* Opens the service's channel. */
bool ic_open(struct ic *ic, enum service_kind kind);
bool ic_close(struct ic *ic);
/* Takes a packet of the host; false if there is none now. */
bool ic_take(struct ic *ic);
/* Waits for a packet. */
bool ic_receive(struct ic *ic);
/* Sends `length` bytes, as a packet of its own. */
bool ic_send(struct ic *ic, const void *bytes, unsigned length);
/* Sends the packet back as the reply with this status. */
bool ic_reply(struct ic *ic, uint32_t status);
/* Turns the packet, a negotiation, into the reply that chooses these versions. */
void ic_choose(struct ic *ic, uint16_t framework, uint16_t major, uint16_t minor);
/* Receives the negotiation and chooses the service's version. */
bool ic_negotiate(struct ic *ic);

/* Behind the headers. */
static inline uint8_t *ic_body(struct ic *ic)
{
    return ic->bytes + sizeof(struct ic_header);
}

/* The good driver; returns once the machine was asked to shut down. */
bool serve(void);
/* Drivers that break the protocol. */
extern const struct test hostile_tests[];
extern const unsigned hostile_test_count;
