/*
 * SCSI commands for the units of a controller (SPC-4, SBC-3): what a guest wants to know of a disk, and how it uses it.
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
    bool is_scratch; /* Viridian says that what is on it matters to nobody */
    /* From READ CAPACITY. */
    uint32_t block_size;
    uint64_t blocks;
    /* How the last command ended, and whether it was answered at all. */
    struct scsi_result result;
    bool is_answered;
};

/* Which units the controller has; how many, or -1 if it does not say. */
int scsi_report_luns(struct storvsc *controller, uint8_t luns[SCSI_LUNS_MAX]);

/* Each says whether the unit has done it. Unit attentions are no failures: the command is sent again. */
bool scsi_inquire(struct scsi_unit *unit);
bool scsi_read_capacity(struct scsi_unit *unit);
bool scsi_read(struct scsi_unit *unit, uint32_t block, void *data, uint32_t length);
bool scsi_write(struct scsi_unit *unit, uint32_t block, const void *data, uint32_t length);
bool scsi_flush(struct scsi_unit *unit);
