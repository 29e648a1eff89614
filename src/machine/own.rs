//! Devices of the library's user: ports, MMIO ranges and MSRs.
//!
//! They are created for each life of the guest. A device that panics is disabled for the rest of that life: its ports
//! and addresses read as ones, its MSRs raise #GP, and the machine's [events](super::Machine::events) say so.

use std::ops::Range;
use std::sync::Arc;

use super::MachineError;
use super::events::Announcer;
use super::guest::Guest;
use crate::host::panics::caught;
use crate::hyperv::page::{HYPERCALL_PORT, SIGNAL_PORT};
use crate::platform::bus::{PortBus, shared};
use crate::platform::mmio::{MmioBus, MmioDevice};
use crate::platform::msrs::{MsrBus, MsrDevice, MsrError};
use crate::platform::{PortDevice, PowerEvent};

/// The MSRs that are Hyper-V's (TLFS, "Synthetic MSRs"), and those behind them that it may get.
const SYNTHETIC_MSRS: Range<u32> = 0x4000_0000..0x4000_1000;

/// Makes a device for a life of the guest.
type Make<D> = Arc<dyn Fn(&Guest) -> Box<D> + Send + Sync>;

/// The devices that a builder was given.
#[derive(Clone, Default)]
pub(super) struct OwnDevices {
    pub ports: Vec<(Range<u16>, Make<dyn PortDevice>)>,
    pub mmio: Vec<(Range<u64>, Make<dyn MmioDevice>)>,
    pub msrs: Vec<(Range<u32>, Make<dyn MsrDevice>)>,
}

impl OwnDevices {
    /// Makes the port devices and puts them on the bus.
    pub fn attach_ports(
        &self,
        bus: &mut PortBus,
        guest: &Guest,
        announcer: &Arc<Announcer>,
    ) -> Result<(), MachineError> {
        for (ports, make) in &self.ports {
            let at = format!("ports {:#x}..{:#x}", ports.start, ports.end);
            if [HYPERCALL_PORT, SIGNAL_PORT].iter().any(|port| ports.contains(port)) {
                let problem = format!("ports {HYPERCALL_PORT:#x} and {SIGNAL_PORT:#x} are the hypercall page's");
                return Err(MachineError::Own { what: at, problem });
            }
            let device = Guarded::make(at.clone(), make, guest, announcer)?;
            let attached = bus.attach(ports.clone(), ports.start, shared(device));
            attached.map_err(|error| MachineError::Own { what: at, problem: error.to_string() })?;
        }
        Ok(())
    }

    /// Makes the MMIO devices and puts them on the bus.
    pub fn attach_mmio(
        &self,
        bus: &mut MmioBus,
        guest: &Guest,
        announcer: &Arc<Announcer>,
    ) -> Result<(), MachineError> {
        for (range, make) in &self.mmio {
            let at = format!("addresses {:#x}..{:#x}", range.start, range.end);
            let device = Guarded::make(at.clone(), make, guest, announcer)?;
            let attached = bus.attach(range.clone(), "another device's", device);
            attached.map_err(|error| MachineError::Own { what: at, problem: error.to_string() })?;
        }
        Ok(())
    }

    /// Makes the MSR devices. With `hyperv`, the synthetic MSRs are not theirs.
    pub fn msrs(&self, hyperv: bool, guest: &Guest, announcer: &Arc<Announcer>) -> Result<MsrBus, MachineError> {
        let mut bus = MsrBus::default();
        for (range, make) in &self.msrs {
            let at = format!("MSRs {:#x}..{:#x}", range.start, range.end);
            if hyperv && range.start < SYNTHETIC_MSRS.end && SYNTHETIC_MSRS.start < range.end {
                let problem = "0x40000000..0x40001000 are Hyper-V's; take others, or hide Hyper-V with --hv off".into();
                return Err(MachineError::Own { what: at, problem });
            }
            let device = Guarded::make(at.clone(), make, guest, announcer)?;
            let attached = bus.attach(range.clone(), Box::new(device));
            attached.map_err(|MsrError { problem, .. }| MachineError::Own { what: at, problem: problem.into() })?;
        }
        Ok(bus)
    }
}

/// A device whose panics end only the device.
struct Guarded<D: ?Sized> {
    /// `None` once it has panicked.
    device: Option<Box<D>>,
    at: String,
    announcer: Arc<Announcer>,
}

impl<D: ?Sized> Guarded<D> {
    fn make(at: String, make: &Make<D>, guest: &Guest, announcer: &Arc<Announcer>) -> Result<Self, MachineError> {
        match caught(|| make(guest)) {
            Ok(device) => Ok(Self { device: Some(device), at, announcer: announcer.clone() }),
            Err(message) => {
                Err(MachineError::Own { what: at, problem: format!("making the device panicked: {message}") })
            }
        }
    }

    /// Calls the device. `None` if it is out of order.
    fn call<T>(&mut self, access: impl FnOnce(&mut D) -> T) -> Option<T> {
        let device = self.device.as_mut()?;
        match caught(|| access(device)) {
            Ok(value) => Some(value),
            Err(message) => {
                self.announcer.panicked(format!("the device at {}", self.at), message);
                self.bury();
                None
            }
        }
    }

    fn bury(&mut self) {
        if let Some(device) = self.device.take()
            && let Err(message) = caught(|| drop(device))
        {
            self.announcer.panicked(format!("the end of the device at {}", self.at), message);
        }
    }
}

impl<D: ?Sized> Drop for Guarded<D> {
    fn drop(&mut self) {
        self.bury();
    }
}

impl PortDevice for Guarded<dyn PortDevice> {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        if self.call(|device| device.read(offset, data)).is_none() {
            data.fill(0xff);
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<PowerEvent> {
        self.call(|device| device.write(offset, data)).flatten()
    }
}

impl MmioDevice for Guarded<dyn MmioDevice> {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if self.call(|device| device.read(offset, data)).is_none() {
            data.fill(0xff);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Option<PowerEvent> {
        self.call(|device| device.write(offset, data)).flatten()
    }
}

impl MsrDevice for Guarded<dyn MsrDevice> {
    fn read(&mut self, vp: u32, number: u32) -> Option<u64> {
        self.call(|device| device.read(vp, number)).flatten()
    }

    fn write(&mut self, vp: u32, number: u32, value: u64) -> bool {
        self.call(|device| device.write(vp, number, value)).unwrap_or(false)
    }
}
