/*
 * Changes to the page tables, which initially map the first 4 GiB. All processors share one address space.
 */
#pragma once

#include <stdint.h>

#define PAGE_PRESENT 0x01ULL
#define PAGE_WRITE 0x02ULL
#define PAGE_USER 0x04ULL
#define PAGE_UNCACHED 0x18ULL

/*
 * Maps [virtual, virtual + length) to `physical`, in 2 MiB pages where both allow it; flags 0 unmaps. A large page that
 * is changed in part is split. Stale translations of this processor are invalidated; those of others are left to the caller.
 */
void map(uint64_t virtual, uint64_t physical, uint64_t length, uint64_t flags);
/* Returns the page table entry that translates `virtual`, or 0. */
uint64_t mapping_of(uint64_t virtual);
