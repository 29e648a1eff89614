//! `HV_VP_SET`: a set of virtual processors.

use std::fmt;

use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::types::VpIndex;

/// `HV_GENERIC_SET_SPARSE_4K`.
pub const FORMAT_SPARSE: u64 = 0;
/// `HV_GENERIC_SET_ALL`.
pub const FORMAT_ALL: u64 = 1;
const BANKS: usize = 64;

/// A set of up to 4096 virtual processors.
#[derive(Clone, PartialEq, Eq)]
pub struct VpSet {
    banks: Box<[u64; BANKS]>,
}

impl VpSet {
    /// Returns the empty set.
    pub fn none() -> Self {
        Self { banks: Box::new([0; BANKS]) }
    }

    /// Returns the set of all VPs that a partition can have.
    pub fn all() -> Self {
        Self { banks: Box::new([u64::MAX; BANKS]) }
    }

    /// Returns the VPs 0 to 63 in a processor mask.
    pub fn from_mask(mask: u64) -> Self {
        let mut set = Self::none();
        set.banks[0] = mask;
        set
    }

    /// Reads a generic set: its two fixed fields, and the banks of the variable header.
    ///
    /// # Errors
    /// Returns an error if the number of banks does not match the bits in `valid_banks`, or if the format is unknown.
    pub fn from_generic(format: u64, valid_banks: u64, contents: &[u64]) -> HvResult<Self> {
        if contents.len() != valid_banks.count_ones() as usize {
            return Err(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        match format {
            FORMAT_ALL => Ok(Self::all()),
            FORMAT_SPARSE => {
                let mut set = Self::none();
                let valid = (0..BANKS).filter(|bank| valid_banks >> bank & 1 != 0);
                valid.zip(contents).for_each(|(bank, content)| set.banks[bank] = *content);
                Ok(set)
            }
            _ => Err(HvStatus::INVALID_PARAMETER),
        }
    }

    /// Returns `true` if the VP is in the set.
    pub fn contains(&self, vp: VpIndex) -> bool {
        self.banks.get(vp.0 as usize / 64).is_some_and(|bank| bank >> (vp.0 % 64) & 1 != 0)
    }

    /// Returns the members below `count`, in order.
    pub fn members(&self, count: u32) -> impl Iterator<Item = VpIndex> {
        (0..count.min(BANKS as u32 * 64)).map(VpIndex).filter(|vp| self.contains(*vp))
    }
}

impl fmt::Debug for VpSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.banks.iter().all(|bank| *bank == u64::MAX) {
            return f.write_str("all VPs");
        }
        f.debug_set().entries(self.members(u32::MAX).map(|vp| vp.0)).finish()
    }
}

#[cfg(test)]
#[path = "vp_set_tests.rs"]
mod tests;
