/*
 * Packets of the storage protocol: wire types, requests and answers.
 */
#include "storvsc.h"

#include "hyperv.h"
#include "memory.h"
#include "pages.h"

enum operation {
    COMPLETE_IO = 1,
    EXECUTE_SRB = 3,
    BEGIN_INITIALIZATION = 7,
    END_INITIALIZATION,
    QUERY_PROTOCOL_VERSION,
    QUERY_PROPERTIES,
};

#define FLAG_COMPLETION 1
#define STATUS_SUCCESS 0

#define SRB_QUEUE_ACTION_ENABLE 0x002
#define SRB_DISABLE_SYNCH_TRANSFER 0x008
#define SRB_DATA_IN 0x040
#define SRB_DATA_OUT 0x080
#define SRB_NO_QUEUE_FREEZE 0x100
#define SRB_AUTOSENSE_VALID 0x80
#define SIMPLE_TAG 0x20
#define SENSE_MAX 20
#define SENSE_FIXED 0x70
#define TIMEOUT_SECONDS 60

struct packet_body {
    uint32_t operation, flags, status;
    union {
        struct {
            uint16_t length;
            uint8_t srb_status, scsi_status;
            uint8_t port, path, target, lun;
            uint8_t cdb_length, sense_length, direction, reserved;
            uint32_t data_length;
            union {
                uint8_t cdb[SCSI_CDB_MAX];
                uint8_t sense[SENSE_MAX];
            };
            /* From Windows 8 on. */
            uint16_t reserved2;
            uint8_t queue_tag, queue_action;
            uint32_t srb_flags, timeout, queue_sort_key;
        } request;
        struct {
            uint16_t version, revision;
        } version;
        struct {
            uint32_t reserved;
            uint16_t subchannels, reserved2;
            uint32_t flags, transfer_max;
        } properties;
    };
};
_Static_assert(sizeof(struct packet_body) == 64, "a packet since Windows 8");
/* Older hosts use a shorter structure. */
#define PACKET_LENGTH_WIN7 48

/* A range of guest pages, after the header of a GPA-direct packet. */
struct range {
    uint32_t reserved, count;
    uint32_t length, offset;
    uint64_t frames[STORVSC_DATA_MAX / PAGE_SIZE + 1];
};

/* Sends the body, with a range if there is one, and replaces it by its completion. */
static bool exchange(struct storvsc *storvsc, struct packet_body *body, const struct range *range, unsigned range_length)
{
    struct packet_header header;
    bool is_short = storvsc->version && storvsc->version < STORVSC_VERSION(5, 1);
    struct packet packet = {
        .type = range_length ? PACKET_GPA_DIRECT : PACKET_IN_BAND,
        .flags = PACKET_WANTS_COMPLETION,
        .transaction = ++storvsc->transaction,
        .extra = range,
        .extra_length = range_length,
        .payload = body,
        .payload_length = is_short ? PACKET_LENGTH_WIN7 : sizeof *body,
    };
    body->flags = FLAG_COMPLETION;
    if (!channel_send(&storvsc->channel, &packet))
        return false;
    /* Skip notifications that arrive before the completion. */
    do {
        if (channel_receive(&storvsc->channel, &header, body, sizeof *body) < (int)PACKET_LENGTH_WIN7)
            return false;
    } while (header.type != PACKET_COMPLETION || header.transaction != storvsc->transaction);
    return body->operation == COMPLETE_IO;
}

/* Sends a request of the negotiation. Returns true if it succeeded. */
static bool ask(struct storvsc *storvsc, const char *name, enum operation operation, struct packet_body *body)
{
    body->operation = operation;
    storvsc->asked = name;
    storvsc->status = UINT32_MAX;
    if (!exchange(storvsc, body, NULL, 0))
        return false;
    storvsc->status = body->status;
    return body->status == STATUS_SUCCESS;
}

static bool negotiate_version(struct storvsc *storvsc)
{
    static const uint16_t versions[] = {
        STORVSC_VERSION(6, 2), STORVSC_VERSION(6, 0), STORVSC_VERSION(5, 1), STORVSC_VERSION(4, 2), STORVSC_VERSION(2, 0),
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(versions); i++) {
        struct packet_body body = {.version.version = versions[i]};
        if (ask(storvsc, "QUERY_PROTOCOL_VERSION", QUERY_PROTOCOL_VERSION, &body)) {
            storvsc->version = versions[i];
            return true;
        }
        if (storvsc->status == UINT32_MAX)
            return false;
    }
    return false;
}

bool storvsc_open(struct storvsc *storvsc, const struct offer *offer, void *rings)
{
    *storvsc = (struct storvsc){0};
    return channel_open(&storvsc->channel, offer, rings, STORVSC_RING_PAGES, hyperv_vp_index());
}

bool storvsc_negotiate(struct storvsc *storvsc)
{
    struct packet_body begin = {0}, properties = {0}, end = {0};
    if (!ask(storvsc, "BEGIN_INITIALIZATION", BEGIN_INITIALIZATION, &begin) || !negotiate_version(storvsc) ||
        !ask(storvsc, "QUERY_PROPERTIES", QUERY_PROPERTIES, &properties))
        return false;
    storvsc->subchannels = properties.properties.subchannels;
    storvsc->transfer_max = properties.properties.transfer_max;
    return ask(storvsc, "END_INITIALIZATION", END_INITIALIZATION, &end);
}

/* Describes the pages of the command's data. Returns the length of the description. */
static unsigned describe(const struct scsi_command *command, struct range *range)
{
    uint64_t start = (uint64_t)command->data, first = start / PAGE_SIZE;
    uint64_t pages = command->length ? (start + command->length - 1) / PAGE_SIZE - first + 1 : 0;
    if (!pages)
        return 0;
    range->reserved = 0;
    range->count = 1;
    range->length = command->length;
    range->offset = start % PAGE_SIZE;
    for (unsigned i = 0; i < pages; i++)
        range->frames[i] = first + i;
    return sizeof *range - sizeof range->frames + pages * sizeof range->frames[0];
}

bool storvsc_execute(struct storvsc *storvsc, const struct scsi_command *command, struct scsi_result *result)
{
    static const uint32_t flags[] = {[SCSI_OUT] = SRB_DATA_OUT, [SCSI_IN] = SRB_DATA_IN, [SCSI_NONE] = 0};
    struct packet_body body = {
        .operation = EXECUTE_SRB,
        .request = {
            .length = sizeof body.request,
            .lun = command->lun,
            .cdb_length = command->cdb_length,
            .sense_length = SENSE_MAX,
            .direction = command->direction,
            .data_length = command->length,
            .queue_action = SIMPLE_TAG,
            .srb_flags = SRB_QUEUE_ACTION_ENABLE | SRB_DISABLE_SYNCH_TRANSFER | SRB_NO_QUEUE_FREEZE | flags[command->direction],
            .timeout = TIMEOUT_SECONDS,
        },
    };
    struct range range;

    *result = (struct scsi_result){0};
    if (command->length > STORVSC_DATA_MAX)
        return false;
    memcpy(body.request.cdb, command->cdb, sizeof command->cdb);
    if (!exchange(storvsc, &body, &range, describe(command, &range)))
        return false;
    result->status = body.status;
    result->srb_status = body.request.srb_status & 0x3f;
    result->scsi_status = body.request.scsi_status;
    result->moved = body.request.data_length;
    const uint8_t *sense = body.request.sense;
    if (body.request.srb_status & SRB_AUTOSENSE_VALID && (sense[0] & 0x7f) == SENSE_FIXED) {
        result->sense_key = sense[2] & 0xf;
        result->sense_code = sense[12];
        result->sense_qualifier = sense[13];
    }
    return true;
}

bool storvsc_close(struct storvsc *storvsc)
{
    return channel_close(&storvsc->channel);
}
