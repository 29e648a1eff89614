/*
 * The devices that the vsc image uses.
 */
#pragma once

#include "runtime.h"
#include "session.h"

/* Uses all disks of a SCSI controller. If something fails, prints that and returns false. */
bool use_storage(const struct offer *offer);
/* Gets an address for a network adapter, and pings its gateway. If something fails, prints that and returns false. */
bool use_network(const struct offer *offer);
/* Draws a picture on a screen. If something fails, prints that and returns false. */
bool use_video(const struct offer *offer);
