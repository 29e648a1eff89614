/*
 * Allocates usable memory above the image, in ascending order, and skips the loader's modules.
 */
#include "pages.h"

#include "boot_info.h"
#include "console.h"
#include "memory.h"
#include "power.h"

#define CONVENTIONAL_MEMORY_END 0x100000ULL
#define MAPPED_END 0x100000000ULL

static struct spinlock lock;
/* The end of the last allocated page, or 0 before the first allocation. */
static uint64_t cursor;

static uint64_t page_align(uint64_t address)
{
    return (address + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
}

/* Returns the first address from `start` on at which `size` bytes do not overlap a module. */
static uint64_t past_modules(uint64_t start, uint64_t size)
{
    for (unsigned i = 0; i < boot_info.module_count; i++) {
        const struct module *module = &boot_info.modules[i];
        if (start < module->start + module->length && module->start < start + size)
            return past_modules(page_align(module->start + module->length), size);
    }
    return start;
}

/* Finds whole pages of usable memory from pages_end() on. */
static uint64_t find(uint64_t size)
{
    uint64_t from = pages_end() > CONVENTIONAL_MEMORY_END ? pages_end() : CONVENTIONAL_MEMORY_END;
    for (unsigned i = 0; i < boot_info.memory_count; i++) {
        const struct memory_range *range = &boot_info.memory[i];
        uint64_t end = range->start + range->length;
        if (range->kind != MEMORY_USABLE || range->start >= MAPPED_END)
            continue;
        uint64_t start = page_align(range->start > from ? range->start : from);
        start = past_modules(start, size);
        if (start + size <= end)
            return start;
    }
    print("no room for %lu more bytes in the memory map (%u ranges)\n", size, boot_info.memory_count);
    machine_exit(EXIT_NO_MEMORY);
}

uint64_t pages_end(void)
{
    return cursor ? cursor : page_align((uint64_t)image_end);
}

void *pages_allocate(unsigned count)
{
    spinlock_take(&lock);
    uint64_t start = find(count * PAGE_SIZE);
    cursor = start + count * PAGE_SIZE;
    spinlock_release(&lock);
    return (void *)start;
}

void *pages_allocate_zeroed(unsigned count)
{
    return memset(pages_allocate(count), 0, count * PAGE_SIZE);
}
