/*
 * Counts and prints checks, one whole line at a time.
 */
#include "check.h"

#include <stdarg.h>

#include "command_line.h"
#include "console.h"
#include "power.h"
#include "text.h"

#define LINE_MAX 192

static unsigned passed, failed, number;
static bool quiet;

/* A line that is being formatted. Any processor may print a check; the lock makes them wait. */
struct line {
    char text[LINE_MAX];
    size_t length;
};

static struct spinlock lock;
static struct line name;

static void append_to_name(const char *text, size_t length)
{
    for (size_t i = 0; i < length && name.length < LINE_MAX; i++)
        name.text[name.length++] = text[i];
}

static void report(bool ok, const char *detail, const char *format, va_list arguments)
{
    unsigned this_number = ++number;
    ok ? passed++ : failed++;
    if (ok && quiet)
        return;
    name.length = 0;
    text_format(append_to_name, format, arguments);
    if (ok)
        print("ok %u - %.*s\n", this_number, (int)name.length, name.text);
    else
        print("not ok %u - %.*s: %s\n", this_number, (int)name.length, name.text, detail);
}

bool check(bool ok, const char *detail, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    spinlock_take(&lock);
    report(ok, detail, format, arguments);
    spinlock_release(&lock);
    va_end(arguments);
    return ok;
}

bool check_equal(uint64_t actual, uint64_t expected, const char *place, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    spinlock_take(&lock);
    report(actual == expected, place, format, arguments);
    if (actual != expected)
        print("#   is 0x%lx, wanted 0x%lx\n", actual, expected);
    spinlock_release(&lock);
    va_end(arguments);
    return actual == expected;
}

void checks_be_quiet(void)
{
    quiet = true;
}

unsigned checks_failed(void)
{
    return failed;
}

int checks_run(const struct test *tests, unsigned count)
{
    const char *value = command_line_value("checks");
    quiet |= value && text_equal(value, "quiet");
    for (unsigned i = 0; i < count; i++) {
        const char *only = command_line_value("only");
        if (only && !text_equal(only, tests[i].name))
            continue;
        print("# %s\n", tests[i].name);
        tests[i].run();
    }
    print("%u passed, %u failed\n", passed, failed);
    return passed && !failed ? EXIT_PASSED : EXIT_FAILED;
}
