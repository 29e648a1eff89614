/*
 * The first lines that an image for users prints: a greeting, and a description of the machine.
 */
#pragma once

void greet(void);
