/*
 * Makes hypercalls by both calling conventions, with control of every register (TLFS, "Hypercall Interface").
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Call codes. */
#define CALL_FLUSH_SPACE 0x0002
#define CALL_FLUSH_LIST 0x0003
#define CALL_NOTIFY_LONG_SPIN_WAIT 0x0008
#define CALL_SEND_IPI 0x000b
#define CALL_FLUSH_SPACE_EX 0x0013
#define CALL_FLUSH_LIST_EX 0x0014
#define CALL_SEND_IPI_EX 0x0015
#define CALL_GET_VP_REGISTERS 0x0050
#define CALL_SET_VP_REGISTERS 0x0051
#define CALL_POST_MESSAGE 0x005c
#define CALL_SIGNAL_EVENT 0x005d
#define CALL_START_VIRTUAL_PROCESSOR 0x0099
#define CALL_GET_VP_INDEX_FROM_APIC_ID 0x009a
#define CALL_EXT_QUERY_CAPABILITIES 0x8001
#define CALL_EXT_GET_BOOT_ZEROED_MEMORY 0x8002
#define CALL_EXT_MEMORY_HEAT_HINT 0x8003

/* The other fields of the input value. */
#define CALL_FAST (1ULL << 16)
#define CALL_VARIABLE(qwords) ((uint64_t)(qwords) << 17)
#define CALL_NESTED (1ULL << 31)
#define CALL_REPS(count) ((uint64_t)(count) << 32)
#define CALL_START(index) ((uint64_t)(index) << 48)
/* Bits 30 to 27, 47 to 44 and 63 to 60. */
#define CALL_RESERVED 0xf000f00078000000ULL

/* The two fields of the result value: HV_STATUS and the reps completed. */
#define STATUS_SUCCESS 0x00
#define STATUS_INVALID_HYPERCALL_CODE 0x02
#define STATUS_INVALID_HYPERCALL_INPUT 0x03
#define STATUS_INVALID_ALIGNMENT 0x04
#define STATUS_INVALID_PARAMETER 0x05
#define STATUS_ACCESS_DENIED 0x06
#define STATUS_OPERATION_DENIED 0x08
#define STATUS_INVALID_PARTITION_ID 0x0d
#define STATUS_INVALID_VP_INDEX 0x0e
#define STATUS_INVALID_PORT_ID 0x11
#define STATUS_INVALID_CONNECTION_ID 0x12
#define STATUS_INSUFFICIENT_BUFFERS 0x13
#define STATUS_INVALID_VP_STATE 0x15
#define STATUS_INVALID_SYNIC_STATE 0x18
#define STATUS_INVALID_REGISTER_VALUE 0x50
#define RESULT_STATUS(result) ((result) & 0xffff)
#define RESULT_REPS(result) ((result) >> 32 & 0xfff)

#define HV_PARTITION_SELF UINT64_MAX
#define HV_VP_SELF 0xfffffffeU
#define HV_VP_ANY 0xffffffffU

#define XMM_PARAMETERS 6

/* Values of the registers before and after a call. The 32-bit convention uses the low halves of the first eight. */
struct hypercall_registers {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t padding;
    uint64_t xmm[XMM_PARAMETERS][2];
};
_Static_assert(offsetof(struct hypercall_registers, xmm) == 128, "hypercall_run.S relies on it");

/*
 * Writes GUEST_OS_ID and enables the hypercall page at a page of the image. Returns false if a register refuses the value.
 * May be called again; the page stays where it was placed first.
 */
bool hypercall_enable(void);
/* The address of the page, for callers that jump there themselves. */
uint64_t hypercall_page(void);

/*
 * Make the call with these registers, by either convention, and return NO_FAULT or the exception's vector. No other processor
 * may make calls at the same time as hypercall_make32, because it moves the page.
 */
int hypercall_make(struct hypercall_registers *registers);
int hypercall_make32(struct hypercall_registers *registers);

/* Makes a call that must not fault. The parameters are GPAs, or values if it is fast. Returns the result value. */
uint64_t hypercall(uint64_t input, uint64_t first, uint64_t second);
/* The same by the 32-bit convention, from 32-bit code. */
uint64_t hypercall32(uint64_t input, uint64_t first, uint64_t second);
/* The same with `length` bytes of fast parameters, up to 112; zeros follow. */
uint64_t hypercall_xmm(uint64_t input, const void *parameters, size_t length);
