/*
 * The devices that the vsc image uses.
 */
#pragma once

#include "hyperv.h"
#include "runtime.h"
#include "vmbus.h"

/* Says what has failed, in a line of its own; false. */
#define FAILED(format, ...) (print("FAILED: " format "\n", ##__VA_ARGS__), false)

/* Uses all disks of a SCSI controller; false, after a line that says so, if something failed. */
bool use_storage(const struct offer *offer);
/* Gets an address for a network adapter, and pings its gateway; false as above. */
bool use_network(const struct offer *offer);
