/*
 * The IDT and the dispatcher behind its 256 stubs.
 */
#include "interrupts.h"

#include <stdbool.h>

#include "console.h"
#include "cpu.h"
#include "fault.h"
#include "layout.h"
#include "memory.h"
#include "power.h"
#include "smp.h"

#define STUB_SIZE 16
#define GATE_PRESENT_INTERRUPT 0x8e00ULL

struct gate {
    uint64_t low, high;
};

extern const char interrupt_stubs[];

static struct gate idt[VECTOR_COUNT] __attribute__((aligned(16)));
static interrupt_handler *handlers[VECTOR_COUNT];
static bool has_all_gates;

static void make_gates(unsigned first, unsigned end)
{
    for (unsigned vector = first; vector < end; vector++) {
        uint64_t stub = (uint64_t)(interrupt_stubs + vector * STUB_SIZE);
        idt[vector].low = (stub & 0xffff) | SELECTOR_CODE64 << 16 | GATE_PRESENT_INTERRUPT << 32 | (stub >> 16) << 48;
        idt[vector].high = stub >> 32;
    }
}

/* Only the gates of exceptions are initialized; the others when a handler is set. */
void interrupts_initialize(void)
{
    make_gates(0, FIRST_INTERRUPT_VECTOR);
    interrupts_load();
}

void interrupts_load(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) pointer = {sizeof idt - 1, (uint64_t)idt};
    asm volatile("lidt %0" : : "m"(pointer));
}

void interrupt_set_handler(uint8_t vector, interrupt_handler *handler)
{
    if (!has_all_gates) {
        make_gates(FIRST_INTERRUPT_VECTOR, VECTOR_COUNT);
        has_all_gates = true;
    }
    atomic_store(&handlers[vector], handler);
}

static const char *vector_name(uint64_t vector)
{
    static const char *const names[] = {
        "#DE divide error", "#DB debug",         "NMI",           "#BP breakpoint",       "#OF overflow",
        "#BR bound range",  "#UD invalid opcode", "#NM no device", "#DF double fault",     "coprocessor overrun",
        "#TS invalid TSS",  "#NP not present",   "#SS stack",     "#GP general protection", "#PF page fault",
        "reserved",         "#MF x87",           "#AC alignment", "#MC machine check",    "#XM SIMD",
    };
    return vector < ARRAY_LENGTH(names) ? names[vector] : "interrupt without a handler";
}

static _Noreturn void dump(const struct interrupt_frame *frame)
{
    static bool dumping;

    /* Another fault, in the dump itself or on another processor: print only one dump. */
    if (atomic_exchange(&dumping, true))
        halt_forever();
    console_break_lock();
    print("\nunexpected exception %lu (%s), error code 0x%lx, on processor %u\n"
          "  rip %016lx  cs  %04lx  rflags %08lx  rsp %016lx  cr2 %016lx\n",
          frame->vector, vector_name(frame->vector), frame->error_code, this_cpu()->index, frame->rip, frame->cs,
          frame->rflags, frame->rsp, read_cr2());
    print("  rax %016lx  rbx %016lx  rcx %016lx  rdx %016lx\n"
          "  rsi %016lx  rdi %016lx  rbp %016lx  r8  %016lx\n"
          "  r9  %016lx  r10 %016lx  r11 %016lx  r12 %016lx\n"
          "  r13 %016lx  r14 %016lx  r15 %016lx  cr3 %016lx\n",
          frame->rax, frame->rbx, frame->rcx, frame->rdx, frame->rsi, frame->rdi, frame->rbp, frame->r8, frame->r9,
          frame->r10, frame->r11, frame->r12, frame->r13, frame->r14, frame->r15, read_cr3());
    machine_exit(EXIT_UNEXPECTED_EXCEPTION);
}

/* Called by vectors.S. */
void interrupt_dispatch(struct interrupt_frame *frame)
{
    interrupt_handler *handler = atomic_load(&handlers[frame->vector]);
    if (handler)
        handler(frame);
    else if (frame->vector == VECTOR_SPURIOUS)
        return;
    else if (frame->vector >= FIRST_INTERRUPT_VECTOR || !fault_recover(frame))
        dump(frame);
}
