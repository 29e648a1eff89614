//! The memory-mapped I/O (MMIO) space of one machine: finds the device for a guest physical address without memory.
//!
//! An access belongs to the device that claims its first byte. Bytes past the end of that device's range belong to no
//! device: they read as ones and are ignored on writes, as everywhere without a device.
//!
//! As on the [port bus](super::bus), devices are attached before the VPs run, and each has a lock of its own.

use std::ops::Range;
use std::sync::Arc;

use super::PowerEvent;
use super::claims::Claims;
use crate::host::lock::Mutex;

/// The end of physical addresses: no x86 processor has more than 52 bits of them.
const MAX_ADDRESS: u64 = 1 << 52;

/// A device at a range of guest physical addresses outside of memory.
///
/// `offset` is relative to the start of the device's range. `data` is 1 to 8 bytes long and never exceeds the range;
/// KVM splits longer accesses, and those that cross a page.
pub trait MmioDevice: Send {
    /// Fills `data` with what the guest reads.
    fn read(&mut self, offset: u64, data: &mut [u8]);
    /// Handles a write of the guest. Returns an event for the machine, if there is one.
    fn write(&mut self, offset: u64, data: &[u8]) -> Option<PowerEvent>;
}

/// The reason why an MMIO range cannot be claimed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MmioError {
    /// The range is empty.
    #[error("the MMIO range {:#x}..{:#x} has no address", .0.start, .0.end)]
    Empty(Range<u64>),
    /// The range ends beyond all physical addresses.
    #[error("the MMIO range {:#x}..{:#x} ends beyond {MAX_ADDRESS:#x}, where physical addresses end", .0.start, .0.end)]
    Beyond(Range<u64>),
    /// Part of the range is taken.
    #[error("the MMIO range {:#x}..{:#x} overlaps {:#x}..{:#x}, which is {by}", wanted.start, wanted.end, taken.start, taken.end)]
    Overlap {
        /// The requested range.
        wanted: Range<u64>,
        /// The existing range.
        taken: Range<u64>,
        /// Description of the existing range.
        by: &'static str,
    },
}

struct Claim {
    device: Arc<Mutex<dyn MmioDevice>>,
    what: &'static str,
}

/// The MMIO space; see the module's description.
#[derive(Default)]
pub struct MmioBus {
    claims: Claims<u64, Claim>,
    /// The ranges that never reach the bus, and what they are.
    reserved: Vec<(Range<u64>, &'static str)>,
}

impl MmioBus {
    /// Creates a bus without devices. `reserved` ranges cannot be claimed, for instance memory, whose accesses do not
    /// exit.
    pub fn new(reserved: Vec<(Range<u64>, &'static str)>) -> Self {
        Self { claims: Claims::default(), reserved }
    }

    /// Attaches `device` to `range`. `what` describes it in errors about overlaps.
    ///
    /// # Errors
    /// Returns an error for a range that is empty, ends beyond all physical addresses, or overlaps another.
    pub fn attach(
        &mut self,
        range: Range<u64>,
        what: &'static str,
        device: impl MmioDevice + 'static,
    ) -> Result<(), MmioError> {
        if range.is_empty() {
            return Err(MmioError::Empty(range));
        }
        if range.end > MAX_ADDRESS {
            return Err(MmioError::Beyond(range));
        }
        let overlaps = |other: &&(Range<u64>, _)| other.0.start < range.end && range.start < other.0.end;
        if let Some((taken, by)) = self.reserved.iter().find(overlaps) {
            return Err(MmioError::Overlap { wanted: range, taken: taken.clone(), by });
        }
        let claim = Claim { device: Arc::new(Mutex::new(device)), what };
        self.claims.insert(range.clone(), claim).map_err(|taken| {
            let by = self.claims.find(taken.start).map_or("another device's", |(_, claim)| claim.what);
            MmioError::Overlap { wanted: range, taken, by }
        })
    }

    /// Fills `data` with the result of a read at `address`.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((range, claim)) = self.claims.find(address) {
            let length = reach(range, address, data.len());
            claim.device.lock().read(address - range.start, &mut data[..length]);
        }
    }

    /// Writes `data` at `address`. Returns an event for the machine, if there is one.
    pub fn write(&self, address: u64, data: &[u8]) -> Option<PowerEvent> {
        let (range, claim) = self.claims.find(address)?;
        let length = reach(range, address, data.len());
        claim.device.lock().write(address - range.start, &data[..length])
    }
}

/// Returns how many of `length` bytes from `address` are inside the range.
fn reach(range: &Range<u64>, address: u64, length: usize) -> usize {
    usize::try_from(range.end - address).unwrap_or(usize::MAX).min(length)
}

#[cfg(test)]
#[path = "mmio_tests.rs"]
mod tests;
