/*
 * The way to end that has a file of its own.
 */
#pragma once

/* Prints back what is typed, by polling or (`how` = "interrupt") by the serial port's interrupt, then powers off. */
void echo(const char *how);
