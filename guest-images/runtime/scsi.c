/*
 * Builds command descriptor blocks, and reads the answers of units.
 */
#include "scsi.h"

#include "memory.h"

#define INQUIRY 0x12
#define READ_CAPACITY_10 0x25
#define READ_10 0x28
#define WRITE_10 0x2a
#define SYNCHRONIZE_CACHE_10 0x35
#define SERVICE_ACTION_IN_16 0x9e
#define READ_CAPACITY_16 0x10
#define REPORT_LUNS 0xa0

#define INQUIRY_LENGTH 96
#define INQUIRY_SCRATCH 36 /* offset of the vendor-specific bytes */
/* Maximum number of unit attentions that are retried. A unit reports each condition once, so there are fewer. */
#define UNIT_ATTENTIONS_MAX 8
/* The last block in READ CAPACITY (10) if there are more blocks than it can report. */
#define LAST_BLOCK_BEYOND UINT32_MAX

/* The buffer for answers. The host writes only to its pages. */
static union {
    uint8_t bytes[8 + 8 * SCSI_LUNS_MAX];
    uint32_t words[2];
    uint64_t quads[1];
} answer __attribute__((aligned(1024)));

static bool execute(struct scsi_unit *unit, const struct scsi_command *command)
{
    for (unsigned attempt = 0; attempt < UNIT_ATTENTIONS_MAX; attempt++) {
        unit->is_answered = storvsc_execute(unit->controller, command, &unit->result);
        if (!unit->is_answered || unit->result.sense_key != SENSE_UNIT_ATTENTION)
            break;
    }
    return unit->is_answered && !unit->result.status && unit->result.scsi_status == SCSI_STATUS_GOOD;
}

/* Executes a command whose answer must have at least `least` bytes. */
static bool ask(struct scsi_unit *unit, uint8_t length, const uint8_t *cdb, uint32_t room, uint32_t least)
{
    struct scsi_command command = {
        .lun = unit->lun,
        .direction = SCSI_IN,
        .cdb_length = length,
        .data = answer.bytes,
        .length = room,
    };
    memcpy(command.cdb, cdb, length);
    memset(answer.bytes, 0, room);
    /* An answer that is shorter than the buffer has an NTSTATUS of its own, which is not an error here. */
    execute(unit, &command);
    return unit->is_answered && unit->result.scsi_status == SCSI_STATUS_GOOD && unit->result.moved >= least;
}

int scsi_report_luns(struct storvsc *controller, uint8_t luns[SCSI_LUNS_MAX])
{
    static const uint8_t cdb[12] = {REPORT_LUNS, [8] = sizeof answer.bytes >> 8, [9] = sizeof answer.bytes & 0xff};
    struct scsi_unit none = {.controller = controller};
    if (!ask(&none, sizeof cdb, cdb, sizeof answer.bytes, 8))
        return -1;
    uint32_t count = __builtin_bswap32(answer.words[0]) / 8;
    for (unsigned i = 0; i < count && i < SCSI_LUNS_MAX; i++)
        luns[i] = answer.bytes[8 + 8 * i + 1];
    return count < SCSI_LUNS_MAX ? count : SCSI_LUNS_MAX;
}

/* Copies a text of the answer without its trailing spaces. */
static void copy_text(char *to, unsigned from, unsigned length)
{
    memcpy(to, answer.bytes + from, length);
    while (length && to[length - 1] == ' ')
        length--;
    to[length] = 0;
}

bool scsi_inquire(struct scsi_unit *unit)
{
    static const uint8_t cdb[6] = {INQUIRY, [4] = INQUIRY_LENGTH};
    if (!ask(unit, sizeof cdb, cdb, INQUIRY_LENGTH, INQUIRY_SCRATCH))
        return false;
    unit->type = answer.bytes[0];
    copy_text(unit->vendor, 8, 8);
    copy_text(unit->product, 16, 16);
    copy_text(unit->revision, 32, 4);
    unit->is_scratch = !memcmp(answer.bytes + INQUIRY_SCRATCH, "scratch", 7);
    return true;
}

bool scsi_read_capacity(struct scsi_unit *unit)
{
    static const uint8_t cdb10[10] = {READ_CAPACITY_10};
    static const uint8_t cdb16[16] = {SERVICE_ACTION_IN_16, READ_CAPACITY_16, [13] = 32};
    if (!ask(unit, sizeof cdb10, cdb10, 8, 8))
        return false;
    uint64_t last = __builtin_bswap32(answer.words[0]);
    unit->block_size = __builtin_bswap32(answer.words[1]);
    if (last == LAST_BLOCK_BEYOND) {
        if (!ask(unit, sizeof cdb16, cdb16, 32, 12))
            return false;
        last = __builtin_bswap64(answer.quads[0]);
    }
    unit->blocks = last + 1;
    return true;
}

/* Executes READ (10), WRITE (10) or SYNCHRONIZE CACHE (10) for a range of blocks. */
static bool blocks(struct scsi_unit *unit, uint8_t code, uint32_t block, enum scsi_direction direction, void *data,
                   uint32_t length)
{
    uint32_t count = length / unit->block_size;
    struct scsi_command command = {
        .lun = unit->lun,
        .direction = direction,
        .cdb_length = 10,
        .cdb = {code, 0, block >> 24, block >> 16, block >> 8, block, 0, count >> 8, count},
        .data = data,
        .length = length,
    };
    return execute(unit, &command) && unit->result.moved == length;
}

bool scsi_read(struct scsi_unit *unit, uint32_t block, void *data, uint32_t length)
{
    return blocks(unit, READ_10, block, SCSI_IN, data, length);
}

bool scsi_write(struct scsi_unit *unit, uint32_t block, const void *data, uint32_t length)
{
    return blocks(unit, WRITE_10, block, SCSI_OUT, (void *)data, length);
}

bool scsi_flush(struct scsi_unit *unit)
{
    /* A count of 0 from block 0 means all blocks. */
    return blocks(unit, SYNCHRONIZE_CACHE_10, 0, SCSI_NONE, NULL, 0);
}
