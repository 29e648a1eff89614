/*
 * A boot sector in real mode: prints by a BIOS call, checks what BIOS calls and the data area return, and counts timer
 * ticks if the machine has a timer. Exits with 0, or with the number of the first check that failed.
 */
#include "flat.h"
