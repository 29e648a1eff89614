/*
 * The tests of the vmbus image, and the protocol of their device: tests/vmbus/device.rs.
 */
#pragma once

#include "hypercall.h"
#include "runtime.h"
#include "synic.h"
#include "vmbus.h"

enum command {
    COMMAND_ECHO,
    COMMAND_INVERT,
    COMMAND_SUBCHANNELS,
    COMMAND_SEND,
    COMMAND_CALL,
    COMMAND_FAIL,
};

/* The start of a packet's payload. */
struct request {
    uint32_t command, first, second, gpadl;
};

/* A ring of one page of data and its control page. */
#define RING_PAGES 2
#define RING_BYTES ((RING_PAGES - 1) * PAGE_SIZE)

extern const struct guid echo_interface;
/* Returns the instance GUID of the device with this number. Numbers start at 1. */
struct guid instance_of(unsigned device);
/* Memory for the rings of a few channels, each 2 * RING_PAGES, and for data. */
void *ring_memory(unsigned index);
extern uint8_t *data_pages;
#define DATA_PAGES 64
extern uint8_t buffer[RING_BYTES];

/* Connects to the host and reads the offers if that was not done yet. Returns device 1's offer. */
const struct offer *device(void);
/* Opens device 1's channel. An error is a failed check. */
bool open_device(struct channel *channel);
void close_device(struct channel *channel);
/* Sends a request with a payload of `length` bytes, and waits for its completion. */
bool ask(struct channel *channel, enum command command, uint32_t first, uint32_t second, unsigned length);
bool echo(struct channel *channel);

void versions(void);
void offers(void);
void open_and_close(void);
void sizes(void);
void host_waits(void);
void guest_waits(void);
void gpa_direct(void);
void transfer_pages(void);
void long_gpadl(void);
void retarget(void);
void subchannels(void);
void rescind(void);
void broken_channel(void);
void malformed(void);
void back_pressure(void);
void reconnect(void);
