/*
 * Exits with code 0 in its second instruction, in real mode. Used to measure the start-up time of the monitor itself.
 */
#include "flat.h"

    .code16
    xor %ax, %ax
    out %al, $EXIT_PORT
    cli
    hlt
