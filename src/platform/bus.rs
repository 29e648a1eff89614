//! The I/O port space of one machine: finds the device for a port.
//!
//! An access belongs to the device that claims its first port. Bytes past the end of that device's range belong to no
//! device: they read as ones, like an undriven ISA bus, and are ignored on writes.
//!
//! Devices are attached before the VPs run. After that, the look-up needs no lock, and each device has its own.

use std::ops::Range;
use std::sync::Arc;

use super::claims::Claims;
use super::{PortDevice, PowerEvent};
use crate::host::lock::Mutex;

/// A device on the bus. The code that attached it may keep another handle.
pub type SharedDevice = Arc<Mutex<dyn PortDevice>>;

/// Wraps a device that is accessed only through its ports.
pub fn shared(device: impl PortDevice + 'static) -> SharedDevice {
    Arc::new(Mutex::new(device))
}

/// The reason why a device cannot be attached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortRangeError {
    /// Part of the range belongs to another device.
    #[error("ports {:#x} to {:#x} overlap ports {:#x} to {:#x}, which another device answers",
        wanted.start, wanted.end - 1, taken.start, taken.end - 1)]
    Overlap {
        /// The requested range.
        wanted: Range<u16>,
        /// The existing range.
        taken: Range<u16>,
    },
    /// The range is empty, or starts below the device's origin.
    #[error("ports {:#x}..{:#x}, counted from {origin:#x}, are not a range for a device", wanted.start, wanted.end)]
    Range {
        /// The requested range.
        wanted: Range<u16>,
        /// The device's origin.
        origin: u16,
    },
}

struct Claim {
    origin: u16,
    device: SharedDevice,
}

/// The port space; see the module's description.
#[derive(Default)]
pub struct PortBus {
    claims: Claims<u16, Claim>,
}

impl PortBus {
    /// Creates a bus without devices.
    pub fn new() -> Self {
        Self::default()
    }

    /// Attaches `device` to `ports`, which it sees as offsets from port `origin`.
    ///
    /// A device with several ranges is attached once for each, with the same origin.
    ///
    /// # Errors
    /// Returns an error for an empty range, or one that overlaps another.
    pub fn attach(&mut self, ports: Range<u16>, origin: u16, device: SharedDevice) -> Result<(), PortRangeError> {
        if ports.is_empty() || ports.start < origin {
            return Err(PortRangeError::Range { wanted: ports, origin });
        }
        let claim = Claim { origin, device };
        self.claims.insert(ports.clone(), claim).map_err(|taken| PortRangeError::Overlap { wanted: ports, taken })
    }

    /// Fills `data` with the result of a read at `port`.
    pub fn read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((ports, claim)) = self.claims.find(port) {
            let length = reach(ports, port, data.len());
            claim.device.lock().read(port - claim.origin, &mut data[..length]);
        }
    }

    /// Writes `data` at `port`. Returns an event for the machine, if there is one.
    pub fn write(&self, port: u16, data: &[u8]) -> Option<PowerEvent> {
        let (ports, claim) = self.claims.find(port)?;
        let length = reach(ports, port, data.len());
        claim.device.lock().write(port - claim.origin, &data[..length])
    }

    /// String input: fills `data` with reads of `size` bytes at `port`.
    pub fn read_repeated(&self, port: u16, data: &mut [u8], size: usize) {
        data.chunks_mut(size.max(1)).for_each(|item| self.read(port, item));
    }

    /// String output: writes `data` in units of `size` bytes to `port`. Stops at the first event for the machine.
    pub fn write_repeated(&self, port: u16, data: &[u8], size: usize) -> Option<PowerEvent> {
        data.chunks(size.max(1)).find_map(|item| self.write(port, item))
    }
}

/// Returns how many of `length` bytes from `port` are inside the range.
fn reach(ports: &Range<u16>, port: u16, length: usize) -> usize {
    length.min(usize::from(ports.end - port))
}

#[cfg(test)]
#[path = "bus_tests.rs"]
mod tests;
