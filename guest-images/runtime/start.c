/*
 * From the start-up assembly to the image's main.
 */
#include "runtime.h"

/* Called by entry.S on the boot processor. */
_Noreturn void runtime_start(unsigned protocol, uint64_t loader_data)
{
    smp_initialize();
    interrupts_initialize();
    boot_info_collect(protocol, loader_data);
    console_initialize();
    const char *console = command_line_value("console");
    if (console && text_equal(console, "debug"))
        console_use_debug_port();
    machine_exit(main());
}
