//! The ports of a switch, for the network behind its uplink.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use super::attachment::MIN_MTU;

/// Number of ports of a switch.
pub const MAX_PORTS: usize = 32;

/// Maximum size of an IP packet on a usual Ethernet.
pub const USUAL_MTU: u16 = 1500;

/// The port of a switch at which a frame arrived, which no guest can forge. Without a switch, it is the first port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwitchPort(u8);

impl SwitchPort {
    /// The first port.
    #[cfg(test)]
    pub const DEFAULT: Self = Self(0);

    /// Returns port number `index`, which is below [`MAX_PORTS`].
    pub fn new(index: usize) -> Self {
        Self((index % MAX_PORTS) as u8)
    }

    /// Returns its number.
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// The state of a switch's ports.
#[derive(Debug)]
pub struct Ports {
    mtus: [AtomicU16; MAX_PORTS],
    /// Number of times that something was plugged into each port.
    occupants: [AtomicU32; MAX_PORTS],
}

impl Default for Ports {
    fn default() -> Self {
        Self::with_mtu(USUAL_MTU)
    }
}

impl Ports {
    /// Creates ports whose guests all have this MTU.
    pub fn with_mtu(mtu: u16) -> Self {
        Self { mtus: std::array::from_fn(|_| AtomicU16::new(mtu)), occupants: Default::default() }
    }

    /// Records that a guest with this MTU was plugged in.
    pub fn plug(&self, port: SwitchPort, mtu: u16) {
        self.mtus[port.index()].store(mtu, Ordering::Relaxed);
        self.occupants[port.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the size of the largest IP packet that the port's guest accepts.
    pub fn mtu(&self, port: SwitchPort) -> u16 {
        self.mtus[port.index()].load(Ordering::Relaxed).max(MIN_MTU)
    }

    /// Returns a number that differs for each guest that was plugged in there.
    pub fn occupant(&self, port: SwitchPort) -> u32 {
        self.occupants[port.index()].load(Ordering::Relaxed)
    }
}
