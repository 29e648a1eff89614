/*
 * Shared steps of images that use devices as a guest of Hyper-V does. Each step prints a line. A step that fails prints why
 * and returns false.
 */
#pragma once

#include "check.h"
#include "console.h"
#include "ipv4.h"
#include "netvsc.h"
#include "vmbus.h"

/* Prints what has failed, in a line of its own. The value is false. */
#define FAILED(format, ...) (print("FAILED: " format "\n", ##__VA_ARGS__), false)

/* Returns true if VMBus can be used. Otherwise prints the privilege that CPUID does not grant, which is not a failure. */
bool session_is_possible(void);
/* Connects to VMBus and requests the offers. */
bool session_begin(void);
bool session_end(void);
/*
 * The main function of an image with drivers. With `driver=good`, it runs `good`, ends the session and powers off. Otherwise
 * it runs the table of drivers that violate the protocol, and its result says whether the host handled all of them.
 */
int session_of_drivers(bool (*good)(void), const struct test *hostile, unsigned count);

/* Opens a network adapter and sets it up. Its link may be down. `memory` has NETVSC_PAGES pages. */
bool session_open_adapter(struct netvsc *netvsc, const struct offer *offer, void *memory);
bool session_close_adapter(struct netvsc *netvsc);
/* Gets an address by DHCP. If no server answers, there is no address, which is not a failure. */
void session_get_address(struct ipv4_host *host);
