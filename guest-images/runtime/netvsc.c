/*
 * Messages of NVSP and RNDIS. `pump` processes every received packet, whatever the caller waits for.
 */
#include "netvsc.h"

#include "hyperv.h"
#include "memory.h"
#include "pages.h"
#include "time.h"

enum nvsp_message_type {
    NVSP_INIT = 1,
    NVSP_INIT_COMPLETE,
    NVSP_SEND_NDIS_VERSION = 100,
    NVSP_SEND_RECEIVE_BUFFER,
    NVSP_SEND_RECEIVE_BUFFER_COMPLETE,
    NVSP_REVOKE_RECEIVE_BUFFER,
    NVSP_SEND_SEND_BUFFER,
    NVSP_SEND_SEND_BUFFER_COMPLETE,
    NVSP_REVOKE_SEND_BUFFER,
    NVSP_SEND_RNDIS_PACKET,
    NVSP_SEND_RNDIS_PACKET_COMPLETE,
    NVSP_SEND_NDIS_CONFIG = 125,
};
#define NVSP_SUCCESS 1
#define NVSP_WORDS 10
#define NVSP_DATA 0
#define NVSP_CONTROL 1
#define NVSP_NO_SECTION UINT32_MAX
#define RECEIVE_BUFFER_ID 0xcafe
#define SEND_BUFFER_ID 0
/* The transaction id of a frame in the first section of the send buffer. Messages have lower ids. */
#define FRAME_TRANSACTION (1ULL << 32)
#define RECEIVE_BYTES (NETVSC_RECEIVE_PAGES * PAGE_SIZE)

enum rndis_message_type {
    RNDIS_PACKET = 1,
    RNDIS_INITIALIZE,
    RNDIS_HALT,
    RNDIS_QUERY,
    RNDIS_SET,
    RNDIS_COMPLETE = 0x80000000,
};
#define RNDIS_SUCCESS 0
#define RNDIS_TRANSFER_MAX 0x4000
/* Number of words of a message, including its header of type and length. */
#define RNDIS_PACKET_WORDS 11
#define RNDIS_REQUEST_WORDS 7
/* Offsets in a message count from the end of its header of two words. */
#define RNDIS_HEADER 8

#define OID_MAC_ADDRESS 0x01010102
#define OID_MEDIA_CONNECT_STATUS 0x00010114
#define OID_PACKET_FILTER 0x0001010e
#define FILTER_DIRECTED 0x01
#define FILTER_BROADCAST 0x08
#define MEDIA_CONNECTED 0

#define MTU 1500
#define ETHERNET_HEADER 14
#define NDIS_6_30 30

/* The part of a transfer-pages packet after its header. */
struct transfer {
    uint16_t page_set;
    uint8_t sender_owns_set, reserved;
    uint32_t count;
    struct {
        uint32_t length, offset;
    } ranges[];
};

/* The buffer for packets. The host's ring of 16 pages limits their length. */
static uint8_t body[PAGE_SIZE] __attribute__((aligned(8)));

static bool pump(struct netvsc *netvsc, uint64_t milliseconds);

/*
 * Sends a packet. The host is signalled only when there is nothing left to receive, so that one signal is enough for several
 * packets. While there is no room for it, processes received packets, because the host may wait for that.
 */
static bool put(struct netvsc *netvsc, const struct packet *packet)
{
    while (!channel_put(&netvsc->channel, packet))
        if (!pump(netvsc, VMBUS_PATIENCE_MILLISECONDS))
            return false;
    return true;
}

/* Returns the sections of a transfer to the host. */
static bool give_back(struct netvsc *netvsc, uint64_t transaction)
{
    static const uint32_t taken[] = {NVSP_SEND_RNDIS_PACKET_COMPLETE, NVSP_SUCCESS};
    const struct packet packet = {
        .type = PACKET_COMPLETION,
        .transaction = transaction,
        .payload = taken,
        .payload_length = sizeof taken,
    };
    return put(netvsc, &packet);
}

/* Records the frame of a message. Returns false if the message is invalid. */
static bool note_frame(struct netvsc *netvsc, const uint32_t *message, uint32_t length, uint64_t transaction)
{
    uint32_t start = RNDIS_HEADER + message[2], frame_length = message[3];
    if (netvsc->frames_put - netvsc->frames_taken == NETVSC_FRAMES || frame_length > NETVSC_FRAME_MAX || start > length ||
        frame_length > length - start)
        return false;
    netvsc->frames[netvsc->frames_put++ % NETVSC_FRAMES] = (struct netvsc_frame){
        .offset = (const uint8_t *)message - netvsc->receive_buffer + start,
        .length = frame_length,
        .transaction = transaction,
    };
    return true;
}

/* Records the frames in the receive buffer. A transfer without frames is completed at once. */
static bool take_transfer(struct netvsc *netvsc, const struct transfer *transfer, uint64_t transaction)
{
    unsigned before = netvsc->frames_put;
    for (unsigned i = 0; i < transfer->count; i++) {
        uint32_t offset = transfer->ranges[i].offset, length = transfer->ranges[i].length;
        const uint32_t *message = (const uint32_t *)(netvsc->receive_buffer + offset);
        if (transfer->page_set != RECEIVE_BUFFER_ID || offset > RECEIVE_BYTES || length > RECEIVE_BYTES - offset)
            return false;
        if (message[0] != RNDIS_PACKET || length < RNDIS_PACKET_WORDS * 4)
            memcpy(netvsc->reply, message, length < sizeof netvsc->reply ? length : sizeof netvsc->reply);
        else if (!note_frame(netvsc, message, length, transaction))
            return false;
    }
    if (netvsc->frames_put == before)
        return give_back(netvsc, transaction);
    netvsc->frames[(netvsc->frames_put - 1) % NETVSC_FRAMES].is_last = true;
    return true;
}

/* Processes the completion of a message or of a sent frame. */
static void take_completion(struct netvsc *netvsc, const uint8_t *payload, unsigned length, uint64_t transaction)
{
    uint32_t status;
    if (transaction < FRAME_TRANSACTION) {
        memcpy(netvsc->answer, payload, length < sizeof netvsc->answer ? length : sizeof netvsc->answer);
        netvsc->completed = transaction;
        return;
    }
    memcpy(&status, payload + sizeof status, sizeof status);
    netvsc->refused += length < 2 * sizeof status || status != NVSP_SUCCESS;
    netvsc->sends_free |= 1u << (transaction - FRAME_TRANSACTION) % 32;
}

/* Receives and processes one packet. Returns false at the time limit. */
static bool pump(struct netvsc *netvsc, uint64_t milliseconds)
{
    struct packet_header header;
    int length = channel_receive_whole(&netvsc->channel, &header, body, sizeof body, milliseconds);
    if (length < 0)
        return false;
    if (header.type == PACKET_TRANSFER_PAGES)
        return take_transfer(netvsc, (const struct transfer *)body, header.transaction);
    if (header.type == PACKET_COMPLETION) {
        unsigned offset = packet_payload_offset(&header);
        take_completion(netvsc, body + offset, length - offset, header.transaction);
    }
    return true;
}

/* Sends an NVSP message, and waits for its completion. */
static bool exchange(struct netvsc *netvsc, const uint32_t message[NVSP_WORDS], const void *range, unsigned range_length)
{
    struct packet packet = {
        .type = range_length ? PACKET_GPA_DIRECT : PACKET_IN_BAND,
        .flags = PACKET_WANTS_COMPLETION,
        .transaction = ++netvsc->transaction,
        .extra = range,
        .extra_length = range_length,
        .payload = message,
        .payload_length = NVSP_WORDS * 4,
    };
    memset(netvsc->answer, 0, sizeof netvsc->answer);
    if (!put(netvsc, &packet))
        return false;
    while (netvsc->completed != packet.transaction)
        if (!pump(netvsc, VMBUS_PATIENCE_MILLISECONDS))
            return false;
    return true;
}

/* Stores the status of the answer, and returns true if it is success. */
static bool judge(struct netvsc *netvsc, const char *asked, bool answered, const uint32_t *status, uint32_t success)
{
    netvsc->asked = asked;
    netvsc->status = answered ? *status : UINT32_MAX;
    return answered && *status == success;
}

static bool negotiate_version(struct netvsc *netvsc)
{
    static const uint32_t versions[] = {
        NVSP_VERSION(6, 1), NVSP_VERSION(6, 0), NVSP_VERSION(5, 0), NVSP_VERSION(4, 0), NVSP_VERSION_2, NVSP_VERSION_1,
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(versions); i++) {
        uint32_t message[NVSP_WORDS] = {NVSP_INIT, versions[i], versions[i]};
        bool answered = exchange(netvsc, message, NULL, 0);
        if (judge(netvsc, "INIT", answered, &netvsc->answer[3], NVSP_SUCCESS)) {
            netvsc->version = versions[i];
            return true;
        }
        if (!answered)
            return false;
    }
    return false;
}

/* The NDIS configuration. The host answers with an empty completion. */
static bool configure(struct netvsc *netvsc)
{
    uint32_t config[NVSP_WORDS] = {NVSP_SEND_NDIS_CONFIG, MTU + ETHERNET_HEADER};
    uint32_t version[NVSP_WORDS] = {NVSP_SEND_NDIS_VERSION, 6, NDIS_6_30};
    return (netvsc->version < NVSP_VERSION_2 || exchange(netvsc, config, NULL, 0)) && exchange(netvsc, version, NULL, 0);
}

static void divide_send_buffer(struct netvsc *netvsc, uint32_t section)
{
    unsigned count = section ? NETVSC_SEND_PAGES * PAGE_SIZE / section : 0;
    netvsc->send_section = section;
    netvsc->sends_free = count < NETVSC_SENDS_MAX ? (1u << count) - 1 : UINT32_MAX;
}

static bool give_buffers(struct netvsc *netvsc)
{
    uint32_t channel = netvsc->channel.offer->channel;
    netvsc->receive_gpadl = vmbus_gpadl(channel, netvsc->receive_buffer, NETVSC_RECEIVE_PAGES);
    netvsc->send_gpadl = vmbus_gpadl(channel, netvsc->send_buffer, NETVSC_SEND_PAGES);
    uint32_t receive[NVSP_WORDS] = {NVSP_SEND_RECEIVE_BUFFER, netvsc->receive_gpadl, RECEIVE_BUFFER_ID};
    uint32_t send[NVSP_WORDS] = {NVSP_SEND_SEND_BUFFER, netvsc->send_gpadl, SEND_BUFFER_ID};
    if (!netvsc->receive_gpadl || !netvsc->send_gpadl)
        return judge(netvsc, "the GPADLs of the buffers", false, NULL, 0);
    bool answered = exchange(netvsc, receive, NULL, 0);
    if (!judge(netvsc, "SEND_RECEIVE_BUFFER", answered, &netvsc->answer[1], NVSP_SUCCESS))
        return false;
    netvsc->sections = netvsc->answer[5];
    if (netvsc->sections > NETVSC_FRAMES)
        return judge(netvsc, "the number of sections", false, NULL, 0);
    answered = exchange(netvsc, send, NULL, 0);
    if (!judge(netvsc, "SEND_SEND_BUFFER", answered, &netvsc->answer[1], NVSP_SUCCESS))
        return false;
    divide_send_buffer(netvsc, netvsc->answer[2]);
    return true;
}

/* Sends the control message in its page, and waits for its reply, if it has one. */
static bool control(struct netvsc *netvsc, const char *name, bool has_reply)
{
    uint32_t message[NVSP_WORDS] = {NVSP_SEND_RNDIS_PACKET, NVSP_CONTROL, NVSP_NO_SECTION, 0};
    struct {
        uint32_t reserved, count, length, offset;
        uint64_t frame;
    } range = {.count = 1, .length = netvsc->control[1], .frame = (uint64_t)netvsc->control / PAGE_SIZE};
    uint32_t type = netvsc->control[0] | RNDIS_COMPLETE;

    netvsc->control[2] = ++netvsc->request;
    netvsc->reply[0] = 0;
    bool answered = exchange(netvsc, message, &range, sizeof range);
    if (!has_reply)
        return judge(netvsc, name, answered, &netvsc->answer[1], NVSP_SUCCESS);
    while (answered && (netvsc->reply[0] != type || netvsc->reply[2] != netvsc->request))
        answered = pump(netvsc, VMBUS_PATIENCE_MILLISECONDS);
    return judge(netvsc, name, answered, &netvsc->reply[3], RNDIS_SUCCESS);
}

static bool initialize(struct netvsc *netvsc)
{
    const uint32_t message[6] = {RNDIS_INITIALIZE, sizeof message, 0, 1, 0, RNDIS_TRANSFER_MAX};
    memcpy(netvsc->control, message, sizeof message);
    return control(netvsc, "RNDIS INITIALIZE", true);
}

static bool query(struct netvsc *netvsc, const char *name, uint32_t oid, void *value, unsigned length)
{
    const uint32_t message[RNDIS_REQUEST_WORDS] = {RNDIS_QUERY, sizeof message, 0, oid, 0, sizeof message - RNDIS_HEADER};
    memcpy(netvsc->control, message, sizeof message);
    if (!control(netvsc, name, true))
        return false;
    uint32_t given = netvsc->reply[4], offset = RNDIS_HEADER + netvsc->reply[5];
    if (given < length || offset > sizeof netvsc->reply - length)
        return judge(netvsc, name, false, NULL, 0);
    memcpy(value, (const uint8_t *)netvsc->reply + offset, length);
    return true;
}

static bool set_filter(struct netvsc *netvsc, uint32_t filter)
{
    const uint32_t message[RNDIS_REQUEST_WORDS + 1] = {
        RNDIS_SET, sizeof message, 0, OID_PACKET_FILTER, sizeof filter, RNDIS_REQUEST_WORDS * 4 - RNDIS_HEADER, 0, filter,
    };
    memcpy(netvsc->control, message, sizeof message);
    return control(netvsc, "SET of the packet filter", true);
}

/* HALT has no reply. */
static bool halt(struct netvsc *netvsc)
{
    const uint32_t message[3] = {RNDIS_HALT, sizeof message, 0};
    memcpy(netvsc->control, message, sizeof message);
    return control(netvsc, "RNDIS HALT", false);
}

bool netvsc_open(struct netvsc *netvsc, const struct offer *offer, void *memory)
{
    uint8_t *pages = memory;
    memset(netvsc, 0, sizeof *netvsc);
    netvsc->receive_buffer = pages + 2 * NETVSC_RING_PAGES * PAGE_SIZE;
    netvsc->send_buffer = netvsc->receive_buffer + RECEIVE_BYTES;
    netvsc->control = (uint32_t *)(netvsc->send_buffer + NETVSC_SEND_PAGES * PAGE_SIZE);
    return channel_open(&netvsc->channel, offer, memory, NETVSC_RING_PAGES, hyperv_vp_index());
}

bool netvsc_negotiate(struct netvsc *netvsc)
{
    uint32_t media;
    if (!negotiate_version(netvsc) || !configure(netvsc) || !give_buffers(netvsc) || !initialize(netvsc) ||
        !query(netvsc, "QUERY of the MAC address", OID_MAC_ADDRESS, &netvsc->mac, sizeof netvsc->mac) ||
        !query(netvsc, "QUERY of the link", OID_MEDIA_CONNECT_STATUS, &media, sizeof media))
        return false;
    netvsc->link_is_up = media == MEDIA_CONNECTED;
    return set_filter(netvsc, FILTER_DIRECTED | FILTER_BROADCAST);
}

bool netvsc_send(struct netvsc *netvsc, const void *frame, unsigned length)
{
    const uint32_t header[RNDIS_PACKET_WORDS] = {
        RNDIS_PACKET, sizeof header + length, sizeof header - RNDIS_HEADER, length,
    };
    if (sizeof header + length > netvsc->send_section)
        return false;
    while (!netvsc->sends_free)
        if (!pump(netvsc, VMBUS_PATIENCE_MILLISECONDS))
            return false;
    unsigned section = __builtin_ctz(netvsc->sends_free);
    uint8_t *place = netvsc->send_buffer + section * netvsc->send_section;
    const uint32_t message[NVSP_WORDS] = {NVSP_SEND_RNDIS_PACKET, NVSP_DATA, section, sizeof header + length};
    const struct packet packet = {
        .type = PACKET_IN_BAND,
        .flags = PACKET_WANTS_COMPLETION,
        .transaction = FRAME_TRANSACTION + section,
        .payload = message,
        .payload_length = sizeof message,
    };
    memcpy(place, header, sizeof header);
    memcpy(place + sizeof header, frame, length);
    netvsc->sends_free &= ~(1u << section);
    return put(netvsc, &packet);
}

/* Releases the frame that was received last. */
static bool end_turn(struct netvsc *netvsc)
{
    const struct netvsc_frame *last = &netvsc->frames[(netvsc->frames_taken - 1) % NETVSC_FRAMES];
    bool has_turn = netvsc->has_turn;
    netvsc->has_turn = false;
    return !has_turn || !last->is_last || give_back(netvsc, last->transaction);
}

const uint8_t *netvsc_receive(struct netvsc *netvsc, unsigned *length, uint64_t milliseconds)
{
    if (!end_turn(netvsc))
        return NULL;
    uint64_t deadline = deadline_after(milliseconds);
    while (netvsc->frames_put == netvsc->frames_taken)
        if (rdtsc() > deadline || !pump(netvsc, milliseconds))
            return NULL;
    const struct netvsc_frame *next = &netvsc->frames[netvsc->frames_taken++ % NETVSC_FRAMES];
    netvsc->has_turn = true;
    *length = next->length;
    return netvsc->receive_buffer + next->offset;
}

bool netvsc_close(struct netvsc *netvsc)
{
    uint32_t revoke_receive[NVSP_WORDS] = {NVSP_REVOKE_RECEIVE_BUFFER, RECEIVE_BUFFER_ID};
    uint32_t revoke_send[NVSP_WORDS] = {NVSP_REVOKE_SEND_BUFFER, SEND_BUFFER_ID};
    uint32_t channel = netvsc->channel.offer->channel;
    return set_filter(netvsc, 0) && halt(netvsc) && exchange(netvsc, revoke_receive, NULL, 0) &&
           exchange(netvsc, revoke_send, NULL, 0) && vmbus_gpadl_teardown(channel, netvsc->receive_gpadl) &&
           vmbus_gpadl_teardown(channel, netvsc->send_gpadl) && channel_close(&netvsc->channel);
}
