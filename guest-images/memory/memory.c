/*
 * Writes and reads the first and the last page of every usable range of the memory map, below and above 4 GiB.
 *
 * All pages are written before any is read back, so two addresses of the same memory are detected. The previous content of
 * the pages is restored, because they may contain tables of the loader.
 *
 * Command line: `memory=SIZE` is the expected size, except for the small part that firmware keeps.
 */
#include "runtime.h"

#define PAGES_MAX (2 * MEMORY_RANGES_MAX)
#define WORDS_IN_PAGE (PAGE_SIZE / sizeof(uint64_t))
/* Maximum size of memory that a firmware may keep. */
#define KEPT_MAX 0x200000ULL

struct page {
    uint64_t address;
    uint64_t first, last; /* the previous first and last word of the page */
};

static struct page pages[PAGES_MAX] NOT_CLEARED;
static unsigned page_count;

static uint64_t last_word(const struct page *page)
{
    return page->address + (WORDS_IN_PAGE - 1) * sizeof(uint64_t);
}

/* The image itself, its stack, its page tables. */
static bool is_our_own(uint64_t address)
{
    return address + PAGE_SIZE > (uint64_t)image_begin && address < pages_end();
}

static void map_large_page_of(uint64_t address)
{
    uint64_t start = address & ~(LARGE_PAGE_SIZE - 1);
    if (!mapping_of(address))
        map(start, start, LARGE_PAGE_SIZE, PAGE_WRITE);
}

static void add_page(uint64_t address)
{
    for (unsigned i = 0; i < page_count; i++)
        if (pages[i].address == address)
            return;
    pages[page_count++].address = address;
}

/* Chooses the first and the last whole page of the range that the image does not use. */
static void add_range(const struct memory_range *range)
{
    uint64_t first = (range->start + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
    uint64_t end = (range->start + range->length) & ~(PAGE_SIZE - 1);
    while (first < end && is_our_own(first))
        first += PAGE_SIZE;
    while (first < end && is_our_own(end - PAGE_SIZE))
        end -= PAGE_SIZE;
    if (first < end) {
        add_page(first);
        add_page(end - PAGE_SIZE);
    }
}

static void memory_map(void)
{
    uint64_t usable = 0;
    for (unsigned i = 0; i < boot_info.memory_count; i++) {
        const struct memory_range *range = &boot_info.memory[i];
        print("# %012lx-%012lx %s\n", range->start, range->start + range->length - 1, memory_kind_name(range->kind));
        usable += range->kind == MEMORY_USABLE ? range->length : 0;
        for (unsigned j = 0; j < i; j++) {
            const struct memory_range *other = &boot_info.memory[j];
            if (range->start < other->start + other->length && other->start < range->start + range->length)
                CHECK_NAMED(false, "ranges %u and %u of the memory map do not overlap", j, i);
        }
    }
    CHECK("the boot protocol gives a memory map", boot_info.memory_count > 0);
    uint64_t wanted = command_line_number("memory", usable);
    CHECK_NAMED(usable <= wanted && wanted - usable <= KEPT_MAX, "0x%lx bytes of 0x%lx are usable", usable, wanted);
}

static void first_and_last_pages(void)
{
    /* Map first: mapping allocates pages for tables, and the chosen pages must be unused. */
    for (unsigned i = 0; i < boot_info.memory_count; i++) {
        const struct memory_range *range = &boot_info.memory[i];
        if (range->kind == MEMORY_USABLE) {
            map_large_page_of(range->start);
            map_large_page_of(range->start + range->length - 1);
        }
    }
    for (unsigned i = 0; i < boot_info.memory_count; i++)
        if (boot_info.memory[i].kind == MEMORY_USABLE)
            add_range(&boot_info.memory[i]);

    for (unsigned i = 0; i < page_count; i++) {
        pages[i].first = read64(pages[i].address);
        pages[i].last = read64(last_word(&pages[i]));
    }
    for (unsigned i = 0; i < page_count; i++) {
        write64(pages[i].address, pages[i].address ^ ~0ULL);
        write64(last_word(&pages[i]), last_word(&pages[i]));
    }
    /* Read all pages and restore all of them before calling anything that might use the memory. */
    bool kept[PAGES_MAX];
    for (unsigned i = 0; i < page_count; i++)
        kept[i] = read64(pages[i].address) == (pages[i].address ^ ~0ULL) &&
                  read64(last_word(&pages[i])) == last_word(&pages[i]);
    for (unsigned i = page_count; i-- > 0;) {
        write64(pages[i].address, pages[i].first);
        write64(last_word(&pages[i]), pages[i].last);
    }
    for (unsigned i = 0; i < page_count; i++)
        CHECK_NAMED(kept[i], "the page at 0x%lx keeps what was written and has no alias", pages[i].address);
}

int main(void)
{
    static const struct test tests[] = {
        {"memory-map", memory_map},
        {"first-and-last-pages", first_and_last_pages},
    };
    return RUN_CHECKS(tests);
}
