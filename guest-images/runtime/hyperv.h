/*
 * The Hyper-V guest interface by its numbers (TLFS): CPUID leaves, features, MSRs; and which engine offers it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cpu.h"

#define CPUID_HYPERVISOR_PRESENT (1u << 31) /* leaf 1, ECX */
#define HV_LEAF_FIRST 0x40000000
#define HV_LEAF_INTERFACE 0x40000001
#define HV_LEAF_VERSION 0x40000002
#define HV_LEAF_FEATURES 0x40000003
#define HV_LEAF_HINTS 0x40000004
#define HV_LEAF_LIMITS 0x40000005
#define HV_LEAF_HARDWARE 0x40000006
#define HV_LEAF_NESTED 0x4000000a
#define HV_LEAF_LAST 0x4000000a

/* A feature is a bit of one of these registers. */
#define HV_WORD_REGISTERS 0 /* leaf 0x40000003, EAX: privileges for MSRs */
#define HV_WORD_CALLS 1     /* leaf 0x40000003, EBX: privileges for hypercalls */
#define HV_WORD_FEATURES 2  /* leaf 0x40000003, EDX */
#define HV_WORD_HINTS 3     /* leaf 0x40000004, EAX */
#define HV_WORDS 4
#define HV_FEATURE(word, bit) ((word) * 32 + (bit))

enum hv_feature {
    HV_ACCESS_VP_RUNTIME = HV_FEATURE(HV_WORD_REGISTERS, 0),
    HV_ACCESS_REFERENCE_COUNTER = HV_FEATURE(HV_WORD_REGISTERS, 1),
    HV_ACCESS_SYNIC = HV_FEATURE(HV_WORD_REGISTERS, 2),
    HV_ACCESS_TIMERS = HV_FEATURE(HV_WORD_REGISTERS, 3),
    HV_ACCESS_APIC = HV_FEATURE(HV_WORD_REGISTERS, 4),
    HV_ACCESS_HYPERCALL_MSRS = HV_FEATURE(HV_WORD_REGISTERS, 5),
    HV_ACCESS_VP_INDEX = HV_FEATURE(HV_WORD_REGISTERS, 6),
    HV_ACCESS_RESET = HV_FEATURE(HV_WORD_REGISTERS, 7),
    HV_ACCESS_REFERENCE_TSC = HV_FEATURE(HV_WORD_REGISTERS, 9),
    HV_ACCESS_GUEST_IDLE = HV_FEATURE(HV_WORD_REGISTERS, 10),
    HV_ACCESS_FREQUENCIES = HV_FEATURE(HV_WORD_REGISTERS, 11),
    HV_ACCESS_REENLIGHTENMENT = HV_FEATURE(HV_WORD_REGISTERS, 13),
    HV_ACCESS_TSC_INVARIANT = HV_FEATURE(HV_WORD_REGISTERS, 15),
    HV_POST_MESSAGES = HV_FEATURE(HV_WORD_CALLS, 4),
    HV_SIGNAL_EVENTS = HV_FEATURE(HV_WORD_CALLS, 5),
    HV_ACCESS_VP_REGISTERS = HV_FEATURE(HV_WORD_CALLS, 17),
    HV_EXTENDED_HYPERCALLS = HV_FEATURE(HV_WORD_CALLS, 20),
    HV_START_VIRTUAL_PROCESSOR = HV_FEATURE(HV_WORD_CALLS, 21),
    HV_XMM_INPUT = HV_FEATURE(HV_WORD_FEATURES, 4),
    HV_GUEST_IDLE = HV_FEATURE(HV_WORD_FEATURES, 5),
    HV_FREQUENCIES = HV_FEATURE(HV_WORD_FEATURES, 8),
    HV_CRASH_MSRS = HV_FEATURE(HV_WORD_FEATURES, 10),
    HV_FAST_OUTPUT = HV_FEATURE(HV_WORD_FEATURES, 15),
    HV_SINT_POLLING_MODE = HV_FEATURE(HV_WORD_FEATURES, 17),
    HV_HYPERCALL_LOCK = HV_FEATURE(HV_WORD_FEATURES, 18),
    HV_DIRECT_TIMERS = HV_FEATURE(HV_WORD_FEATURES, 19),
    HV_USE_FLUSHES = HV_FEATURE(HV_WORD_HINTS, 2),
    HV_USE_APIC_MSRS = HV_FEATURE(HV_WORD_HINTS, 3),
    HV_USE_RESET = HV_FEATURE(HV_WORD_HINTS, 4),
    HV_DEPRECATE_AUTO_EOI = HV_FEATURE(HV_WORD_HINTS, 9),
    HV_USE_CLUSTER_IPI = HV_FEATURE(HV_WORD_HINTS, 10),
    HV_USE_EX_MASKS = HV_FEATURE(HV_WORD_HINTS, 11),
};

/* Returns true if CPUID has the Hyper-V interface. */
bool hyperv_is_there(void);
/* Returns one of the four feature registers. They are read only once. */
uint32_t hyperv_word(unsigned word);
bool hyperv_has(enum hv_feature feature);
/*
 * Returns true on Viridian's kernel engine, where KVM itself is the hypervisor. The command line's `engine=user|kernel`
 * decides; by default, the hint for flush calls does, which the user engine never gives. docs/engines.md lists the
 * differences between the engines.
 */
bool hyperv_is_kernel_engine(void);

#define HV_MSR_GUEST_OS_ID 0x40000000
#define HV_MSR_HYPERCALL 0x40000001
#define HV_MSR_VP_INDEX 0x40000002
#define HV_MSR_RESET 0x40000003
#define HV_MSR_VP_RUNTIME 0x40000010
#define HV_MSR_TIME_REF_COUNT 0x40000020
#define HV_MSR_REFERENCE_TSC 0x40000021
#define HV_MSR_TSC_FREQUENCY 0x40000022
#define HV_MSR_APIC_FREQUENCY 0x40000023
#define HV_MSR_EOI 0x40000070
#define HV_MSR_ICR 0x40000071
#define HV_MSR_TPR 0x40000072
#define HV_MSR_VP_ASSIST_PAGE 0x40000073
#define HV_MSR_SCONTROL 0x40000080
#define HV_MSR_SVERSION 0x40000081
#define HV_MSR_SIEFP 0x40000082
#define HV_MSR_SIMP 0x40000083
#define HV_MSR_EOM 0x40000084
#define HV_MSR_SINT(sint) (0x40000090 + (sint))
#define HV_MSR_STIMER_CONFIG(timer) (0x400000b0 + 2 * (timer))
#define HV_MSR_STIMER_COUNT(timer) (0x400000b1 + 2 * (timer))
#define HV_MSR_GUEST_IDLE 0x400000f0
#define HV_MSR_CRASH_PARAMETER(index) (0x40000100 + (index))
#define HV_MSR_CRASH_CONTROL 0x40000105
#define HV_MSR_REENLIGHTENMENT_CONTROL 0x40000106
#define HV_MSR_TSC_EMULATION_CONTROL 0x40000107
#define HV_MSR_TSC_EMULATION_STATUS 0x40000108
#define HV_MSR_TSC_INVARIANT_CONTROL 0x40000118
/* All MSRs of the interface are below this number. */
#define HV_MSR_FIRST 0x40000000
#define HV_MSR_END 0x40000200

#define HV_SINTS 16
#define HV_TIMERS 4
#define HV_CRASH_PARAMETERS 5

/* Bits of HYPERCALL, and the first one of all MSRs that place a page. */
#define HV_PAGE_ENABLE 1ULL
#define HV_HYPERCALL_LOCKED 2ULL

#define HV_SINT_MASKED (1ULL << 16)
#define HV_SINT_AUTO_EOI (1ULL << 17)
#define HV_SINT_POLLING (1ULL << 18)
/* The lowest vector of a SINT. */
#define HV_FIRST_VECTOR 16

/* Bits of STIMERn_CONFIG. */
#define HV_TIMER_ENABLE 1ULL
#define HV_TIMER_PERIODIC 2ULL
#define HV_TIMER_LAZY 4ULL
#define HV_TIMER_AUTO_ENABLE 8ULL
#define HV_TIMER_VECTOR(vector) ((uint64_t)(vector) << 4)
#define HV_TIMER_DIRECT (1ULL << 12)
#define HV_TIMER_SINT(sint) ((uint64_t)(sint) << 16)
#define HV_TIMER_RESERVED 0xfffffffffff0e000ULL

#define HV_CRASH_NOTIFY (1ULL << 63)
#define HV_CRASH_MESSAGE (1ULL << 62)

/* A nonzero GUEST_OS_ID: an open-source OS, of no particular kind. */
#define HV_GUEST_OS_ID_TEST 0x8f00000000000001ULL

/* The end of the highest range in the boot protocol's memory map. */
uint64_t memory_end(void);
/* The address of a page without memory or device that the processor can address. */
uint64_t page_of_nothing(void);
/* VP_INDEX of the calling processor. */
static inline uint32_t hyperv_vp_index(void)
{
    return rdmsr(HV_MSR_VP_INDEX);
}
/* Runs function(argument) on every processor, one after the other. It is a failed check if one exceeds the time limit. */
void on_each_vp(void (*function)(void *argument), void *argument);

/* Reference time, in units of 100 ns. */
static inline uint64_t reference_time(void)
{
    return rdmsr(HV_MSR_TIME_REF_COUNT);
}
#define REFERENCE_UNITS_PER_MILLISECOND 10000ULL
