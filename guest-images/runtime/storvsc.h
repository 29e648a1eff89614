/*
 * A driver for SCSI controllers on VMBus that behaves like Linux's drivers/scsi/storvsc_drv.c, one command at a time. scsi.h has
 * the commands.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmbus.h"

/* Size of each ring, including its control page. */
#define STORVSC_RING_PAGES 2
/* Maximum length of one command's data. */
#define STORVSC_DATA_MAX 0x10000
#define SCSI_CDB_MAX 16

#define STORVSC_VERSION(major, minor) ((major) << 8 | (minor))

struct storvsc {
    struct channel channel;
    uint16_t version;     /* the negotiated version, as STORVSC_VERSION */
    uint16_t subchannels; /* maximum number of further channels */
    uint32_t transfer_max;
    uint64_t transaction;
    /* The last request of the negotiation and its status, for error messages. */
    const char *asked;
    uint32_t status;
};

enum scsi_direction { SCSI_OUT, SCSI_IN, SCSI_NONE };

/* A command. Its data must be identity-mapped. */
struct scsi_command {
    uint8_t lun, direction, cdb_length;
    uint8_t cdb[SCSI_CDB_MAX];
    void *data;
    uint32_t length;
};

/* The result. The numbers of the sense data are 0 if there is none. */
struct scsi_result {
    uint32_t status; /* NTSTATUS */
    uint8_t srb_status, scsi_status;
    uint8_t sense_key, sense_code, sense_qualifier;
    uint32_t moved;
};

#define SCSI_STATUS_GOOD 0x00
#define SCSI_STATUS_CHECK_CONDITION 0x02
#define SENSE_NOT_READY 0x02
#define SENSE_UNIT_ATTENTION 0x06

/* Opens the controller's channel with rings in memory of 2 * STORVSC_RING_PAGES. */
bool storvsc_open(struct storvsc *storvsc, const struct offer *offer, void *rings);
/* Negotiates from BEGIN_INITIALIZATION to END_INITIALIZATION, with the newest version that both support. */
bool storvsc_negotiate(struct storvsc *storvsc);
/* Executes a command. Returns false if the controller does not answer. */
bool storvsc_execute(struct storvsc *storvsc, const struct scsi_command *command, struct scsi_result *result);
bool storvsc_close(struct storvsc *storvsc);
