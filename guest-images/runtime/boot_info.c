/*
 * Reads the information that the loader of each boot protocol passes: hvm_start_info, the zero page, or the multiboot information.
 *
 * Must run before anything else writes to memory that the loader may have used.
 */
#include "boot_info.h"

#include "layout.h"
#include "memory.h"

struct boot_info boot_info NOT_CLEARED;

struct pvh_start_info {
    uint32_t magic, version, flags, module_count;
    uint64_t modules, command_line, rsdp;
    /* From version 1 on. */
    uint64_t memory_map;
    uint32_t memory_map_count, reserved;
};

struct pvh_module {
    uint64_t address, size, command_line, reserved;
};

struct pvh_memory_range {
    uint64_t start, length;
    uint32_t kind, reserved;
};

struct multiboot_info {
    uint32_t flags, memory_lower, memory_upper, boot_device, command_line;
    uint32_t module_count, modules, symbols[4];
    uint32_t memory_map_length, memory_map;
};
#define MULTIBOOT_HAS_COMMAND_LINE 0x04
#define MULTIBOOT_HAS_MODULES 0x08
#define MULTIBOOT_HAS_MEMORY_MAP 0x40

struct multiboot_module {
    uint32_t start, end, command_line, reserved;
};

struct multiboot_memory_range {
    uint32_t size; /* of the following fields */
    uint64_t start, length;
    uint32_t kind;
} __attribute__((packed));

/* The zero page grew over thirty years: fields by offset (Linux, Documentation/arch/x86/zero-page.rst). */
#define ZERO_PAGE_RSDP 0x070
#define ZERO_PAGE_RAMDISK_HIGH 0x0c0
#define ZERO_PAGE_RAMDISK_SIZE_HIGH 0x0c4
#define ZERO_PAGE_COMMAND_LINE_HIGH 0x0c8
#define ZERO_PAGE_E820_COUNT 0x1e8
#define ZERO_PAGE_RAMDISK 0x218
#define ZERO_PAGE_RAMDISK_SIZE 0x21c
#define ZERO_PAGE_COMMAND_LINE 0x228
#define ZERO_PAGE_E820_TABLE 0x2d0

struct e820_range {
    uint64_t start, length;
    uint32_t kind;
} __attribute__((packed));

static void add_memory(uint64_t start, uint64_t length, uint32_t kind)
{
    if (length && boot_info.memory_count < MEMORY_RANGES_MAX)
        boot_info.memory[boot_info.memory_count++] = (struct memory_range){start, length, kind};
}

static void add_module(uint64_t start, uint64_t length)
{
    if (boot_info.module_count < MODULES_MAX)
        boot_info.modules[boot_info.module_count++] = (struct module){start, length};
}

static void set_command_line(uint64_t address)
{
    const char *text = (const char *)address;
    unsigned length = 0;

    for (; address && text[length] && length < COMMAND_LINE_MAX - 1; length++)
        boot_info.command_line[length] = text[length];
    boot_info.command_line[length] = 0;
}

static void collect_pvh(const struct pvh_start_info *info)
{
    set_command_line(info->command_line);
    boot_info.rsdp = info->rsdp;
    const struct pvh_module *modules = (const void *)info->modules;
    for (uint32_t i = 0; i < info->module_count; i++)
        add_module(modules[i].address, modules[i].size);
    if (info->version < 1)
        return;
    const struct pvh_memory_range *ranges = (const void *)info->memory_map;
    for (uint32_t i = 0; i < info->memory_map_count; i++)
        add_memory(ranges[i].start, ranges[i].length, ranges[i].kind);
}

static void collect_linux(uint64_t page)
{
    set_command_line((uint64_t)read32(page + ZERO_PAGE_COMMAND_LINE_HIGH) << 32 |
                     read32(page + ZERO_PAGE_COMMAND_LINE));
    boot_info.rsdp = read64(page + ZERO_PAGE_RSDP);
    uint64_t initrd = (uint64_t)read32(page + ZERO_PAGE_RAMDISK_HIGH) << 32 | read32(page + ZERO_PAGE_RAMDISK);
    uint64_t size = (uint64_t)read32(page + ZERO_PAGE_RAMDISK_SIZE_HIGH) << 32 | read32(page + ZERO_PAGE_RAMDISK_SIZE);
    if (size)
        add_module(initrd, size);
    const struct e820_range *ranges = (const void *)(page + ZERO_PAGE_E820_TABLE);
    unsigned count = *(const uint8_t *)(page + ZERO_PAGE_E820_COUNT);
    for (unsigned i = 0; i < count; i++)
        add_memory(ranges[i].start, ranges[i].length, ranges[i].kind);
}

static void collect_multiboot(const struct multiboot_info *info)
{
    if (info->flags & MULTIBOOT_HAS_COMMAND_LINE)
        set_command_line(info->command_line);
    if (info->flags & MULTIBOOT_HAS_MODULES) {
        const struct multiboot_module *modules = (const void *)(uint64_t)info->modules;
        for (uint32_t i = 0; i < info->module_count; i++)
            add_module(modules[i].start, modules[i].end - modules[i].start);
    }
    if (!(info->flags & MULTIBOOT_HAS_MEMORY_MAP))
        return;
    uint64_t end = (uint64_t)info->memory_map + info->memory_map_length;
    for (uint64_t at = info->memory_map; at < end;) {
        const struct multiboot_memory_range *range = (const void *)at;
        add_memory(range->start, range->length, range->kind);
        at += range->size + sizeof range->size;
    }
}

void boot_info_collect(unsigned protocol, uint64_t loader_data)
{
    boot_info.protocol = protocol;
    boot_info.command_line[0] = 0;
    boot_info.memory_count = 0;
    boot_info.module_count = 0;
    boot_info.rsdp = 0;

    switch (protocol) {
    case BOOT_PVH:
        collect_pvh((const void *)loader_data);
        break;
    case BOOT_LINUX64:
    case BOOT_LINUX32:
        collect_linux(loader_data);
        break;
    case BOOT_MULTIBOOT:
        collect_multiboot((const void *)loader_data);
        break;
    }
}

const char *boot_protocol_name(void)
{
    static const char *const names[] = {
        [BOOT_PVH] = "PVH",
        [BOOT_LINUX64] = "Linux, 64-bit entry",
        [BOOT_LINUX32] = "Linux, 32-bit entry",
        [BOOT_MULTIBOOT] = "multiboot 1",
        [BOOT_FLAT16] = "flat binary, real mode",
        [BOOT_FLAT32] = "flat binary, protected mode",
        [BOOT_FLAT64] = "flat binary, long mode",
    };
    return names[boot_info.protocol];
}

const char *memory_kind_name(uint32_t kind)
{
    static const char *const names[] = {
        [MEMORY_USABLE] = "usable",
        [MEMORY_RESERVED] = "reserved",
        [MEMORY_ACPI] = "ACPI tables",
        [MEMORY_NVS] = "ACPI NVS",
    };
    return kind >= MEMORY_USABLE && kind < ARRAY_LENGTH(names) ? names[kind] : "other";
}
