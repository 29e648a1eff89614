//! The ports of a switch, as a network behind its uplink knows them.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use super::attachment::MIN_MTU;

/// How many ports a switch has.
pub const MAX_PORTS: usize = 32;

/// The longest IP packet of a usual Ethernet.
pub const USUAL_MTU: u16 = 1500;

/// The port of a switch that a frame came in by, which no guest can forge. The first where there is no switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwitchPort(u8);

impl SwitchPort {
    /// The first port.
    pub const DEFAULT: Self = Self(0);

    /// Port number `index`. A switch has no more than [`MAX_PORTS`].
    pub fn new(index: usize) -> Self {
        Self((index % MAX_PORTS) as u8)
    }

    /// Returns its number.
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// What a switch says of its ports.
#[derive(Debug)]
pub struct Ports {
    mtus: [AtomicU16; MAX_PORTS],
    /// Counts who was plugged in.
    occupants: [AtomicU32; MAX_PORTS],
}

impl Default for Ports {
    fn default() -> Self {
        Self::with_mtu(USUAL_MTU)
    }
}

impl Ports {
    /// Ports whose guests all have that MTU.
    pub fn with_mtu(mtu: u16) -> Self {
        Self { mtus: std::array::from_fn(|_| AtomicU16::new(mtu)), occupants: Default::default() }
    }

    /// Somebody with that MTU was plugged in.
    pub fn plug(&self, port: SwitchPort, mtu: u16) {
        self.mtus[port.index()].store(mtu, Ordering::Relaxed);
        self.occupants[port.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the longest IP packet that the port's guest takes.
    pub fn mtu(&self, port: SwitchPort) -> u16 {
        self.mtus[port.index()].load(Ordering::Relaxed).max(MIN_MTU)
    }

    /// Differs for each who was plugged in there.
    pub fn occupant(&self, port: SwitchPort) -> u32 {
        self.occupants[port.index()].load(Ordering::Relaxed)
    }
}
