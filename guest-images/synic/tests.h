/*
 * The tests of the synic image, and shared helpers. Each SINT has its own vector, and each port its own connection id.
 */
#pragma once

#include "counter.h"
#include "hypercall.h"
#include "runtime.h"
#include "synic.h"

#define VECTOR_OF(sint) (0x50 + (sint))
#define MESSAGE_TYPE 0x12345

/* Creates a port for messages or events of a VP's SINT. */
#define MESSAGES_FOR(vp, sint) (0x10 + (vp) * HV_SINTS + (sint))
#define EVENTS_FOR(vp, sint) (0x90 + (vp) * HV_SINTS + (sint))
/* VPs that have ports: connection ids of the test device have eight bits. */
#define VPS_MAX 4

static inline unsigned vps(void)
{
    return cpu_count < VPS_MAX ? cpu_count : VPS_MAX;
}

/* Writes SINTn of another VP. */
void sint_set_on(unsigned vp, unsigned sint, uint64_t value);
/* Takes a message on another VP. Returns false if there is none. */
bool take_on(unsigned vp, unsigned sint, struct message *message);
/* Waits for a message and takes it. */
bool await_on(unsigned vp, unsigned sint, struct message *message);
/* Posts eight bytes to a connection. Returns the status. */
uint64_t post(unsigned connection, uint64_t payload);
uint64_t signal(unsigned connection);

void sint_interrupts(void);
void masked(void);
void auto_eoi(void);
void polling(void);
void message_content(void);
void message_order(void);
void message_end(void);
void synic_off(void);
void moved_pages(void);
void event_flags(void);
void connections(void);
void all_at_once(void);
