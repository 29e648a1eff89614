/*
 * Everything an image includes: the runtime's headers, and the codes with which an image ends.
 */
#pragma once

#include "acpi.h"
#include "apic.h"
#include "boot_info.h"
#include "check.h"
#include "command_line.h"
#include "console.h"
#include "cpu.h"
#include "fault.h"
#include "interrupts.h"
#include "layout.h"
#include "memory.h"
#include "pages.h"
#include "paging.h"
#include "power.h"
#include "smp.h"
#include "text.h"
#include "time.h"

/* The image's own entry point: runs on the boot processor, interrupts off; what it returns goes to the exit port. */
int main(void);
