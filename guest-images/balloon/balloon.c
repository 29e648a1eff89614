/*
 * Drivers for dynamic memory. With `requests=N`, the driver serves N requests to release or add memory and powers off.
 * With `listens=yes`, it also reports what is typed on the console as its demand: a digit, in units of 20 MiB; q ends it.
 * Otherwise a table of drivers violates the protocol, and the exit code says whether the host handled all of them.
 */
#include "dm.h"
#include "session.h"

int main(void)
{
    unsigned requests = command_line_number("requests", 0);
    if (!session_is_possible() || !session_begin())
        return EXIT_FAILED;
    if (!requests)
        return checks_run(hostile_tests, hostile_test_count);
    if (!serve(requests, command_line_has("listens")) || checks_failed())
        return EXIT_FAILED;
    machine_power_off();
    return EXIT_FAILED;
}
