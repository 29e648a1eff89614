/*
 * Exits with code 0 in its second instruction, in long mode. Used to measure the start-up time of the monitor itself.
 */
#include "flat.h"

    .code64
    xor %eax, %eax
    out %al, $EXIT_PORT
    cli
    hlt
