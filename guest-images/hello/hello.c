/*
 * Prints a greeting and a description of the machine, and powers off. This image is linked for every boot protocol.
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
