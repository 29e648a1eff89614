/*
 * The guest's side of the integration services: channels, headers, negotiation.
 */
#pragma once

#include "runtime.h"
#include "vmbus.h"

#define IC_NEGOTIATE 0
#define IC_RESPONSE 5 /* transaction and response */
#define IC_FAIL 0x80004005U
#define IC_NO_MORE 0x80070103U

/* The size that Linux uses: 16 KiB, including the control page. */
#define IC_RING_PAGES 4
#define IC_PACKET_MAX 8192

enum service_kind { SHUTDOWN, TIME, HEARTBEAT, KVP, VSS, FILE_COPY, SERVICES };

struct service {
    const char *name; /* interface_name's */
    uint16_t type, major, minor;
};
extern const struct service services[SERVICES];

/* The start of a packet: the header of the pipe, and the header of the message. */
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
/* Receives a packet of the host. Returns false if there is none now. */
bool ic_take(struct ic *ic);
/* Waits for a packet. */
bool ic_receive(struct ic *ic);
/* Sends `length` bytes, as a packet of its own. */
bool ic_send(struct ic *ic, const void *bytes, unsigned length);
/* Sends the packet back as the reply with this status. */
bool ic_reply(struct ic *ic, uint32_t status);
/* Changes the received negotiation to the reply that chooses these versions. */
void ic_choose(struct ic *ic, uint16_t framework, uint16_t major, uint16_t minor);
/* Receives the negotiation and chooses the service's version. */
bool ic_negotiate(struct ic *ic);

/* After the headers. */
static inline uint8_t *ic_body(struct ic *ic)
{
    return ic->bytes + sizeof(struct ic_header);
}

/* The driver that follows the protocol. Returns after the request to shut down. */
bool serve(void);
/* Drivers that violate the protocol. */
extern const struct test hostile_tests[];
extern const unsigned hostile_test_count;
