/*
 * The devices that a host may offer on VMBus, by their interface GUIDs; src/vmbus/guid.rs has the same list.
 */
#pragma once

#include "vmbus.h"

extern const struct guid scsi_interface, network_interface, video_interface;

/* Returns the common name of the interface, or "other". */
const char *interface_name(const struct guid *interface);
