/*
 * SCSI commands for the units of a controller (SPC-4, SBC-3): describe a disk, and read and write it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "storvsc.h"

#define SCSI_LUNS_MAX 64
#define SCSI_DISK 0x00
#define SCSI_OPTICAL 0x05

struct scsi_unit {
    struct storvsc *controller;
    uint8_t lun;
    /* From INQUIRY. */
    uint8_t type;
    char vendor[8 + 1], product[16 + 1], revision[4 + 1];
    bool is_scratch; /* Viridian marks the disk as scratch: it may be overwritten */
    /* From READ CAPACITY. */
    uint32_t block_size;
    uint64_t blocks;
    /* The result of the last command, and whether it was answered at all. */
    struct scsi_result result;
    bool is_answered;
};

/* Lists the units of the controller. Returns their number, or -1 on an error. */
int scsi_report_luns(struct storvsc *controller, uint8_t luns[SCSI_LUNS_MAX]);

/* Each returns true if the command succeeded. After a unit attention, the command is sent again. */
bool scsi_inquire(struct scsi_unit *unit);
bool scsi_read_capacity(struct scsi_unit *unit);
bool scsi_read(struct scsi_unit *unit, uint32_t block, void *data, uint32_t length);
bool scsi_write(struct scsi_unit *unit, uint32_t block, const void *data, uint32_t length);
bool scsi_flush(struct scsi_unit *unit);
