/*
 * Named checks, which are printed as "ok 3 - name" or "not ok 4 - name: what was wrong", and tables of tests with checks.
 *
 * On the command line, `only=TEST` runs one test of the table, and `checks=quiet` prints only failed checks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "memory.h"

#define CHECK_TEXT_(text) #text
#define CHECK_TEXT(text) CHECK_TEXT_(text)
#define CHECK_PLACE __FILE__ ":" CHECK_TEXT(__LINE__)

/* One check: the name is a statement that the condition makes true. */
#define CHECK(name, condition) check((condition), CHECK_PLACE ": " #condition, "%s", name)
/* The same with a formatted name, for loops. */
#define CHECK_NAMED(condition, ...) check((condition), CHECK_PLACE ": " #condition, __VA_ARGS__)
/* Checks that two numbers are equal. A failure prints both. */
#define CHECK_EQUAL(name, actual, expected) check_equal((actual), (expected), CHECK_PLACE, "%s", name)
#define CHECK_EQUAL_NAMED(actual, expected, ...) check_equal((actual), (expected), CHECK_PLACE, __VA_ARGS__)

/* Each returns true if the check passed. Any processor may call them. */
bool check(bool passed, const char *detail, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool check_equal(uint64_t actual, uint64_t expected, const char *place, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* For images without a table: print only failed checks, and return the number of failed checks. */
void checks_be_quiet(void);
unsigned checks_failed(void);

struct test {
    const char *name;
    void (*run)(void);
};

/*
 * Runs the table, prints the summary line, and returns main's result: EXIT_PASSED, or EXIT_FAILED if a check failed or none was
 * made.
 */
int checks_run(const struct test *tests, unsigned count);
#define RUN_CHECKS(tests) checks_run(tests, ARRAY_LENGTH(tests))
