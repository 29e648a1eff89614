/*
 * Places the hypercall page, and makes calls through it.
 */
#include "hypercall.h"

#include "console.h"
#include "fault.h"
#include "hyperv.h"
#include "memory.h"
#include "pages.h"
#include "power.h"

/* Read by hypercall_run.S. */
uint64_t hypercall_entry;
/* The address of the page while 32-bit code makes calls. */
static uint64_t entry32;

void hypercall_run64(void *registers);
void hypercall_run32(void *registers);

bool hypercall_enable(void)
{
    if (!hypercall_entry)
        hypercall_entry = (uint64_t)pages_allocate_zeroed(1);
    return wrmsr_safe(HV_MSR_GUEST_OS_ID, HV_GUEST_OS_ID_TEST) == NO_FAULT &&
           wrmsr_safe(HV_MSR_HYPERCALL, hypercall_entry | HV_PAGE_ENABLE) == NO_FAULT;
}

uint64_t hypercall_page(void)
{
    return hypercall_entry;
}

static int make(void (*run)(void *registers), struct hypercall_registers *registers)
{
    struct fault fault;
    return catch_fault(run, registers, &fault) ? (int)fault.vector : NO_FAULT;
}

int hypercall_make(struct hypercall_registers *registers)
{
    return make(hypercall_run64, registers);
}

/*
 * The page is moved for the call: a KVM that emulates ring 0 was observed to cache decoded instructions by their address
 * alone, and to execute the 64-bit ones in 32-bit code.
 */
int hypercall_make32(struct hypercall_registers *registers)
{
    uint64_t entry64 = hypercall_entry;
    if (!entry32)
        entry32 = (uint64_t)pages_allocate_zeroed(1);
    hypercall_entry = entry32;
    wrmsr(HV_MSR_HYPERCALL, entry32 | HV_PAGE_ENABLE);
    int vector = make(hypercall_run32, registers);
    hypercall_entry = entry64;
    wrmsr(HV_MSR_HYPERCALL, entry64 | HV_PAGE_ENABLE);
    return vector;
}

static void expect_no_fault(int vector, uint64_t input)
{
    if (vector != NO_FAULT) {
        print("the hypercall %016lx raised exception %d\n", input, vector);
        machine_exit(EXIT_UNEXPECTED_EXCEPTION);
    }
}

uint64_t hypercall(uint64_t input, uint64_t first, uint64_t second)
{
    struct hypercall_registers registers = {.rcx = input, .rdx = first, .r8 = second};
    expect_no_fault(hypercall_make(&registers), input);
    return registers.rax;
}

uint64_t hypercall32(uint64_t input, uint64_t first, uint64_t second)
{
    struct hypercall_registers registers = {
        .rdx = input >> 32,
        .rax = (uint32_t)input,
        .rbx = first >> 32,
        .rcx = (uint32_t)first,
        .rdi = second >> 32,
        .rsi = (uint32_t)second,
    };
    expect_no_fault(hypercall_make32(&registers), input);
    return (uint64_t)(uint32_t)registers.rdx << 32 | (uint32_t)registers.rax;
}

uint64_t hypercall_xmm(uint64_t input, const void *parameters, size_t length)
{
    struct hypercall_registers registers = {.rcx = input | CALL_FAST};
    uint64_t block[2 + 2 * XMM_PARAMETERS] = {0};
    memcpy(block, parameters, length);
    registers.rdx = block[0];
    registers.r8 = block[1];
    memcpy(registers.xmm, block + 2, sizeof registers.xmm);
    expect_no_fault(hypercall_make(&registers), input);
    return registers.rax;
}
