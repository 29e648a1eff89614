//! Passes hypercalls from a VP's registers to the dispatcher, and the results back.

use kvm_bindings::kvm_regs;

use crate::hyperv::hypercall::{CallOutcome, Host, Hypercalls, Mode, Registers, XMM_REGISTERS};
use crate::hyperv::page::HypercallPage;
use crate::hyperv::types::{Fault, VpIndex};
use crate::kvm::Exception;
use crate::kvm::host::HostError;
use crate::kvm::vp::Vp;
use crate::memory::GuestMemory;

/// Handles the calls that a partition's hypercall page makes.
pub(super) struct Calls<'a> {
    pub calls: &'a Hypercalls,
    pub page: &'a HypercallPage,
    pub memory: &'a GuestMemory,
    pub host: &'a dyn Host,
}

/// The state in which a VP continues after a call.
pub(super) struct Answer {
    registers: kvm_regs,
    exception: Option<Exception>,
}

impl Answer {
    /// Sets the state of the VP.
    pub fn apply(self, vp: &mut Vp) {
        vp.set_synced_registers(&self.registers);
        if let Some(exception) = self.exception {
            vp.raise(exception);
        }
    }
}

impl Calls<'_> {
    /// Handles a write to the hypercall port. Returns `None` if it does not come from the hypercall page: then it has no effect.
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
            CallOutcome::Done(_) => {}
            CallOutcome::Continue => general.rip = again,
            // The exception is raised at the call, so RIP must not be in the middle of the OUT.
            CallOutcome::Fault(fault) => {
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

    /// Handles a write to the signal port for a connection without an eventfd.
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

/// Returns the processor mode, which decides whether the VP may make hypercalls, and by which calling convention.
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
