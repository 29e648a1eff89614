/*
 * A neighbour at work: reads its disk and computes, again and again, and says every `window=MILLISECONDS` (default 1000) how
 * much of both it has done: "work 1234 reads 5678 sums". `windows=N` is how often (default: for ever); then it powers off.
 */
#include "hyperv.h"
#include "interfaces.h"
#include "runtime.h"
#include "session.h"
#include "storvsc.h"

#define READ_LENGTH 4096
/* Of computing after each read: some microseconds, also where each instruction is emulated. */
#define SUM_STEPS 100

static struct storvsc storvsc;
static volatile uint64_t sum;

static bool read_once(uint8_t *data)
{
    struct scsi_result result;
    struct scsi_command command = {
        .direction = SCSI_IN,
        .cdb_length = 10,
        .cdb = {0x28, [8] = READ_LENGTH / 512},
        .data = data,
        .length = READ_LENGTH,
    };
    return storvsc_execute(&storvsc, &command, &result);
}

int main(void)
{
    uint64_t window = command_line_number("window", 1000), windows = command_line_number("windows", UINT64_MAX);
    const struct offer *offer;

    checks_be_quiet();
    if (!session_begin())
        return EXIT_FAILED;
    offer = vmbus_offer(&scsi_interface, NULL, 0);
    if (!offer || !storvsc_open(&storvsc, offer, pages_allocate_zeroed(2 * STORVSC_RING_PAGES)) || !storvsc_negotiate(&storvsc)) {
        print("FAILED: there is no disk\n");
        return EXIT_FAILED;
    }
    uint8_t *data = pages_allocate_zeroed(1);
    for (uint64_t i = 0; i < windows; i++) {
        uint64_t end = deadline_after(window);
        unsigned reads = 0, sums = 0;
        while (rdtsc() < end) {
            if (!read_once(data)) {
                print("FAILED: a read is not answered\n");
                return EXIT_FAILED;
            }
            reads++;
            for (unsigned step = 0; step < SUM_STEPS; step++)
                sum += step;
            sums++;
        }
        print("work %u reads %u sums\n", reads, sums);
    }
    machine_power_off();
    return EXIT_PASSED;
}
