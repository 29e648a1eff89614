/*
 * The devices that the vsc image uses.
 */
#pragma once

#include "runtime.h"
#include "session.h"

/* Uses all disks of a SCSI controller; false, after a line that says so, if something failed. */
bool use_storage(const struct offer *offer);
/* Gets an address for a network adapter, and pings its gateway; false as above. */
bool use_network(const struct offer *offer);
