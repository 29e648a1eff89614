/*
 * Drivers for the integration services. `driver=good` answers as Linux does until it is asked to shut down, and then powers off;
 * otherwise the drivers break the protocol in the ways of a table, and the exit code says whether the host stood it.
 */
#include "ic.h"
#include "session.h"

int main(void)
{
    return session_of_drivers(serve, hostile_tests, hostile_test_count);
}
