//! Hypercalls: from a VP's registers to the dispatcher and back.

use kvm_bindings::kvm_regs;

use crate::hyperv::hypercall::{Host, Hypercalls, Mode, Outcome, Registers, XMM_REGISTERS};
use crate::hyperv::page::HypercallPage;
use crate::hyperv::types::{Fault, VpIndex};
use crate::kvm::Exception;
use crate::kvm::host::HostError;
use crate::kvm::vp::Vp;
use crate::memory::GuestMemory;

/// Whoever answers the calls of a partition's hypercall page.
pub(super) struct Calls<'a> {
    pub calls: &'a Hypercalls,
    pub page: &'a HypercallPage,
    pub memory: &'a GuestMemory,
    pub host: &'a dyn Host,
}

/// How a VP goes on after its call.
pub(super) struct Answer {
    registers: kvm_regs,
    exception: Option<Exception>,
}

impl Answer {
    /// Puts it into the VP.
    pub fn apply(self, vp: &mut Vp) {
        vp.set_synced_registers(&self.registers);
        if let Some(exception) = self.exception {
            vp.raise(exception);
        }
    }
}

impl Calls<'_> {
    /// Answers a write to the hypercall port. One that is not our page's is nobody's port.
    pub fn hypercall(&self, index: VpIndex, vp: &Vp) -> Result<Option<Answer>, HostError> {
        let mut general = vp.synced_registers();
        let Some(again) = self.page.call_again(general.rip) else { return Ok(None) };
        let mut registers = Registers::new(mode(vp));
        (registers.rax, registers.rbx, registers.rcx, registers.rdx) =
            (general.rax, general.rbx, general.rcx, general.rdx);
        (registers.rsi, registers.rdi, registers.r8) = (general.rsi, general.rdi, general.r8);
        let needs_xmm = self.calls.needs_xmm(&registers);
        if needs_xmm {
            registers.xmm.copy_from_slice(&vp.fpu()?.xmm[..XMM_REGISTERS]);
        }
        let mut exception = None;
        match self.calls.dispatch(index, self.host, self.memory, &mut registers) {
            Outcome::Done(_) => {}
            Outcome::Continue => general.rip = again,
            // The exception is the call's: it must not find the OUT half done.
            Outcome::Fault(fault) => {
                general.rip = again;
                exception = Some(match fault {
                    Fault::UndefinedOpcode => Exception::UndefinedOpcode,
                    Fault::GeneralProtection => Exception::GeneralProtection,
                });
            }
        }
        if registers.xmm_changed {
            let mut fpu = vp.fpu()?;
            fpu.xmm[..XMM_REGISTERS].copy_from_slice(&registers.xmm);
            vp.set_fpu(&fpu)?;
        }
        (general.rax, general.rbx, general.rcx, general.rdx) =
            (registers.rax, registers.rbx, registers.rcx, registers.rdx);
        (general.rsi, general.rdi, general.r8) = (registers.rsi, registers.rdi, registers.r8);
        Ok(Some(Answer { registers: general, exception }))
    }

    /// Answers a doorbell that has rung for nobody.
    pub fn doorbell(&self, index: VpIndex, vp: &Vp, connection: u32) -> Option<Answer> {
        let mut general = vp.synced_registers();
        let after = self.page.after_doorbell(general.rip)?;
        if !mode(vp).may_call() {
            return Some(Answer { registers: general, exception: Some(Exception::UndefinedOpcode) });
        }
        general.rip = after;
        general.rax = self.calls.doorbell(index, self.host, connection).0.into();
        Some(Answer { registers: general, exception: None })
    }
}

/// The state that decides who may call, and by which convention.
fn mode(vp: &Vp) -> Mode {
    const CR0_PE: u64 = 1;
    const EFER_LMA: u64 = 1 << 10;
    let system = vp.synced_system_registers();
    Mode {
        protected: system.cr0 & CR0_PE != 0,
        cpl: system.ss.dpl,
        long: system.efer & EFER_LMA != 0 && system.cs.l != 0,
    }
}
