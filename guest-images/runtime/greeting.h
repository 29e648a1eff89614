/*
 * The first lines of an image that people look at: a greeting, and what machine it finds itself on.
 */
#pragma once

void greet(void);
