/*
 * The ways to end that have files of their own.
 */
#pragma once

/* Prints back what is typed, by polling or (`how` = "interrupt") by the serial port's interrupt, then powers off. */
void echo(const char *how);

/* Powers off once the power button was pressed, `presses=N` times (1). */
void button(const char *unused);
