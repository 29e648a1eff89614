/*
 * Greets, tells what machine it finds itself on, and turns it off: the image that is linked for every boot protocol.
 */
#include "greeting.h"
#include "runtime.h"

int main(void)
{
    greet();
    print("All is well; turning the machine off.\n");
    machine_power_off();
    return EXIT_PASSED;
}
