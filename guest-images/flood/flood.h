/*
 * Functions that the floods of flood.c share.
 */
#pragma once

#include <stdbool.h>

#include "runtime.h"

/* Returns true until the duration has passed. */
bool flood_goes_on(void);
/* Returns true if this is a kind of flood for a disk. */
bool flood_is_of_disk(const char *kind);
/* Sends commands to the first disk, and calls `begun` when they are in flight. If there is no disk, prints that and returns
 * false. */
bool flood_disk(const char *kind, void (*begun)(void));
/* Datagrams, look-ups or streams from all ports in turn. Without a network, prints that and returns false. */
bool flood_network(const char *kind, void (*begun)(void));
/* A ring that is never empty. */
bool flood_ring(void (*begun)(void));
/* Connections to a port of the host. Calls `begun` when the host refuses one. */
bool flood_sockets(void (*begun)(void));
