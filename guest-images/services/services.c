/*
 * Drivers for the integration services. With `driver=good`, the driver answers like Linux until the request to shut down, and
 * then powers off. Otherwise a table of drivers violates the protocol, and the exit code says whether the host handled all.
 */
#include "ic.h"
#include "session.h"

int main(void)
{
    return session_of_drivers(serve, hostile_tests, hostile_test_count);
}
