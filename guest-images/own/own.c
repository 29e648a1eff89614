/*
 * Uses ports, memory, MSRs and hypercalls that a program has added through the library, and reacts to what the program does
 * to the guest. The words of the command line select the actions. Each action prints a line.
 *
 *   port=N        writes 0x11223344 to I/O port N and reads it back
 *   mmio=ADDRESS  writes 8 bytes there, reads them, and reads a byte and 4 bytes of them
 *   msr=N         writes 6 to MSR N and reads it, then writes 7
 *   call=N        makes the hypercall with 8 bytes of input: the address of a page, which holds "from the guest"; prints the page
 *   line=N        waits for an interrupt from line N of the IOAPIC, as vector 0x41
 *   message       waits for an interrupt of vector 0x42
 *   nmi           waits for an NMI
 *   memory        prints where a page is, and waits until its first word is not zero; prints that
 *   registers     spins, with 0x1234 in RBX, until RBX is 0x5678; then prints R12
 *   times=N       repeats all actions N times
 */
#include "hypercall.h"
#include "runtime.h"

#define LINE_VECTOR 0x41
#define MESSAGE_VECTOR 0x42

static volatile unsigned came;

static void on_interrupt(struct interrupt_frame *frame)
{
    came = frame->vector;
    apic_end_of_interrupt();
}

static void on_nmi(struct interrupt_frame *frame)
{
    came = frame->vector;
}

static void use_port(uint16_t port)
{
    out32(port, 0x11223344);
    print("port: %x\n", in32(port));
}

static void use_mmio(uint64_t address)
{
    write64(address, 0x1122334455667788);
    print("mmio: %lx, %x, %x\n", read64(address), *(volatile uint8_t *)(address + 1), read32(address + 4));
}

static void use_msr(uint32_t msr)
{
    uint64_t value = 0;
    int written = wrmsr_safe(msr, 6), read = rdmsr_safe(msr, &value), refused = wrmsr_safe(msr, 7);
    print("msr: faults %d %d %d, value %lu\n", written, read, refused, value);
}

static void make_call(uint16_t code)
{
    uint64_t *input = pages_allocate_zeroed(1), *output = pages_allocate_zeroed(1);
    char *page = pages_allocate_zeroed(1);
    memcpy(page, "from the guest", 14);
    *input = (uint64_t)page;
    uint64_t result = hypercall(code, (uint64_t)input, (uint64_t)output);
    print("call: status %lu, output %lu, page \"%s\"\n", RESULT_STATUS(result), *output, page);
}

static void await(const char *what, uint8_t vector, interrupt_handler *handler)
{
    came = 0;
    interrupt_set_handler(vector, handler);
    print("%s: ready\n", what);
    interrupts_on();
    while (came != vector)
        relax();
    interrupts_off();
    print("%s: vector %x came\n", what, came);
}

static void await_memory(void)
{
    uint64_t *page = pages_allocate_zeroed(1);
    print("memory: at %lu\n", (uint64_t)page);
    while (read64((uint64_t)page) == 0)
        relax();
    uint64_t value = read64((uint64_t)page);
    write64((uint64_t)page + 8, ~value);
    print("memory: %lx\n", value);
}

static void await_registers(void)
{
    uint64_t seen;
    print("registers: ready\n");
    asm volatile("mov $0x1234, %%ebx\n"
                 "xor %%r12d, %%r12d\n"
                 "1: pause\n"
                 "cmp $0x5678, %%rbx\n"
                 "jne 1b\n"
                 "mov %%r12, %0\n"
                 : "=r"(seen)
                 :
                 : "rbx", "r12", "cc");
    print("registers: %lx\n", seen);
}

int main(void)
{
    apic_initialize();
    if (command_line_has("call") && !hypercall_enable())
        return EXIT_FAILED;
    for (uint64_t left = command_line_number("times", 1); left > 0; left--) {
        if (command_line_has("port"))
            use_port(command_line_number("port", 0));
        if (command_line_has("mmio"))
            use_mmio(command_line_number("mmio", 0));
        if (command_line_has("msr"))
            use_msr(command_line_number("msr", 0));
        if (command_line_has("call"))
            make_call(command_line_number("call", 0));
        if (command_line_has("line")) {
            ioapic_route(command_line_number("line", 0), LINE_VECTOR, apic_id());
            await("line", LINE_VECTOR, on_interrupt);
        }
        if (command_line_has("message"))
            await("message", MESSAGE_VECTOR, on_interrupt);
        if (command_line_has("nmi"))
            await("nmi", VECTOR_NMI, on_nmi);
        if (command_line_has("memory"))
            await_memory();
        if (command_line_has("registers"))
            await_registers();
    }
    return EXIT_PASSED;
}
