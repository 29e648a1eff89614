/*
 * Pages of memory for an image's own use, handed out once and never taken back.
 */
#pragma once

#include <stdint.h>

#define PAGE_SIZE 4096ULL
#define LARGE_PAGE_SIZE 0x200000ULL

/* `count` contiguous pages of whatever content, below 4 GiB and so mapped; without room for them the image ends. */
void *pages_allocate(unsigned count);
/* The same, filled with zeros. */
void *pages_allocate_zeroed(unsigned count);
/* The first address behind the image and the pages handed out so far. */
uint64_t pages_end(void);
