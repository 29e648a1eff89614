/*
 * Drivers for the integration services. `driver=good` answers as Linux does until it is asked to shut down, and then powers off;
 * otherwise the drivers break the protocol in the ways of a table, and the exit code says whether the host stood it.
 */
#include "ic.h"
#include "session.h"

int main(void)
{
    const char *driver = command_line_value("driver");
    bool good = driver && text_equal(driver, "good");
    if (!session_is_possible() || !session_begin())
        return EXIT_FAILED;
    if (!good)
        return checks_run(hostile_tests, hostile_test_count);
    if (!serve() || !session_end() || checks_failed())
        return EXIT_FAILED;
    machine_power_off();
    return EXIT_FAILED;
}
