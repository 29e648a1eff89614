/*
 * Reports a crash, or requests a reset, through the hypervisor's MSRs. The command line selects how. The test checks the
 * machine's exit code and what it prints.
 *
 *   crash=registers        five numbers: 0x11, 0x22, 0x33, 0x44, 0x55
 *   crash=text             a text of two lines, in memory
 *   crash=nowhere          a text where there is no memory
 *   crash=edge             a text that ends at the end of memory
 *   crash=beyond           a text that extends beyond the end of memory
 *   crash=long             a text of 64 KiB, of which one page is read
 *   crash=endless          a text of 2^64 - 1 bytes
 *   crash=unprintable      a text with control characters of terminals
 *   crash=forged           a text whose lines look like messages of the monitor
 *   crash=empty            a text of no bytes
 *   crash=elsewhere        five numbers, from the last VP
 *   crash=nothing          no report: CRASH_CTL without CrashNotify
 *   reset                  RESET
 */
#include "counter.h"
#include "hyperv.h"
#include "runtime.h"

#define LONG_TEXT_SIZE 0x10000

static void report(uint64_t gpa, uint64_t length, uint64_t control)
{
    static const uint64_t parameters[3] = {0x11, 0x22, 0x33};
    for (unsigned i = 0; i < ARRAY_LENGTH(parameters); i++)
        wrmsr(HV_MSR_CRASH_PARAMETER(i), parameters[i]);
    wrmsr(HV_MSR_CRASH_PARAMETER(3), gpa);
    wrmsr(HV_MSR_CRASH_PARAMETER(4), length);
    wrmsr(HV_MSR_CRASH_CONTROL, control);
    machine_wait_for_end();
}

static void report_text(const char *text, uint64_t length)
{
    report((uint64_t)text, length, HV_CRASH_NOTIFY | HV_CRASH_MESSAGE);
}

static void report_registers(void *unused)
{
    (void)unused;
    report(0x44, 0x55, HV_CRASH_NOTIFY);
}

static void crash(const char *how)
{
    static const char text[] = "Kernel panic - not syncing: no init\nend of the log\n";
    static const char forged[] = "oops\nviridian: warn: forged\r\nviridian: server  0.38 s  the guest powered off";
    static const char unprintable[] = "bell\a escape\x1b[2J null\0tab\tend";
    if (text_equal(how, "registers")) {
        report_registers(NULL);
    } else if (text_equal(how, "text")) {
        report_text(text, sizeof text - 1);
    } else if (text_equal(how, "nowhere")) {
        report_text((const char *)page_of_nothing(), 100);
    } else if (text_equal(how, "edge")) {
        char *last = (char *)memory_end() - (sizeof text - 1);
        memcpy(last, text, sizeof text - 1);
        report_text(last, sizeof text - 1);
    } else if (text_equal(how, "beyond")) {
        report_text((const char *)memory_end() - 10, 100);
    } else if (text_equal(how, "long")) {
        char *long_text = pages_allocate(LONG_TEXT_SIZE / PAGE_SIZE);
        memset(long_text, 'x', LONG_TEXT_SIZE);
        report_text(long_text, LONG_TEXT_SIZE);
    } else if (text_equal(how, "endless")) {
        report_text(text, UINT64_MAX);
    } else if (text_equal(how, "unprintable")) {
        report_text(unprintable, sizeof unprintable - 1);
    } else if (text_equal(how, "forged")) {
        report_text(forged, sizeof forged - 1);
    } else if (text_equal(how, "empty")) {
        report_text(text, 0);
    } else if (text_equal(how, "elsewhere")) {
        smp_start_all();
        smp_call(cpu_count - 1, report_registers, NULL, PATIENCE_MILLISECONDS);
    } else if (text_equal(how, "nothing")) {
        report(0x44, 0x55, HV_CRASH_MESSAGE);
        machine_exit(EXIT_PASSED);
    } else {
        print("crash=%s is not one of the values in crash.c\n", how);
        machine_exit(EXIT_USAGE);
    }
}

int main(void)
{
    const char *way = command_line_value("crash");
    if (way) {
        char how[COMMAND_LINE_VALUE_MAX];
        memcpy(how, way, sizeof how);
        crash(how);
    } else if (command_line_has("reset")) {
        wrmsr(HV_MSR_RESET, 1);
        machine_wait_for_end();
    } else {
        print("the command line has no word of crash.c\n");
        return EXIT_USAGE;
    }
    print("the machine continues\n");
    return EXIT_IGNORED;
}
