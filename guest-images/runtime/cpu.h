/*
 * Single instructions as functions: ports, MSRs, control registers, CPUID, TSC, interrupt flag.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

static inline void out8(uint16_t port, uint8_t value)
{
    asm volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out16(uint16_t port, uint16_t value)
{
    asm volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out32(uint16_t port, uint32_t value)
{
    asm volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t in8(uint16_t port)
{
    uint8_t value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline uint16_t in16(uint16_t port)
{
    uint16_t value;
    asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline uint32_t in32(uint16_t port)
{
    uint32_t value;
    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

/* Access to MSRs that are known to exist. The functions in fault.h also handle a #GP. */
static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t low, high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return (uint64_t)high << 32 | low;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
    asm volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid_subleaf(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid result;
    asm volatile("cpuid"
                 : "=a"(result.eax), "=b"(result.ebx), "=c"(result.ecx), "=d"(result.edx)
                 : "a"(leaf), "c"(subleaf));
    return result;
}

static inline struct cpuid cpuid(uint32_t leaf)
{
    return cpuid_subleaf(leaf, 0);
}

/* Reads the time stamp counter after all preceding instructions have completed. */
static inline uint64_t rdtsc(void)
{
    uint32_t low, high;
    asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

static inline uint64_t read_cr2(void)
{
    uint64_t value;
    asm volatile("mov %%cr2, %0" : "=r"(value));
    return value;
}

static inline uint64_t read_cr3(void)
{
    uint64_t value;
    asm volatile("mov %%cr3, %0" : "=r"(value));
    return value;
}

/* Invalidates all non-global TLB entries of this processor. */
static inline void flush_translations(void)
{
    asm volatile("mov %0, %%cr3" : : "r"(read_cr3()) : "memory");
}

static inline void invalidate_page(uint64_t address)
{
    asm volatile("invlpg (%0)" : : "r"(address) : "memory");
}

static inline void interrupts_on(void)
{
    asm volatile("sti" : : : "memory");
}

static inline void interrupts_off(void)
{
    asm volatile("cli" : : : "memory");
}

/* Halts with interrupts enabled, and returns with them disabled. A pending interrupt ends the halt at once. */
static inline void wait_for_interrupt(void)
{
    asm volatile("sti; hlt; cli" : : : "memory");
}

/* Handles pending interrupts. The NOP is needed because STI delays interrupts by one instruction. */
static inline void take_interrupts(void)
{
    asm volatile("sti; nop; cli" : : : "memory");
}

static inline void relax(void)
{
    asm volatile("pause" : : : "memory");
}

static inline _Noreturn void halt_forever(void)
{
    for (;;)
        asm volatile("cli; hlt" : : : "memory");
}
