/*
 * What images have in common that use devices as a guest of Hyper-V does: a line tells of each step, and the first that fails says
 * so and is false.
 */
#pragma once

#include "check.h"
#include "console.h"
#include "ipv4.h"
#include "netvsc.h"
#include "vmbus.h"

/* Says what has failed, in a line of its own; false. */
#define FAILED(format, ...) (print("FAILED: " format "\n", ##__VA_ARGS__), false)

/* Whether there is a VMBus to be had; what it needs and CPUID does not grant is said, but is no failure. */
bool session_is_possible(void);
/* Connects to VMBus and asks for the offers. */
bool session_begin(void);
bool session_end(void);
/*
 * The main function of an image of drivers. With `driver=good` it runs `good`, ends the session and powers off; otherwise it runs the
 * table of drivers that break the protocol, and its result says whether the host stood them.
 */
int session_of_drivers(bool (*good)(void), const struct test *hostile, unsigned count);

/* Opens a network adapter and sets it up; its link may be down. `memory` is for NETVSC_PAGES. */
bool session_open_adapter(struct netvsc *netvsc, const struct offer *offer, void *memory);
bool session_close_adapter(struct netvsc *netvsc);
/* Asks for an address by DHCP; without an answer the host has none, which is no failure. */
void session_get_address(struct ipv4_host *host);
