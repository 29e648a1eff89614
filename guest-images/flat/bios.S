/*
 * Real mode, as a boot sector: prints by the BIOS's service, asks for its words, counts ticks where there are any.
 * Exits with 0, or with the number of the first thing that is not as a PC has it.
 */
#include "flat.h"
