/*
 * Allocates pages for an image's own use. They cannot be freed.
 */
#pragma once

#include <stdint.h>

#define PAGE_SIZE 4096ULL
#define LARGE_PAGE_SIZE 0x200000ULL

/* Allocates `count` contiguous pages below 4 GiB, which are mapped. Their content is undefined. Without room, the image ends. */
void *pages_allocate(unsigned count);
/* The same, filled with zeros. */
void *pages_allocate_zeroed(unsigned count);
/* Returns the first address after the image and all allocated pages. */
uint64_t pages_end(void);
