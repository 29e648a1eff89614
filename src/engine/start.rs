//! HvCallStartVirtualProcessor: sets the state of a waiting VP to the one in the call.

use kvm_bindings::{kvm_dtable, kvm_segment};

use crate::hyperv::hypercall::{InitialVpContext, SegmentRegister, TableRegister};
use crate::hyperv::status::{HvResult, HvStatus};
use crate::kvm::host::HostError;
use crate::kvm::vp::Vp;

/// IA32_PAT.
const IA32_PAT: u32 = 0x277;

/// Starts a VP that waits for INIT or SIPI.
pub(super) fn start(vp: &Vp, context: &InitialVpContext) -> Result<HvResult<()>, HostError> {
    if !vp.awaits_start()? {
        return Ok(Err(HvStatus::INVALID_VP_STATE));
    }
    let mut system = vp.system_registers()?;
    let before = system;
    system.cs = segment(&context.cs);
    system.ds = segment(&context.ds);
    system.es = segment(&context.es);
    system.fs = segment(&context.fs);
    system.gs = segment(&context.gs);
    system.ss = segment(&context.ss);
    system.tr = segment(&context.tr);
    system.ldt = segment(&context.ldtr);
    system.idt = table(&context.idtr);
    system.gdt = table(&context.gdtr);
    (system.efer, system.cr0, system.cr3, system.cr4) = (context.efer, context.cr0, context.cr3, context.cr4);
    let mut general = vp.registers()?;
    (general.rip, general.rsp, general.rflags) = (context.rip, context.rsp, context.rflags);
    // KVM checks whether the state is valid.
    let taken = vp.set_system_registers(&system).and_then(|()| vp.set_registers(&general));
    if taken.is_err() || !vp.write_msr(IA32_PAT, context.pat) {
        vp.set_system_registers(&before)?;
        return Ok(Err(HvStatus::INVALID_PARAMETER));
    }
    vp.start().map(Ok)
}

fn segment(register: &SegmentRegister) -> kvm_segment {
    let attributes = register.attributes;
    let bit = |bit: u16| (attributes >> bit & 1) as u8;
    let present = bit(7);
    kvm_segment {
        base: register.base,
        limit: register.limit,
        selector: register.selector,
        type_: (attributes & 0xf) as u8,
        s: bit(4),
        dpl: (attributes >> 5 & 3) as u8,
        present,
        avl: bit(12),
        l: bit(13),
        db: bit(14),
        g: bit(15),
        unusable: 1 - present,
        padding: 0,
    }
}

fn table(register: &TableRegister) -> kvm_dtable {
    kvm_dtable { base: register.base, limit: register.limit, ..Default::default() }
}
