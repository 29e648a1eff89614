/*
 * Includes all headers of the runtime, and declares main.
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

/* The image's entry point. Runs on the boot processor with interrupts disabled. Its result is written to the exit port. */
int main(void);
