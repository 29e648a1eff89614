/*
 * Reads and extends the four-level page tables of page_tables.S.
 */
#include "paging.h"

#include <stddef.h>

#include "cpu.h"
#include "memory.h"
#include "pages.h"

#define ENTRIES 512
#define ENTRY_ADDRESS 0x000ffffffffff000ULL
#define ENTRY_LARGE 0x80ULL
#define TABLE_FLAGS (PAGE_PRESENT | PAGE_WRITE | PAGE_USER)

#define LEVEL_PAGE 0
#define LEVEL_LARGE_PAGE 1
#define LEVEL_TOP 3

extern uint64_t page_tables[];

static struct spinlock lock;

static uint64_t *entry_in(uint64_t *table, uint64_t virtual, unsigned level)
{
    return &table[virtual >> (12 + 9 * level) & (ENTRIES - 1)];
}

/* Replaces a 2 MiB page by a table of 512 pages with the same translation. */
static void split(uint64_t *entry)
{
    uint64_t *table = pages_allocate(1);
    uint64_t page = *entry & ~ENTRY_LARGE;
    for (unsigned i = 0; i < ENTRIES; i++)
        table[i] = page + i * PAGE_SIZE;
    *entry = (uint64_t)table | TABLE_FLAGS;
}

/* Returns the entry for `virtual` at `level`, and creates missing tables above it. */
static uint64_t *entry_for(uint64_t virtual, unsigned level)
{
    uint64_t *table = page_tables;
    for (unsigned at = LEVEL_TOP; at > level; at--) {
        uint64_t *entry = entry_in(table, virtual, at);
        if (!(*entry & PAGE_PRESENT))
            *entry = (uint64_t)pages_allocate_zeroed(1) | TABLE_FLAGS;
        else if (*entry & ENTRY_LARGE)
            split(entry);
        table = (uint64_t *)(*entry & ENTRY_ADDRESS);
    }
    return entry_in(table, virtual, level);
}

void map(uint64_t virtual, uint64_t physical, uint64_t length, uint64_t flags)
{
    spinlock_take(&lock);
    for (uint64_t end = virtual + length; virtual < end;) {
        uint64_t *large = entry_for(virtual, LEVEL_LARGE_PAGE);
        bool is_table = (*large & (PAGE_PRESENT | ENTRY_LARGE)) == PAGE_PRESENT;
        bool fits = ((virtual | physical) & (LARGE_PAGE_SIZE - 1)) == 0 && end - virtual >= LARGE_PAGE_SIZE;
        uint64_t step = fits && !is_table ? LARGE_PAGE_SIZE : PAGE_SIZE;
        uint64_t *entry = step == PAGE_SIZE ? entry_for(virtual, LEVEL_PAGE) : large;
        uint64_t size = step == PAGE_SIZE ? 0 : ENTRY_LARGE;
        *entry = flags ? physical | flags | PAGE_PRESENT | size : 0;
        invalidate_page(virtual);
        virtual += step;
        physical += step;
    }
    spinlock_release(&lock);
}

uint64_t mapping_of(uint64_t virtual)
{
    uint64_t *table = page_tables;
    for (unsigned level = LEVEL_TOP;; level--) {
        uint64_t entry = *entry_in(table, virtual, level);
        if (!(entry & PAGE_PRESENT) || level == LEVEL_PAGE || entry & ENTRY_LARGE)
            return entry & PAGE_PRESENT ? entry : 0;
        table = (uint64_t *)(entry & ENTRY_ADDRESS);
    }
}
