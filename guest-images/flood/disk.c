/*
 * Floods a disk with commands that process all of it.
 */
#include "flood.h"
#include "hyperv.h"
#include "interfaces.h"
#include "session.h"
#include "storvsc.h"

#define RING_PAGES 64
/* Commands in flight: as many as fit into the ring, and fewer than the host accepts. */
#define COMMANDS_MAX 200
#define EXECUTE_SRB 3
#define FLAG_COMPLETION 1
/* Number of descriptors in a parameter list of UNMAP. */
#define EXTENTS 255
#define LIST_LENGTH (8 + 16 * EXTENTS)
#define BLOCK 512
/* Maximum length of a pattern, which is written to the host. */
#define PATTERN_BLOCKS ((64 << 20) / BLOCK)

struct body {
    uint32_t operation, flags, status;
    uint16_t length;
    uint8_t srb_status, scsi_status, port, path, target, lun, cdb_length, sense_length, direction, reserved;
    uint32_t data_length;
    uint8_t cdb[20];
    uint16_t reserved2;
    uint8_t tag, action;
    uint32_t srb_flags, timeout, key;
};
_Static_assert(sizeof(struct body) == 64, "a packet since Windows 8");

static struct storvsc storvsc;
static uint8_t *data;
static uint64_t sent, answered;

static void put(uint8_t *place, uint64_t value, unsigned bytes)
{
    while (bytes--) {
        place[bytes] = value;
        value >>= 8;
    }
}

/* Sends a command, with data from a page or to it if it has any. Returns false if there is no room in the ring. */
static bool fire(const uint8_t *cdb, uint32_t length, uint8_t direction)
{
    unsigned cdb_length = cdb[0] == 0 ? 6 : cdb[0] < 0x80 ? 10 : 16;
    struct {
        uint32_t reserved, count, length, offset;
        uint64_t frame;
    } range = {.count = 1, .length = length, .frame = (uint64_t)data / PAGE_SIZE};
    struct body body = {
        .operation = EXECUTE_SRB,
        .flags = FLAG_COMPLETION,
        .length = sizeof body - 12,
        .cdb_length = cdb_length,
        .sense_length = 20,
        .direction = length ? direction : SCSI_NONE,
        .data_length = length,
    };
    struct packet packet = {
        .type = length ? PACKET_GPA_DIRECT : PACKET_IN_BAND,
        .flags = PACKET_WANTS_COMPLETION,
        .transaction = sent + 1,
        .extra = &range,
        .extra_length = length ? sizeof range : 0,
        .payload = &body,
        .payload_length = sizeof body,
    };
    memcpy(body.cdb, cdb, SCSI_CDB_MAX);
    bool has_gone = channel_send(&storvsc.channel, &packet);
    sent += has_gone;
    return has_gone;
}

static void take_answers(void)
{
    struct packet_header header;
    uint8_t body[sizeof(struct body)];
    while (channel_take(&storvsc.channel, &header, body, sizeof body) >= 0)
        answered++;
}

/* Builds the command of a kind for this number of blocks. Returns the length of its data. */
static uint32_t prepare(const char *kind, uint64_t blocks, uint8_t *cdb)
{
    if (text_equal(kind, "unmap")) {
        cdb[0] = 0x42;
        put(cdb + 7, LIST_LENGTH, 2);
        put(data, LIST_LENGTH - 2, 2);
        put(data + 2, LIST_LENGTH - 8, 2);
        for (unsigned i = 0; i < EXTENTS; i++)
            put(data + 8 + 16 * i + 8, blocks / (EXTENTS + 1), 4);
        return LIST_LENGTH;
    }
    if (text_equal(kind, "fill")) {
        cdb[0] = 0x2a;
        put(cdb + 7, PAGE_SIZE / BLOCK, 2);
        return PAGE_SIZE;
    }
    if (text_equal(kind, "durable")) {
        /* WRITE AND VERIFY: a write, a flush, and a read. */
        cdb[0] = 0x2e;
        put(cdb + 7, PAGE_SIZE / BLOCK, 2);
        return PAGE_SIZE;
    }
    if (text_equal(kind, "pattern")) {
        /* WRITE SAME(16), with a block that is not zero. */
        cdb[0] = 0x93;
        put(cdb + 10, blocks < PATTERN_BLOCKS ? blocks : PATTERN_BLOCKS, 4);
        memset(data, 0x5a, BLOCK);
        return BLOCK;
    }
    if (text_equal(kind, "prefetch")) {
        cdb[0] = 0x34;
        put(cdb + 7, 0xffff, 2);
        return 0;
    }
    if (text_equal(kind, "flush")) {
        /* SYNCHRONIZE CACHE of the whole disk. */
        cdb[0] = 0x35;
        return 0;
    }
    if (text_equal(kind, "map")) {
        /* GET LBA STATUS */
        cdb[0] = 0x9e;
        cdb[1] = 0x12;
        put(cdb + 10, PAGE_SIZE, 4);
        return PAGE_SIZE;
    }
    if (text_equal(kind, "headers")) {
        memcpy(data, "QFI\xfb", 4);
        cdb[0] = 0x2a;
        put(cdb + 7, 1, 2);
        return BLOCK;
    }
    /* VERIFY(16) reads the medium. With BYTCHK 3, it compares each block with the block that is sent. */
    cdb[0] = 0x8f;
    put(cdb + 10, blocks, 4);
    if (!text_equal(kind, "compare"))
        return 0;
    cdb[1] = 3 << 1;
    return BLOCK;
}

bool flood_is_of_disk(const char *kind)
{
    static const char *const kinds[] = {"verify", "compare", "unmap", "fill", "headers", "durable", "pattern", "prefetch", "flush", "map"};
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (text_equal(kind, kinds[i]))
            return true;
    return false;
}

bool flood_disk(const char *kind, void (*begun)(void))
{
    const struct offer *offer = vmbus_offer(&scsi_interface, NULL, 0);
    uint8_t cdb[SCSI_CDB_MAX] = {0};
    bool is_counted = text_equal(kind, "headers");
    uint64_t count = command_line_number("n", is_counted ? 3000 : UINT64_MAX);
    uint64_t blocks = command_line_number("blocks", 1 << 20);

    if (!offer || !channel_open(&storvsc.channel, offer, pages_allocate_zeroed(2 * RING_PAGES), RING_PAGES, hyperv_vp_index()) ||
        !storvsc_negotiate(&storvsc))
        return FAILED("there is no disk");
    data = pages_allocate_zeroed(1);
    /* The first command gets the unit attention for the power-on. */
    fire(cdb, 0, SCSI_NONE);
    WAIT_UNTIL((take_answers(), answered == sent), 20000);
    uint32_t length = prepare(kind, blocks, cdb);
    uint8_t direction = text_equal(kind, "map") ? SCSI_IN : SCSI_OUT;
    for (bool is_first = true; flood_goes_on() && answered < count; is_first = false) {
        while (sent - answered < COMMANDS_MAX && sent <= count && fire(cdb, length, direction))
            if (text_equal(kind, "fill") || text_equal(kind, "durable"))
                put(cdb + 2, sent * (PAGE_SIZE / BLOCK) % (blocks - PAGE_SIZE / BLOCK), 4);
        if (is_first)
            begun();
        wait_a_while();
        take_answers();
    }
    print("%lu commands, %lu answers\n", sent, answered);
    return true;
}
