//! The state of a VP, to explain why its guest makes no progress.

use std::fmt;

use kvm_bindings::{KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_UNINITIALIZED};

use super::host::HostError;
use super::vp::Vp;
use super::vp_state::{APIC_IRR, APIC_ISR, APIC_TPR, RFLAGS_IF, apic_register, highest};

/// The state of a VP. Displayed, it follows a verb: "VP 0 was …".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The VP waits for an interrupt.
    halted: bool,
    rip: u64,
    /// The name of the code there, if it is known.
    pub symbol: Option<String>,
    interrupts_enabled: bool,
    /// The highest vector of each kind.
    pending: Option<u8>,
    in_service: Option<u8>,
    task_priority: u32,
    /// The engine waits for the VP to enable interrupts.
    awaits_window: bool,
}

impl Vp {
    /// Returns the state of the VP, or `None` while it waits for INIT or SIPI.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn standing(&mut self) -> Result<Option<Standing>, HostError> {
        let activity = self.fd.get_mp_state().map_err(HostError::call("a VP's activity"))?.mp_state;
        if matches!(activity, KVM_MP_STATE_UNINITIALIZED | KVM_MP_STATE_INIT_RECEIVED) {
            return Ok(None);
        }
        let (registers, apic) = (self.registers()?, self.apic()?);
        Ok(Some(Standing {
            halted: activity == KVM_MP_STATE_HALTED,
            rip: registers.rip,
            symbol: None,
            interrupts_enabled: registers.rflags & RFLAGS_IF != 0,
            pending: highest(&apic, APIC_IRR),
            in_service: highest(&apic, APIC_ISR),
            task_priority: apic_register(&apic, APIC_TPR),
            awaits_window: self.fd.get_kvm_run().request_interrupt_window != 0,
        }))
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.halted { "halted" } else { "running" };
        let interrupts = if self.interrupts_enabled { "on" } else { "off" };
        write!(formatter, "{state} at {:#x}", self.rip)?;
        self.symbol.as_ref().map_or(Ok(()), |symbol| write!(formatter, " ({symbol})"))?;
        write!(formatter, " with interrupts {interrupts}")?;
        for (vector, what) in [(self.pending, "pending"), (self.in_service, "in service")] {
            vector.map_or(Ok(()), |vector| write!(formatter, ", vector {vector:#x} {what}"))?;
        }
        if self.task_priority != 0 {
            write!(formatter, ", task priority {:#x}", self.task_priority)?;
        }
        formatter.write_str(if self.awaits_window { ", an AutoEOI interrupt waiting" } else { "" })
    }
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
