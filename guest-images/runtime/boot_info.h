/*
 * Information from the boot protocol, in one form for all protocols, and copied out of the loader's memory.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define COMMAND_LINE_MAX 2048
#define MEMORY_RANGES_MAX 64
#define MODULES_MAX 8

/* Kinds of memory, with the numbers of the BIOS call E820 and of all boot protocols. */
#define MEMORY_USABLE 1
#define MEMORY_RESERVED 2
#define MEMORY_ACPI 3
#define MEMORY_NVS 4

struct memory_range {
    uint64_t start;
    uint64_t length;
    uint32_t kind;
};

struct module {
    uint64_t start;
    uint64_t length;
};

struct boot_info {
    unsigned protocol; /* BOOT_... of layout.h */
    char command_line[COMMAND_LINE_MAX];
    /* Empty if the protocol has no memory map (the flat protocols). */
    struct memory_range memory[MEMORY_RANGES_MAX];
    unsigned memory_count;
    /* Modules, or the one initrd. */
    struct module modules[MODULES_MAX];
    unsigned module_count;
    /* 0 if the protocol does not pass it. */
    uint64_t rsdp;
};

extern struct boot_info boot_info;

/* First byte of the image, and first byte after it. The stack is in the image. */
extern char image_begin[], image_end[];

void boot_info_collect(unsigned protocol, uint64_t loader_data);
const char *boot_protocol_name(void);
const char *memory_kind_name(uint32_t kind);
