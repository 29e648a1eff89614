/*
 * The page tables beyond the first 4 GiB that every image starts with: one address space for all processors.
 */
#pragma once

#include <stdint.h>

#define PAGE_PRESENT 0x01ULL
#define PAGE_WRITE 0x02ULL
#define PAGE_USER 0x04ULL
#define PAGE_UNCACHED 0x18ULL

/*
 * Maps [virtual, virtual + length) to `physical`, in 2 MiB pages where both allow it; flags 0 unmaps. A large page that
 * is hit in part is split. This processor's stale translations are dropped; other processors' are the caller's affair.
 */
void map(uint64_t virtual, uint64_t physical, uint64_t length, uint64_t flags);
/* The page table entry that translates `virtual`, or 0. */
uint64_t mapping_of(uint64_t virtual);
