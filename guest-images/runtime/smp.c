/*
 * Per-processor state, the start of processors by INIT and SIPI, and the idle loop that waits for work.
 *
 * Further processors are started one after the other. `smp_starting` is the one that is being started.
 */
#include "smp.h"

#include "acpi.h"
#include "apic.h"
#include "cpu.h"
#include "interrupts.h"
#include "memory.h"
#include "pages.h"
#include "time.h"

#define MSR_GS_BASE 0xc0000101
#define STACK_PAGES 4
/* KVM starts a processor in microseconds. A busy host that emulates ring 0 may take far longer. */
#define START_MILLISECONDS 5000
#define SECOND_SIPI_MILLISECONDS 20
/* Time limit for a processor to begin its work after it was woken. */
#define AGAIN_MILLISECONDS 100

#define TASK_RSP0 1 /* in 32-bit words */
#define TASK_IO_MAP 25

struct cpu cpus[CPUS_MAX] NOT_CLEARED;
unsigned cpu_count = 1;
/* Read by entry.S. */
struct cpu *smp_starting;

extern const uint64_t start_gdt[];
extern const char trampoline_begin[], trampoline_end[];
extern char boot_stack[];

static void set_up(unsigned index, uint32_t apic_id, void *stack_top)
{
    struct cpu *cpu = &cpus[index];
    cpu->self = cpu;
    cpu->stack_top = stack_top;
    cpu->recovery = NULL;
    cpu->index = index;
    cpu->apic_id = apic_id;
    cpu->online = false;
    cpu->function = NULL;
    cpu->woken = 0;
}

/* Gives this processor its GS base, and a GDT of its own with user segments and a task state segment. */
static void load_descriptors(struct cpu *cpu)
{
    uint64_t task = (uint64_t)cpu->task_state;
    memset(cpu->task_state, 0, sizeof cpu->task_state);
    cpu->task_state[TASK_RSP0] = (uint32_t)(uint64_t)cpu->stack_top;
    cpu->task_state[TASK_IO_MAP] = sizeof cpu->task_state << 16; /* beyond the limit, so ring 3 has no I/O */

    for (unsigned i = 0; i < 4; i++)
        cpu->gdt[i] = start_gdt[i];
    cpu->gdt[SELECTOR_USER_DATA / 8] = 0x00cff3000000ffff;
    cpu->gdt[SELECTOR_USER_CODE64 / 8] = 0x00affb000000ffff;
    cpu->gdt[SELECTOR_TASK / 8] = (sizeof cpu->task_state - 1) | (task & 0xffffff) << 16 | 0x89ULL << 40 |
                                  (task >> 24 & 0xff) << 56;
    cpu->gdt[SELECTOR_TASK / 8 + 1] = task >> 32;

    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) pointer = {sizeof cpu->gdt - 1, (uint64_t)cpu->gdt};
    asm volatile("lgdt %0; ltr %w1" : : "m"(pointer), "r"(SELECTOR_TASK) : "memory");
    wrmsr(MSR_GS_BASE, (uint64_t)cpu);
}

void smp_initialize(void)
{
    set_up(0, 0, boot_stack + BOOT_STACK_SIZE);
    load_descriptors(&cpus[0]);
    cpus[0].online = true;
}

static void on_wake(struct interrupt_frame *frame)
{
    (void)frame;
    atomic_add(&this_cpu()->woken, 1);
    apic_end_of_interrupt();
}

/* Called by entry.S on a further processor, on its own stack. */
_Noreturn void smp_secondary_start(struct cpu *cpu)
{
    load_descriptors(cpu);
    interrupts_load();
    apic_initialize();
    atomic_store(&cpu->online, true);
    for (;;) {
        cpu_function *function = atomic_load(&cpu->function);
        if (function) {
            atomic_store(&cpu->begun, true);
            /* Interrupts that were sent to this processor before have arrived by then. */
            take_interrupts();
            function(cpu->argument);
            interrupts_off();
            atomic_store(&cpu->function, NULL);
        } else {
            wait_for_interrupt();
        }
    }
}

static bool start(struct cpu *cpu)
{
    smp_starting = cpu;
    apic_send(cpu->apic_id, APIC_INIT | APIC_ASSERT);
    delay_microseconds(10);
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        apic_send(cpu->apic_id, APIC_STARTUP | APIC_ASSERT | TRAMPOLINE_ADDRESS >> 12);
        if (WAIT_UNTIL(atomic_load(&cpu->online), attempt ? START_MILLISECONDS : SECOND_SIPI_MILLISECONDS))
            return true;
    }
    return false;
}

unsigned smp_start_all(void)
{
    struct processor processor;

    apic_initialize();
    cpus[0].apic_id = apic_id();
    interrupt_set_handler(VECTOR_WAKE, on_wake);
    memcpy((void *)TRAMPOLINE_ADDRESS, trampoline_begin, trampoline_end - trampoline_begin);
    for (unsigned i = 0; acpi_processor(i, &processor); i++) {
        if (processor.apic_id == cpus[0].apic_id || cpu_count == CPUS_MAX)
            continue;
        char *stack = pages_allocate(STACK_PAGES);
        set_up(cpu_count, processor.apic_id, stack + STACK_PAGES * PAGE_SIZE);
        /* Start no further processors: one that comes up late would use the state of the next one. */
        if (!start(&cpus[cpu_count]))
            break;
        cpu_count++;
    }
    return cpu_count;
}

static void wake(const struct cpu *cpu)
{
    apic_send(cpu->apic_id, APIC_FIXED | APIC_ASSERT | VECTOR_WAKE);
}

void smp_run(unsigned index, cpu_function *function, void *argument)
{
    cpus[index].argument = argument;
    atomic_store(&cpus[index].begun, false);
    cpus[index].woken_before = atomic_load(&cpus[index].woken);
    atomic_store(&cpus[index].function, function);
    wake(&cpus[index]);
}

bool smp_wait(unsigned index, uint64_t milliseconds)
{
    struct cpu *cpu = &cpus[index];
    uint64_t give_up_at = deadline_after(milliseconds);
    /*
     * QEMU's VMRUN loses the delay of interrupts after the guest's STI, so an interrupt is sometimes handled between the STI
     * and the HLT of wait_for_interrupt, and the processor stays asleep. A processor is woken again only after it has handled
     * its interrupt, so that a lost interrupt is still detected.
     */
    uint64_t turn = milliseconds < AGAIN_MILLISECONDS ? milliseconds : AGAIN_MILLISECONDS;
    while (!WAIT_UNTIL(!atomic_load(&cpu->function), turn)) {
        if (rdtsc() >= give_up_at)
            return false;
        if (!atomic_load(&cpu->begun) && atomic_load(&cpu->woken) != cpu->woken_before)
            wake(cpu);
    }
    return true;
}

bool smp_call(unsigned index, cpu_function *function, void *argument, uint64_t milliseconds)
{
    if (index == this_cpu()->index) {
        function(argument);
        return true;
    }
    smp_run(index, function, argument);
    return smp_wait(index, milliseconds);
}

bool smp_run_everywhere(cpu_function *function, void *argument, uint64_t milliseconds)
{
    bool done = true;
    for (unsigned i = 0; i < cpu_count; i++)
        if (i != this_cpu()->index)
            smp_run(i, function, argument);
    function(argument);
    for (unsigned i = 0; i < cpu_count; i++)
        if (i != this_cpu()->index)
            done &= smp_wait(i, milliseconds);
    return done;
}
