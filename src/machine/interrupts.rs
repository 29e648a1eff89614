//! Interrupt lines: from a device to the local APICs, through KVM's controllers or our own IOAPIC.

use std::sync::{Arc, Mutex, PoisonError};

use crate::boot::layout::IOAPIC;
use crate::partition::host::HostError;
use crate::partition::{Irqchip, Partition};
use crate::platform::InterruptLine;
use crate::platform::ioapic::{Ioapic, LevelPin};

/// The interrupt lines of one partition.
#[derive(Clone)]
pub(super) struct Interrupts {
    partition: Arc<Partition>,
    /// Where KVM has none.
    ioapic: Option<Arc<Mutex<Ioapic>>>,
}

impl Interrupts {
    pub fn new(partition: Arc<Partition>) -> Self {
        let ioapic = (partition.irqchip() == Irqchip::Split).then(Arc::default);
        Self { partition, ioapic }
    }

    /// An edge on line `line`, each time it is called.
    pub fn line(&self, line: u32) -> InterruptLine {
        let interrupts = self.clone();
        Box::new(move || complain(interrupts.pulse(line)))
    }

    fn pulse(&self, line: u32) -> Result<(), HostError> {
        match &self.ioapic {
            None => self.partition.pulse_line(line),
            Some(ioapic) => match lock(ioapic).pulse(line as usize) {
                Some(message) => self.partition.send(message),
                None => Ok(()),
            },
        }
    }

    /// Answers a read where no memory is: reads float high where no device is either.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match (&self.ioapic, offset(address)) {
            (Some(ioapic), Some(offset)) => {
                let value = lock(ioapic).read(offset).to_le_bytes();
                data.iter_mut().zip(value.into_iter().chain([0; 4])).for_each(|(byte, value)| *byte = value);
            }
            _ => data.fill(0xff),
        }
    }

    /// Takes a write where no memory is: it is lost where no device is either.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let (Some(ioapic), Some(offset), [a, b, c, d, ..]) = (&self.ioapic, offset(address), data) {
            let level = lock(ioapic).write(offset, u32::from_le_bytes([*a, *b, *c, *d]));
            if let Some(LevelPin { pin, message }) = level {
                complain(self.partition.watch_level_pin(pin as u32, message));
            }
        }
    }

    /// A processor ended a level-triggered interrupt.
    pub fn end_of_interrupt(&self, vector: u8) {
        let messages = self.ioapic.as_ref().map(|ioapic| lock(ioapic).end_of_interrupt(vector));
        for message in messages.into_iter().flatten() {
            complain(self.partition.send(message));
        }
    }
}

/// Where in the IOAPIC's page `address` is.
fn offset(address: u64) -> Option<u64> {
    address.checked_sub(IOAPIC).filter(|offset| *offset < 0x1000)
}

fn lock(ioapic: &Mutex<Ioapic>) -> std::sync::MutexGuard<'_, Ioapic> {
    ioapic.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An interrupt that KVM refuses is the guest's loss: a message to no processor, say.
fn complain(outcome: Result<(), HostError>) {
    if let Err(error) = outcome {
        log::debug!("an interrupt is lost: {error}");
    }
}
