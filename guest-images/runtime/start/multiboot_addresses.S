/*
 * Multiboot 1 for a plain binary: the header has the load addresses.
 */
#define MULTIBOOT_ADDRESSES
#include "multiboot.S"
