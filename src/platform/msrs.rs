//! Model-specific registers (MSRs) that a device handles instead of KVM.

use std::ops::Range;

use super::claims::Claims;
use crate::host::lock::Mutex;

/// A device with MSRs. `vp` is the index of the VP that executes the instruction.
pub trait MsrDevice: Send {
    /// Handles RDMSR; `None` raises #GP.
    fn read(&mut self, vp: u32, number: u32) -> Option<u64>;
    /// Handles WRMSR; `false` raises #GP.
    fn write(&mut self, vp: u32, number: u32, value: u64) -> bool;
}

/// The reason why MSRs cannot be claimed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MSRs {:#x}..{:#x}: {problem}", range.start, range.end)]
pub struct MsrError {
    /// The requested range.
    pub range: Range<u32>,
    /// The problem.
    pub problem: &'static str,
}

/// The MSRs of one machine that devices handle.
#[derive(Default)]
pub struct MsrBus {
    claims: Claims<u32, Mutex<Box<dyn MsrDevice>>>,
}

impl MsrBus {
    /// The local APIC's registers in x2APIC mode, which KVM always handles itself (KVM documentation,
    /// `KVM_X86_SET_MSR_FILTER`).
    const X2APIC: Range<u32> = 0x800..0x900;
    /// Maximum length of a range in KVM's filter: 0x600 bytes of bits.
    const LONGEST: u32 = 0x3000;
    /// Maximum number of ranges of devices. KVM's filter has 16 ranges; the Hyper-V engines use up to six.
    const MOST: usize = 10;

    /// Attaches `device` to the MSRs of `range`.
    ///
    /// # Errors
    /// Returns an error for a range that is empty, too long for KVM, overlaps another, or is always handled by KVM.
    pub fn attach(&mut self, range: Range<u32>, device: Box<dyn MsrDevice>) -> Result<(), MsrError> {
        let refused = |problem| Err(MsrError { range: range.clone(), problem });
        if range.is_empty() {
            return refused("the range has no MSR");
        }
        if range.end - range.start > Self::LONGEST {
            return refused("KVM filters at most 12,288 MSRs in one range");
        }
        if range.start < Self::X2APIC.end && Self::X2APIC.start < range.end {
            return refused("0x800..0x900 are the local APIC's, which KVM does not hand over");
        }
        if self.claims.ranges().count() >= Self::MOST {
            return refused("KVM has room for 10 ranges of MSRs beside Hyper-V's");
        }
        match self.claims.insert(range.clone(), Mutex::new(device)) {
            Ok(()) => Ok(()),
            Err(_) => refused("another device answers some of them"),
        }
    }

    /// Returns the ranges for KVM's filter: first MSR and count.
    pub fn filtered(&self) -> Vec<(u32, u32)> {
        self.claims.ranges().map(|range| (range.start, range.end - range.start)).collect()
    }

    /// Handles RDMSR by a device, or returns `None` if no device claims the MSR. `Some(None)` is #GP.
    pub fn read(&self, vp: u32, number: u32) -> Option<Option<u64>> {
        self.claims.find(number).map(|(_, device)| device.lock().read(vp, number))
    }

    /// Handles WRMSR by a device, or returns `None` if no device claims the MSR. `Some(false)` is #GP.
    pub fn write(&self, vp: u32, number: u32, value: u64) -> Option<bool> {
        self.claims.find(number).map(|(_, device)| device.lock().write(vp, number, value))
    }
}

#[cfg(test)]
#[path = "msrs_tests.rs"]
mod tests;
