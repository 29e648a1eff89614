/*
 * The tests of the hypercall image, and helpers to make calls.
 */
#pragma once

#include "counter.h"
#include "hypercall.h"
#include "hyperv.h"
#include "runtime.h"

/* A call code that is not defined. */
#define CALL_UNKNOWN 0x7777

/* Two pages for parameters in memory, used by the boot processor. */
extern uint8_t *call_input, *call_output;

static inline uint64_t gpa(const void *pointer)
{
    return (uint64_t)pointer;
}

/* Header of the calls that name registers. */
struct vp_registers {
    uint64_t partition;
    uint32_t vp;
    uint8_t vtl, reserved[3];
};
/* Header of HvCallGetVpIndexFromApicId. */
struct apic_ids {
    uint64_t partition;
    uint8_t vtl, padding[7];
};

/* Fills the input page with the header and the APIC ids of `count` processors, round robin. */
void put_apic_ids(unsigned count);
/* Returns true if KVM itself answers this call, on the kernel engine. */
bool is_answered_by_kvm(uint16_t code);
/* Makes a call with this input value and the parameters in call_input, and returns its status. */
static inline uint64_t status_of(uint64_t input)
{
    return RESULT_STATUS(hypercall(input, gpa(call_input), gpa(call_output)));
}

void before_guest_os_id(void);
void privilege_level(void);
void unknown_codes(void);
void input_value(void);
void addresses(void);
void repetition(void);
void fast(void);
void protected_mode(void);
void preserved_registers(void);
void messages_and_events(void);
void vp_registers(void);
void interrupts(void);
void flushes(void);
void extended(void);
void start_vp(void);
void all_at_once(void);
