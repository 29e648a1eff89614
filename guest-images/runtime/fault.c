/*
 * Continues execution after an expected exception.
 */
#include "fault.h"

#include "cpu.h"
#include "layout.h"
#include "smp.h"

#define RFLAGS_IOPL 0x3000ULL

struct fixup {
    uint32_t instruction, landing;
};

extern const struct fixup fixups_begin[], fixups_end[];
extern const char catch_fault_landing[];

bool fault_recover(struct interrupt_frame *frame)
{
    for (const struct fixup *fixup = fixups_begin; fixup < fixups_end; fixup++)
        if (fixup->instruction == frame->rip) {
            frame->rip = fixup->landing;
            frame->rsi = frame->vector;
            return true;
        }

    uint64_t *recovery = this_cpu()->recovery;
    bool is_about_the_machine = frame->vector == VECTOR_NMI || frame->vector == VECTOR_DOUBLE_FAULT ||
                                frame->vector == VECTOR_MACHINE_CHECK;
    if (!recovery || is_about_the_machine)
        return false;
    struct fault *fault = (struct fault *)recovery[1]; /* as catch_fault pushed it */
    *fault = (struct fault){frame->vector, frame->error_code, frame->rip, read_cr2()};
    frame->rip = (uint64_t)catch_fault_landing;
    frame->rsp = (uint64_t)recovery;
    /* The function may have switched to 32-bit code or to ring 3. */
    frame->cs = SELECTOR_CODE64;
    frame->ss = SELECTOR_DATA;
    frame->rflags &= ~RFLAGS_IOPL;
    return true;
}
