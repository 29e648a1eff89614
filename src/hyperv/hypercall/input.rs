//! The hypercall input value and the result value (TLFS, "Hypercall Inputs" and "Hypercall Outputs").

use super::CallCode;
use crate::hyperv::status::HvStatus;

/// The 64-bit word that selects the call and its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HypercallInput(pub u64);

impl HypercallInput {
    /// Bits 30 to 27, 47 to 44 and 63 to 60 must be zero, and so must bit 31 (Is Nested), because we have no nested
    /// hypervisor.
    pub(crate) const RESERVED: u64 = 0xf000_f000_f800_0000;

    /// Creates a simple call with its parameters in memory.
    pub(crate) const fn new(code: CallCode) -> Self {
        Self(code.0 as u64)
    }

    /// Returns the call code.
    pub const fn code(self) -> CallCode {
        CallCode(self.0 as u16)
    }

    /// Returns `true` if the parameters are in registers.
    pub const fn fast(self) -> bool {
        self.0 >> 16 & 1 != 0
    }

    /// Returns the size of the variable header in units of 8 bytes.
    pub(crate) const fn variable_header(self) -> usize {
        (self.0 >> 17 & 0x3ff) as usize
    }

    /// Returns the number of reps.
    pub const fn rep_count(self) -> usize {
        (self.0 >> 32 & 0xfff) as usize
    }

    /// Returns the first rep that remains to be done.
    pub const fn rep_start(self) -> usize {
        (self.0 >> 48 & 0xfff) as usize
    }

    /// Returns `true` if all reserved bits are zero.
    pub(crate) const fn is_well_formed(self) -> bool {
        self.0 & Self::RESERVED == 0
    }

    /// Returns a copy whose parameters are in registers.
    #[must_use]
    pub(crate) const fn with_fast(self) -> Self {
        Self(self.0 | 1 << 16)
    }

    /// Returns a copy with a variable header of this many units of 8 bytes.
    #[cfg(test)]
    #[must_use]
    pub(crate) const fn with_variable_header(self, qwords: usize) -> Self {
        Self(self.0 | (qwords as u64 & 0x3ff) << 17)
    }

    /// Returns a copy with this rep count.
    #[cfg(test)]
    #[must_use]
    pub(crate) const fn with_rep_count(self, count: usize) -> Self {
        Self(self.0 & !(0xfff << 32) | (count as u64 & 0xfff) << 32)
    }

    /// Returns a copy with this rep start index.
    #[must_use]
    pub(crate) const fn with_rep_start(self, index: usize) -> Self {
        Self(self.0 & !(0xfff << 48) | (index as u64 & 0xfff) << 48)
    }
}

/// The 64-bit word that a call returns in RAX or EDX:EAX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HypercallResult {
    /// The status of the call.
    pub status: HvStatus,
    /// Number of completed reps, counted from the first of the list; 0 for simple calls.
    pub reps_completed: usize,
}

impl HypercallResult {
    /// Returns the word.
    pub(crate) const fn bits(self) -> u64 {
        self.status.0 as u64 | (self.reps_completed as u64 & 0xfff) << 32
    }
}

impl From<HvStatus> for HypercallResult {
    fn from(status: HvStatus) -> Self {
        Self { status, reps_completed: 0 }
    }
}

#[cfg(test)]
#[path = "input_tests.rs"]
mod tests;
