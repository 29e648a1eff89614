/*
 * Drivers for dynamic memory. `requests=N` gives and takes memory as it is asked, N times, and powers off; otherwise the drivers
 * break the protocol in the ways of a table, and the exit code says whether the host stood it.
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
    if (!serve(requests) || checks_failed())
        return EXIT_FAILED;
    machine_power_off();
    return EXIT_FAILED;
}
