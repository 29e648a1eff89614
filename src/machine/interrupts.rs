//! Interrupt lines from devices to the local APICs, through KVM's interrupt controllers or Viridian's IOAPIC.

use std::ops::Range;
use std::sync::Arc;

use crate::boot::layout::IOAPIC;
use crate::device::Device;
use crate::host::lock::Mutex;
use crate::kvm::host::HostError;
use crate::kvm::{Irqchip, Vm};
use crate::platform::chip;
use crate::platform::ioapic::{Ioapic, LevelPin};
use crate::platform::mmio::{MmioBus, MmioDevice, MmioError};
use crate::platform::{InterruptLine, LevelLine, PowerEvent};

/// The addresses of the IOAPIC.
pub(super) const IOAPIC_PAGE: Range<u64> = IOAPIC..IOAPIC + 0x1000;

/// The interrupt lines of one partition.
#[derive(Clone)]
pub(super) struct Interrupts {
    partition: Arc<Vm>,
    /// Viridian's IOAPIC. `None` if KVM emulates it.
    ioapic: Option<Arc<Mutex<Ioapic>>>,
}

impl Interrupts {
    pub fn new(partition: Arc<Vm>) -> Self {
        let ioapic = (partition.irqchip() == Irqchip::Split).then(Arc::default);
        Self { partition, ioapic }
    }

    /// Returns a function that causes an edge on line `line`.
    pub fn line(&self, line: u32) -> InterruptLine {
        let interrupts = self.clone();
        Box::new(move || complain(interrupts.pulse(line)))
    }

    /// Returns a function that sets the level of line `line`.
    pub fn level_line(&self, line: u32) -> LevelLine {
        let interrupts = self.clone();
        Box::new(move |asserted| complain(interrupts.set_level(line, asserted)))
    }

    fn set_level(&self, line: u32, asserted: bool) -> Result<(), HostError> {
        match &self.ioapic {
            None => self.partition.set_line(line, asserted),
            Some(ioapic) => match ioapic.lock().set_level(line as usize, asserted) {
                Some(message) => self.partition.send(message),
                None => Ok(()),
            },
        }
    }

    /// Causes an edge on line `line`. Returns KVM's error.
    pub fn pulse(&self, line: u32) -> Result<(), HostError> {
        match &self.ioapic {
            None => self.partition.pulse_line(line),
            Some(ioapic) => match ioapic.lock().pulse(line as usize) {
                Some(message) => self.partition.send(message),
                None => Ok(()),
            },
        }
    }

    /// Attaches Viridian's IOAPIC, if there is one, to the bus.
    pub fn attach(&self, bus: &mut MmioBus) -> Result<(), MmioError> {
        match &self.ioapic {
            Some(ioapic) => {
                let page = IoapicPage { ioapic: ioapic.clone(), partition: self.partition.clone() };
                bus.attach(IOAPIC_PAGE, "the IOAPIC's", page)
            }
            None => Ok(()),
        }
    }

    /// Returns Viridian's IOAPIC, if there is one, as a device of the machine.
    pub fn device(&self) -> Option<Arc<dyn Device>> {
        self.ioapic.as_ref().map(|ioapic| chip::device("ioapic", ioapic))
    }

    /// Handles the end of a level-triggered interrupt.
    pub fn end_of_interrupt(&self, vector: u8) {
        let messages = self.ioapic.as_ref().map(|ioapic| ioapic.lock().end_of_interrupt(vector));
        for message in messages.into_iter().flatten() {
            complain(self.partition.send(message));
        }
    }
}

/// The IOAPIC on the MMIO bus.
struct IoapicPage {
    ioapic: Arc<Mutex<Ioapic>>,
    partition: Arc<Vm>,
}

impl MmioDevice for IoapicPage {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let value = self.ioapic.lock().read(offset).to_le_bytes();
        data.iter_mut().zip(value.into_iter().chain([0; 4])).for_each(|(byte, value)| *byte = value);
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Option<PowerEvent> {
        if let [a, b, c, d, ..] = data {
            let mut ioapic = self.ioapic.lock();
            if let Some(LevelPin { pin, message }) = ioapic.write(offset, u32::from_le_bytes([*a, *b, *c, *d])) {
                // Before the interrupt is delivered, so that its end is noticed.
                complain(self.partition.watch_level_pin(pin as u32, message));
                complain(ioapic.deliver_level(pin).map_or(Ok(()), |message| self.partition.send(message)));
            }
        }
        None
    }
}

/// Logs an interrupt that KVM refuses, such as a message to a processor that does not exist. The guest loses the interrupt.
fn complain(outcome: Result<(), HostError>) {
    if let Err(error) = outcome {
        log::debug!("an interrupt is lost: {error}");
    }
}
