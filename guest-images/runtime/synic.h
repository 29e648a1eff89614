/*
 * The synthetic interrupt controller of each processor, and the test device that makes the hypervisor use it (TLFS, "Virtual
 * Interrupts", "Inter-Partition Communication").
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "hyperv.h"
#include "memory.h"

#define MESSAGE_NONE 0
#define MESSAGE_TIMER_EXPIRED 0x80000010U
#define MESSAGE_PENDING 1
#define MESSAGE_PAYLOAD_MAX 240
#define EVENT_FLAGS 2048

struct message {
    uint32_t type;
    uint8_t size, flags;
    uint16_t reserved;
    uint64_t origin;
    union {
        uint8_t bytes[MESSAGE_PAYLOAD_MAX];
        uint64_t words[MESSAGE_PAYLOAD_MAX / 8];
        struct {
            uint32_t timer, reserved;
            uint64_t expiration, delivery;
        } timer;
    } payload;
};
_Static_assert(sizeof(struct message) == 256, "HV_MESSAGE");

/* The pages of one processor, after synic_enable was called there. */
struct synic {
    struct message *messages;
    uint64_t (*flags)[EVENT_FLAGS / 64];
};
extern struct synic synics[];

/* Enables this processor's SynIC with empty pages. All SINTs are masked afterwards. */
void synic_enable(void);
/* Disables it and its pages, and masks all SINTs. */
void synic_disable(void);
static inline void sint_set(unsigned sint, uint64_t value)
{
    wrmsr(HV_MSR_SINT(sint), value);
}

/* Returns this processor's message slot of a SINT. */
volatile struct message *message_slot(unsigned sint);
/* Takes the message out of this processor's slot, and writes EOM if others wait. Returns false if there is none. */
bool message_take(unsigned sint, struct message *message);
/* Frees the slot. Returns true if EOM must be written. For tests that check the state in between. */
bool message_free(unsigned sint);

bool event_flag(unsigned cpu, unsigned sint, unsigned flag);
void event_flag_clear(unsigned cpu, unsigned sint, unsigned flag);

/* The device of `--test-device`, which is QEMU's hyperv-testdev. A port's connection id is below 256. */
#define TEST_DEVICE_PORT 0x3000
enum test_device_command {
    TEST_SINT_CREATE = 1, /* a way to raise a SINT of a VP */
    TEST_SINT_DESTROY,
    TEST_SINT_SET,        /* raises it */
    TEST_MESSAGES_CREATE, /* a connection: messages posted to it are sent to a SINT of a VP */
    TEST_MESSAGES_DESTROY,
    TEST_EVENTS_CREATE,   /* a connection: signalling it sets the flag with its number at a SINT of a VP */
    TEST_EVENTS_DESTROY,
    TEST_EVENTS_COUNT,    /* a connection whose signals are counted; only in Viridian */
};

static inline void test_device(enum test_device_command command, uint32_t vp, unsigned sint, unsigned connection)
{
    out32(TEST_DEVICE_PORT, connection << 24 | command << 16 | vp << 8 | sint);
}

/* Returns the number of signals since the last call. */
static inline uint32_t test_device_count(void)
{
    return in32(TEST_DEVICE_PORT);
}
