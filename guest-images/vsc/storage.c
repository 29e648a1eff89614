/*
 * SCSI controllers: lists their disks, reads them, and writes and reads back scratch disks.
 *
 * Only disks that are marked as scratch are written. A few blocks of all others are read. So a disk that the user named with
 * `--disk` is not changed, unless it is `memory:`.
 */
#include "vsc.h"

#include "scsi.h"

/* Length of the part of a disk that is used. Few disks are smaller. */
#define LENGTH 4096
#define WORDS (LENGTH / 8)

static uint64_t data[WORDS] __attribute__((aligned(LENGTH)));

/* Prints how a command failed. */
static bool failed(const struct scsi_unit *unit, const char *command)
{
    const struct scsi_result *result = &unit->result;
    if (!unit->is_answered)
        return FAILED("LUN %u does not answer %s", unit->lun, command);
    return FAILED("LUN %u: %s: NTSTATUS 0x%x, SRB status 0x%x, SCSI status 0x%x, sense %x/%02x/%02x, %u bytes", unit->lun,
                  command, result->status, result->srb_status, result->scsi_status, result->sense_key, result->sense_code,
                  result->sense_qualifier, result->moved);
}

static uint64_t pattern(unsigned lun, unsigned word)
{
    return 0x5649524944494100 + lun + word * 0x9e3779b97f4a7c15;
}

static bool write_and_flush(struct scsi_unit *unit, uint32_t length)
{
    for (unsigned word = 0; word < length / 8; word++)
        data[word] = pattern(unit->lun, word);
    if (!scsi_write(unit, 0, data, length))
        return failed(unit, "WRITE");
    print("      write      %u bytes from block 0 on\n", length);
    if (!scsi_flush(unit))
        return failed(unit, "SYNCHRONIZE CACHE");
    print("      flush      done\n");
    return true;
}

static bool read(struct scsi_unit *unit, uint32_t length)
{
    memset(data, 0, length);
    if (!scsi_read(unit, 0, data, length))
        return failed(unit, "READ");
    for (unsigned word = 0; unit->is_scratch && word < length / 8; word++)
        if (data[word] != pattern(unit->lun, word))
            return FAILED("LUN %u: what was written does not come back: byte %u differs", unit->lun, word * 8);
    print("      read       %u bytes%s\n", length, unit->is_scratch ? ", as they were written" : " from block 0 on");
    return true;
}

static void print_unit(const struct scsi_unit *unit, const char *remark)
{
    print("    LUN %-2u       %s %s %s, %lu blocks of %u bytes, %s\n", unit->lun, unit->vendor, unit->product, unit->revision,
          unit->blocks, unit->block_size, remark);
}

static bool use_unit(struct storvsc *storvsc, uint8_t lun)
{
    struct scsi_unit unit = {.controller = storvsc, .lun = lun};
    if (!scsi_inquire(&unit))
        return failed(&unit, "INQUIRY");
    if (unit.type != SCSI_DISK && unit.type != SCSI_OPTICAL) {
        print_unit(&unit, "left alone: neither a disk nor a drive");
        return true;
    }
    bool is_ready = scsi_read_capacity(&unit);
    if (!is_ready && unit.type == SCSI_OPTICAL && unit.result.sense_key == SENSE_NOT_READY) {
        print_unit(&unit, "empty");
        return true;
    }
    if (!is_ready || !unit.block_size || !unit.blocks)
        return failed(&unit, "READ CAPACITY");
    print_unit(&unit, unit.is_scratch ? "scratch" : "to be kept");
    uint32_t length = unit.block_size < LENGTH ? LENGTH / unit.block_size * unit.block_size : unit.block_size;
    if (length > unit.blocks * unit.block_size)
        length = unit.blocks * unit.block_size;
    if (length > LENGTH)
        return FAILED("LUN %u: blocks of %u bytes are more than this guest has room for", lun, unit.block_size);
    return (!unit.is_scratch || write_and_flush(&unit, length)) && read(&unit, length);
}

static bool use_controller(struct storvsc *storvsc)
{
    uint8_t luns[SCSI_LUNS_MAX];
    if (!storvsc_negotiate(storvsc)) {
        if (storvsc->status == UINT32_MAX)
            return FAILED("the controller does not answer %s", storvsc->asked);
        return FAILED("the controller answers %s with NTSTATUS 0x%x", storvsc->asked, storvsc->status);
    }
    print("    protocol     %u.%u, up to %u KiB in a transfer, up to %u subchannels\n", storvsc->version >> 8,
          storvsc->version & 0xff, storvsc->transfer_max >> 10, storvsc->subchannels);
    int count = scsi_report_luns(storvsc, luns);
    if (count < 0)
        return FAILED("the controller does not say which LUNs it has");
    for (int i = 0; i < count; i++)
        if (!use_unit(storvsc, luns[i]))
            return false;
    return true;
}

bool use_storage(const struct offer *offer)
{
    static uint8_t rings[2 * STORVSC_RING_PAGES * PAGE_SIZE] NOT_CLEARED __attribute__((aligned(PAGE_SIZE)));
    struct storvsc storvsc;
    if (!storvsc_open(&storvsc, offer, rings))
        return FAILED("channel %u cannot be opened", offer->channel);
    print("  storage        channel %u is open\n", offer->channel);
    if (!use_controller(&storvsc))
        return false;
    return storvsc_close(&storvsc) || FAILED("channel %u cannot be closed", offer->channel);
}
