/*
 * What the floods of flood.c share.
 */
#pragma once

#include <stdbool.h>

#include "runtime.h"

/* Whether the time has not come to an end yet. */
bool flood_goes_on(void);
/* Commands to the first disk; `begun` is called when they flow. False, after a word, if there is none to be had. */
bool flood_disk(const char *kind, void (*begun)(void));
/* Datagrams, look-ups or streams from all ports in turn; false, after a word, without a network. */
bool flood_network(const char *kind, void (*begun)(void));
/* A ring of which packets seem to come without end. */
bool flood_ring(void (*begun)(void));
