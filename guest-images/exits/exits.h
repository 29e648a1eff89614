/*
 * The ends that have source files of their own.
 */
#pragma once

/* Prints back what is typed, by polling or (`how` = "interrupt") by the serial port's interrupt, then powers off. */
void echo(const char *how);

/* Powers off after the power button was pressed `presses=N` times (default 1). */
void button(const char *unused);
