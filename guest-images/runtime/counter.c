/*
 * Counts interrupts by processor and vector.
 */
#include "counter.h"

#include "apic.h"
#include "cpu.h"
#include "interrupts.h"
#include "memory.h"
#include "smp.h"
#include "time.h"

static unsigned counts[CPUS_MAX][VECTOR_COUNT];

static void count(struct interrupt_frame *frame)
{
    atomic_add(&counts[this_cpu()->index][frame->vector], 1);
}

static void count_and_end(struct interrupt_frame *frame)
{
    count(frame);
    apic_end_of_interrupt();
}

void count_interrupts(uint8_t vector)
{
    interrupt_set_handler(vector, count_and_end);
}

void count_interrupts_without_end(uint8_t vector)
{
    interrupt_set_handler(vector, count);
}

unsigned interrupts_counted(unsigned cpu, uint8_t vector)
{
    return atomic_load(&counts[cpu][vector]);
}

unsigned interrupts_counted_total(void)
{
    unsigned sum = 0;
    for (unsigned cpu = 0; cpu < cpu_count; cpu++)
        for (unsigned vector = 0; vector < VECTOR_COUNT; vector++)
            sum += interrupts_counted(cpu, vector);
    return sum;
}

void interrupt_counts_clear(void)
{
    memset(counts, 0, cpu_count * sizeof counts[0]);
}

bool wait_for_count(unsigned cpu, uint8_t vector, unsigned count)
{
    interrupts_on();
    bool reached = WAIT_UNTIL(interrupts_counted(cpu, vector) >= count, PATIENCE_MILLISECONDS);
    interrupts_off();
    return reached;
}

void wait_with_interrupts(uint64_t milliseconds)
{
    interrupts_on();
    delay_microseconds(milliseconds * 1000);
    interrupts_off();
}
