//! The I/O port space of one machine: which device answers which port.
//!
//! An access belongs to the device that claims its first port. Bytes past the end of that device's range
//! belong to nobody: they read as ones, as an undriven ISA bus does, and are dropped when written. So a
//! PCI configuration access to port 0xcf8, which nobody claims, never reaches the reset register at 0xcf9.
//!
//! Devices are attached before the VPs run. From then on the look-up needs no lock, and each device has its own.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{PortDevice, PowerEvent};

/// A device on the bus. Whoever attached it may keep another handle, to feed it from outside.
pub type SharedDevice = Arc<Mutex<dyn PortDevice>>;

/// Wraps a device that only its ports lead to.
pub fn shared(device: impl PortDevice + 'static) -> SharedDevice {
    Arc::new(Mutex::new(device))
}

/// Locks a device. One whose lock is poisoned goes on: a device's state is plain data, valid after any write.
pub(super) fn lock<T: ?Sized>(device: &Mutex<T>) -> MutexGuard<'_, T> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a device cannot be attached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// Part of the range belongs to another device.
    #[error("ports {:#x} to {:#x} overlap ports {:#x} to {:#x}, which another device answers",
        wanted.start, wanted.end - 1, taken.start, taken.end - 1)]
    Overlap {
        /// The range asked for.
        wanted: Range<u16>,
        /// The range that is there already.
        taken: Range<u16>,
    },
    /// The range has no port, or starts below the port that its device counts from.
    #[error("ports {:#x}..{:#x}, counted from {origin:#x}, are not a range for a device", wanted.start, wanted.end)]
    Range {
        /// The range asked for.
        wanted: Range<u16>,
        /// The port that the device counts from.
        origin: u16,
    },
}

struct Claim {
    ports: Range<u16>,
    origin: u16,
    device: SharedDevice,
}

/// The port space. See the module's description.
#[derive(Default)]
pub struct PortBus {
    /// In ascending order of ports, disjoint.
    claims: Vec<Claim>,
}

impl PortBus {
    /// Creates a bus without devices.
    pub fn new() -> Self {
        Self::default()
    }

    /// Has `device` answer `ports`, which it sees as offsets from port `origin`.
    ///
    /// A device with several ranges is attached once for each, with the same origin.
    ///
    /// # Errors
    /// An empty range, or one that overlaps another.
    pub fn attach(&mut self, ports: Range<u16>, origin: u16, device: SharedDevice) -> Result<(), AttachError> {
        if ports.is_empty() || ports.start < origin {
            return Err(AttachError::Range { wanted: ports, origin });
        }
        let place = self.claims.partition_point(|claim| claim.ports.end <= ports.start);
        if let Some(other) = self.claims.get(place).filter(|other| other.ports.start < ports.end) {
            return Err(AttachError::Overlap { wanted: ports, taken: other.ports.clone() });
        }
        self.claims.insert(place, Claim { ports, origin, device });
        Ok(())
    }

    /// Fills `data` with what a read of that many bytes at `port` gives.
    pub fn read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        if let Some(claim) = self.find(port) {
            let length = claim.reach(port, data.len());
            lock(&claim.device).read(port - claim.origin, &mut data[..length]);
        }
    }

    /// Writes `data` at `port`, and says what the machine must do about it.
    pub fn write(&self, port: u16, data: &[u8]) -> Option<PowerEvent> {
        let claim = self.find(port)?;
        let length = claim.reach(port, data.len());
        lock(&claim.device).write(port - claim.origin, &data[..length])
    }

    /// String input: as many reads of `size` bytes at `port` as fill `data`.
    pub fn read_repeated(&self, port: u16, data: &mut [u8], size: usize) {
        data.chunks_mut(size.max(1)).for_each(|item| self.read(port, item));
    }

    /// String output: `data` in writes of `size` bytes to `port`. Ends at the first that the machine must act on.
    pub fn write_repeated(&self, port: u16, data: &[u8], size: usize) -> Option<PowerEvent> {
        data.chunks(size.max(1)).find_map(|item| self.write(port, item))
    }

    fn find(&self, port: u16) -> Option<&Claim> {
        let place = self.claims.partition_point(|claim| claim.ports.end <= port);
        self.claims.get(place).filter(|claim| claim.ports.contains(&port))
    }
}

impl Claim {
    /// How many of `length` bytes from `port` on are inside the claim.
    fn reach(&self, port: u16, length: usize) -> usize {
        length.min(usize::from(self.ports.end - port))
    }
}

#[cfg(test)]
#[path = "bus_tests.rs"]
mod tests;
