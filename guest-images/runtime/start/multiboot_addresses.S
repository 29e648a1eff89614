/*
 * Multiboot 1 for a plain binary: the header says where the file goes.
 */
#define MULTIBOOT_ADDRESSES
#include "multiboot.S"
