/*
 * The guest's side of VMBus: contact, offers, GPADLs, channels. ring.h has the packets. It behaves like Linux's drivers/hv.
 *
 * Only one processor sends requests and waits. Every processor that called vmbus_listen handles interrupts of channels.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ring.h"

#define VMBUS_SINT 2
#define VMBUS_VERSION(major, minor) ((uint32_t)(major) << 16 | (minor))
#define VMBUS_NEWEST VMBUS_VERSION(5, 3)
#define VMBUS_CHANNELS 2048
/* Time limit of every wait. Only a broken host takes this long. */
#define VMBUS_PATIENCE_MILLISECONDS (20000 * patience())
/* The target VP of a channel without interrupts. */
#define VMBUS_NO_VP 0xffffffffU

#define CONNECTION_MESSAGES 1
#define CONNECTION_MESSAGES_5 4

enum vmbus_message_type {
    OFFERCHANNEL = 1,
    RESCIND_CHANNELOFFER,
    REQUESTOFFERS,
    ALLOFFERS_DELIVERED,
    OPENCHANNEL,
    OPENCHANNEL_RESULT,
    CLOSECHANNEL,
    GPADL_HEADER,
    GPADL_BODY,
    GPADL_CREATED,
    GPADL_TEARDOWN,
    GPADL_TORNDOWN,
    RELID_RELEASED,
    INITIATE_CONTACT,
    VERSION_RESPONSE,
    UNLOAD,
    UNLOAD_RESPONSE,
    TL_CONNECT_REQUEST = 21,
    MODIFYCHANNEL,
    TL_CONNECT_RESULT,
    MODIFYCHANNEL_RESPONSE,
};

struct guid {
    uint8_t bytes[16];
};

/* The content of a message of the host, after its header of type and padding. */
struct vmbus_message {
    uint32_t type, reserved;
    union {
        uint8_t bytes[232];
        uint32_t words[58];
        struct {
            struct guid interface, instance;
            uint32_t reserved[4];
            uint16_t flags, mmio_megabytes;
            uint8_t user_defined[120];
            uint16_t subchannel, mmio_megabytes_optional;
            uint32_t channel;
            uint8_t monitor, monitor_allocated;
            uint16_t dedicated;
            uint32_t connection;
        } offer;
        struct {
            uint8_t supported, state;
            uint16_t reserved;
            uint32_t connection;
        } version;
        struct {
            uint32_t channel, open, status;
        } opened;
        struct {
            uint32_t channel, gpadl, status;
        } created;
        struct {
            uint32_t gpadl;
        } torndown;
        struct {
            uint32_t channel, status;
        } modified;
        struct {
            uint32_t channel;
        } rescinded;
    };
};
_Static_assert(sizeof(struct vmbus_message) == 240, "a SynIC message's payload");

/* An offer of the host. It exists from OFFERCHANNEL to RELID_RELEASED. */
struct offer {
    bool present, rescinded;
    struct guid interface, instance;
    uint16_t subchannel, flags;
    bool from_host; /* for a socket: the host has connected */
    uint32_t channel, connection;
};

struct channel {
    const struct offer *offer;
    struct ring out, in;
    uint32_t gpadl, vp;
    unsigned pages; /* size of each ring, including its control page */
    bool owes_signal;
};

/* Enables this processor's SynIC and interrupts of VMBus. Must be called after apic_initialize and hypercall_enable. */
void vmbus_listen(void);

/* Posts a message of `length` bytes, and retries while the host has no buffer for it. Returns false if the host refuses it. */
bool vmbus_post(const void *message, unsigned length);
/* Posts a message of a header and two words. */
bool vmbus_post_words(enum vmbus_message_type type, uint32_t first, uint32_t second);
/* Posts a message without retrying. Returns the HV_STATUS. */
uint64_t vmbus_post_once(uint32_t connection, const void *message, unsigned length);
/* Receives the next message other than offers and rescinds. Returns false at the time limit. */
bool vmbus_next(struct vmbus_message *message);
/* The same, but does not wait. */
bool vmbus_try_next(struct vmbus_message *message);
/* Receives a message of this type. Another message, or none in time, is a failed check, and returns false. */
bool vmbus_expect(enum vmbus_message_type type, struct vmbus_message *message);
/* Processes received messages, without waiting. */
void vmbus_poll(void);

/* Sends INITIATE_CONTACT. Returns true if the host supports the version. */
bool vmbus_contact(uint32_t version);
/* Negotiates and returns the newest common version, or 0 if there is none. */
uint32_t vmbus_negotiate(void);
/* Returns the version that was negotiated last. */
uint32_t vmbus_version(void);
/* Requests the offers and waits until all have arrived. */
bool vmbus_request_offers(void);
/* Unloads VMBus and discards all offers. */
bool vmbus_unload(void);

/* Iterates over the offers: returns the first one after NULL, and NULL after the last one. */
const struct offer *vmbus_offer_after(const struct offer *previous);
/* Returns the offer of a device's channel, or NULL. An instance of NULL matches any. */
const struct offer *vmbus_offer(const struct guid *interface, const struct guid *instance, uint16_t subchannel);
/* The same, but waits for the offer. */
const struct offer *vmbus_await_offer(const struct guid *interface, const struct guid *instance, uint16_t subchannel);
unsigned vmbus_offer_count(void);
/* Waits for the offer to be rescinded. */
bool vmbus_await_rescind(const struct offer *offer);
/* Sends RELID_RELEASED and discards the offer. */
void vmbus_release(const struct offer *offer);
/* The same for all rescinded offers. Returns their number. */
unsigned vmbus_release_rescinded(void);

/* Creates a GPADL of contiguous pages and returns it, or 0 on an error; and tears one down. */
uint32_t vmbus_gpadl(uint32_t channel, const void *start, unsigned pages);
bool vmbus_gpadl_teardown(uint32_t channel, uint32_t gpadl);

/* Opens a channel with rings of `pages` pages each, including the control page. `memory` has 2 * pages pages. */
bool channel_open(struct channel *channel, const struct offer *offer, void *memory, unsigned pages, uint32_t vp);
/* Closes it and waits until the host has released the rings. */
bool channel_close(struct channel *channel);
/* Sends MODIFYCHANNEL, which directs interrupts to another VP. */
bool channel_retarget(struct channel *channel, uint32_t vp);

/* Writes a packet, and signals the host if it may be asleep. Returns false if there is no room. */
bool channel_send(struct channel *channel, const struct packet *packet);
/* Writes a packet, and leaves the signal to channel_flush. Receiving also flushes, before it waits. */
bool channel_put(struct channel *channel, const struct packet *packet);
void channel_flush(struct channel *channel);
/* Receives a packet whose payload fits into `buffer`. Returns the payload's length, or -1 if there is none now. */
int channel_take(struct channel *channel, struct packet_header *header, void *buffer, unsigned size);
/* The same, but sleeps until the host signals. Returns -1 at the time limit. */
int channel_receive(struct channel *channel, struct packet_header *header, void *buffer, unsigned size);
/* The same for everything after the packet's header (see ring_read_whole), with a time limit in milliseconds. */
int channel_receive_whole(struct channel *channel, struct packet_header *header, void *body, unsigned size,
                          uint64_t milliseconds);
/* Waits until there is room to send this number of bytes of payload. */
bool channel_await_room(struct channel *channel, unsigned payload);
/* Waits until the host has read all packets. It would discard the rest when the channel is closed. */
bool channel_await_reading(struct channel *channel);
/* Returns the number of the channel's interrupts on that processor. */
unsigned vmbus_interrupts(unsigned cpu, uint32_t channel);
unsigned channel_interrupts(const struct channel *channel, unsigned cpu);
