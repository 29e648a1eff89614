/*
 * A guest's end of VMBus: contact, offers, GPADLs, channels; ring.h has the packets. It is made like Linux's drivers/hv.
 *
 * One processor asks and waits; every processor on which vmbus_listen was called takes interrupts of channels.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ring.h"

#define VMBUS_SINT 2
#define VMBUS_VERSION(major, minor) ((uint32_t)(major) << 16 | (minor))
#define VMBUS_NEWEST VMBUS_VERSION(5, 3)
#define VMBUS_CHANNELS 2048
/* How long anything may take: only a broken host takes so long. */
#define VMBUS_PATIENCE_MILLISECONDS (20000 * patience())
/* As a channel's VP: no interrupts. */
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

/* What a message of the host's says, after its header of type and padding. */
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

/* What the host offers, from OFFERCHANNEL to RELID_RELEASED. */
struct offer {
    bool present, rescinded;
    struct guid interface, instance;
    uint16_t subchannel, flags;
    bool from_host; /* of a socket: the host connects */
    uint32_t channel, connection;
};

struct channel {
    const struct offer *offer;
    struct ring out, in;
    uint32_t gpadl, vp;
    unsigned pages; /* of each ring, control page included */
    bool owes_signal;
};

/* Gives this processor a SynIC, and VMBus's interrupts. Comes after apic_initialize and hypercall_enable. */
void vmbus_listen(void);

/* Posts a message of `length` bytes, again while the host has no buffer for it; false if it refuses. */
bool vmbus_post(const void *message, unsigned length);
/* A message of a header and two words. */
bool vmbus_post_words(enum vmbus_message_type type, uint32_t first, uint32_t second);
/* A message once: an HV_STATUS. */
uint64_t vmbus_post_once(uint32_t connection, const void *message, unsigned length);
/* Takes the next message that is no offer and no rescind; false if none comes in time. */
bool vmbus_next(struct vmbus_message *message);
/* The same, if one has come. */
bool vmbus_try_next(struct vmbus_message *message);
/* Takes messages until one of this type comes; false, after a failed check, if another comes before it or none in time. */
bool vmbus_expect(enum vmbus_message_type type, struct vmbus_message *message);
/* Takes what has come, without waiting. */
void vmbus_poll(void);

/* INITIATE_CONTACT: whether the host speaks the version. */
bool vmbus_contact(uint32_t version);
/* The newest version that both speak; 0 if there is none. */
uint32_t vmbus_negotiate(void);
/* What was agreed on last. */
uint32_t vmbus_version(void);
/* Asks for the offers and waits until all have come. */
bool vmbus_request_offers(void);
/* Leaves VMBus; offers are forgotten. */
bool vmbus_unload(void);

/* The offers that are there, one by one: the first one after NULL, and NULL after the last one. */
const struct offer *vmbus_offer_after(const struct offer *previous);
/* The offer of a device's channel, if it is there; a NULL instance is any. */
const struct offer *vmbus_offer(const struct guid *interface, const struct guid *instance, uint16_t subchannel);
/* The same, waiting for it. */
const struct offer *vmbus_await_offer(const struct guid *interface, const struct guid *instance, uint16_t subchannel);
unsigned vmbus_offer_count(void);
/* Waits for the offer to be rescinded. */
bool vmbus_await_rescind(const struct offer *offer);
/* RELID_RELEASED: forgets the offer. */
void vmbus_release(const struct offer *offer);
/* The same for all that are rescinded; their number. */
unsigned vmbus_release_rescinded(void);

/* Makes a GPADL of pages that lie side by side, and tears one down; the GPADL, or 0. */
uint32_t vmbus_gpadl(uint32_t channel, const void *start, unsigned pages);
bool vmbus_gpadl_teardown(uint32_t channel, uint32_t gpadl);

/* Opens a channel with rings of `pages` each, control page included, in memory of 2 * pages. */
bool channel_open(struct channel *channel, const struct offer *offer, void *memory, unsigned pages, uint32_t vp);
/* Closes it and waits until the rings are the guest's again. */
bool channel_close(struct channel *channel);
/* MODIFYCHANNEL: interrupts go to another VP. */
bool channel_retarget(struct channel *channel, uint32_t vp);

/* Writes a packet and signals the host if it may be asleep; false if there is no room. */
bool channel_send(struct channel *channel, const struct packet *packet);
/* Writes a packet, and leaves the signal to channel_flush; to receive, when there is nothing to be received, flushes too. */
bool channel_put(struct channel *channel, const struct packet *packet);
void channel_flush(struct channel *channel);
/* Takes a packet whose payload fits into `buffer`; its payload's length, or -1 if there is none now. */
int channel_take(struct channel *channel, struct packet_header *header, void *buffer, unsigned size);
/* The same, asleep until the host signals; -1 if nothing comes in time. */
int channel_receive(struct channel *channel, struct packet_header *header, void *buffer, unsigned size);
/* The same for all that is behind the packet's header (see ring_read_whole), asleep for at most so many milliseconds. */
int channel_receive_whole(struct channel *channel, struct packet_header *header, void *body, unsigned size,
                          uint64_t milliseconds);
/* Waits until there is room to send so many bytes of payload. */
bool channel_await_room(struct channel *channel, unsigned payload);
/* Waits until the host has read all that was sent: it discards the rest when the channel is closed. */
bool channel_await_reading(struct channel *channel);
/* How often the channel interrupted that processor. */
unsigned vmbus_interrupts(unsigned cpu, uint32_t channel);
unsigned channel_interrupts(const struct channel *channel, unsigned cpu);
