//! The I/O APIC (Intel 82093AA data sheet), for partitions in which KVM emulates only the local APICs.
//!
//! Devices pulse their pins, or set their level. A level-triggered pin is delivered once, and again only after the
//! guest's EOI, as on the chip.

use serde_json::json;

use super::chip::Chip;
use crate::device::Value;
use crate::kvm::routes::Message;

/// Number of redirection table entries, one for each input pin.
pub const PINS: usize = 24;

/// A level-triggered pin and its message. Its EOIs must be passed to [`Ioapic::end_of_interrupt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelPin {
    /// The pin.
    pub pin: usize,
    /// Its message.
    pub message: Message,
}

const VERSION: u32 = 0x11 | (PINS as u32 - 1) << 16;

const VECTOR: u64 = 0xff;
const LOGICAL: u64 = 1 << 11;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// Delivery status and remote IRR.
const READ_ONLY: u64 = 1 << 12 | REMOTE_IRR;
const WRITABLE: u64 = 0xff00_0000_0001_ffff & !READ_ONLY;

/// Registers accessed through the window.
const ID: u8 = 0;
const VERSION_REGISTER: u8 = 1;
const ARBITRATION: u8 = 2;
const TABLE: u8 = 0x10;

/// One I/O APIC.
#[derive(Debug)]
pub struct Ioapic {
    id: u32,
    select: u8,
    entries: [u64; PINS],
    /// Level-triggered pins that were pulsed while their last interrupt was in service.
    pending: u32,
    /// Pins whose level is asserted.
    asserted: u32,
}

impl Default for Ioapic {
    fn default() -> Self {
        Self { id: 0, select: 0, entries: [MASKED; PINS], pending: 0, asserted: 0 }
    }
}

impl Ioapic {
    /// Reads the register at `offset` from the chip's address.
    pub fn read(&self, offset: u64) -> u32 {
        match (offset, self.select) {
            (0, select) => select.into(),
            (0x10, ID | ARBITRATION) => self.id,
            (0x10, VERSION_REGISTER) => VERSION,
            (0x10, select) => self.entry(select).map_or(0, |(pin, shift)| (self.entries[pin] >> shift) as u32),
            _ => 0,
        }
    }

    /// Writes the register at `offset` from the chip's address. Returns a level-triggered pin that was unmasked or
    /// changed: it may have to be [delivered](Self::deliver_level).
    pub fn write(&mut self, offset: u64, value: u32) -> Option<LevelPin> {
        match (offset, self.select) {
            (0, _) => self.select = value as u8,
            (0x10, ID) => self.id = value & 0x0f00_0000,
            (0x10, select) => {
                let (pin, shift) = self.entry(select)?;
                return self.write_entry(pin, shift, value);
            }
            _ => {}
        }
        None
    }

    /// Pulses `pin`. Returns the message to send, if there is one.
    pub fn pulse(&mut self, pin: usize) -> Option<Message> {
        let entry = self.entries.get_mut(pin)?;
        if *entry & MASKED != 0 {
            return None;
        }
        if *entry & LEVEL != 0 {
            if *entry & REMOTE_IRR != 0 {
                self.pending |= 1 << pin;
                return None;
            }
            *entry |= REMOTE_IRR;
        }
        Some(message(*entry))
    }

    /// Sets the level of `pin`. Returns the message to send, if there is one.
    pub fn set_level(&mut self, pin: usize, asserted: bool) -> Option<Message> {
        let entry = *self.entries.get(pin)?;
        let bit = 1 << pin;
        let rises = asserted && self.asserted & bit == 0;
        self.asserted = if asserted { self.asserted | bit } else { self.asserted & !bit };
        match entry & LEVEL {
            // An edge that a masked pin does not take is lost.
            0 if rises => self.pulse(pin),
            0 => None,
            _ => self.deliver_level(pin),
        }
    }

    /// Returns the message of a level-triggered pin that is asserted, unless the last one is in service or the pin is
    /// masked.
    pub fn deliver_level(&mut self, pin: usize) -> Option<Message> {
        let entry = self.entries.get_mut(pin)?;
        if self.asserted & 1 << pin == 0 || *entry & (LEVEL | MASKED | REMOTE_IRR) != LEVEL {
            return None;
        }
        *entry |= REMOTE_IRR;
        Some(message(*entry))
    }

    /// Handles the end of interrupt `vector`. Returns the messages that waited for it.
    pub fn end_of_interrupt(&mut self, vector: u8) -> Vec<Message> {
        let mut messages = Vec::new();
        for (pin, entry) in self.entries.iter_mut().enumerate() {
            if *entry & REMOTE_IRR == 0 || *entry & VECTOR != u64::from(vector) {
                continue;
            }
            *entry &= !REMOTE_IRR;
            let waiting = (self.pending | self.asserted) & 1 << pin != 0;
            self.pending &= !(1 << pin);
            if waiting && *entry & MASKED == 0 {
                *entry |= REMOTE_IRR;
                messages.push(message(*entry));
            }
        }
        messages
    }

    /// Returns the table entry that `select` selects, and the shift of its half.
    fn entry(&self, select: u8) -> Option<(usize, u32)> {
        let index = usize::from(select.checked_sub(TABLE)?);
        (index / 2 < PINS).then_some((index / 2, index as u32 % 2 * 32))
    }

    fn write_entry(&mut self, pin: usize, shift: u32, value: u32) -> Option<LevelPin> {
        let entry = &mut self.entries[pin];
        let half = 0xffff_ffff << shift & WRITABLE;
        *entry = *entry & !half | u64::from(value) << shift & half;
        if *entry & LEVEL == 0 {
            // An edge has no EOI; software clears a stuck remote IRR this way.
            *entry &= !REMOTE_IRR;
            self.pending &= !(1 << pin);
        }
        (*entry & (LEVEL | MASKED) == LEVEL).then(|| LevelPin { pin, message: message(*entry) })
    }
}

fn message(entry: u64) -> Message {
    const ASSERT: u32 = 1 << 14;
    let destination = (entry >> 56) as u32;
    let logical = if entry & LOGICAL != 0 { 1 << 2 } else { 0 };
    let level = if entry & LEVEL != 0 { ASSERT | LEVEL as u32 } else { 0 };
    // Vector and delivery mode have the same position in both.
    Message { address: 0xfee0_0000 | destination << 12 | logical, data: entry as u32 & 0x7ff | level }
}

impl Chip for Ioapic {
    /// Returns the pins that are not masked.
    fn inspect(&self) -> Value {
        let pins = self.entries.iter().enumerate().filter(|(_, entry)| **entry & MASKED == 0);
        let pin = |(pin, entry): (usize, &u64)| {
            json!({
                "pin": pin,
                "vector": entry & VECTOR,
                "level": entry & LEVEL != 0,
                "in-service": entry & REMOTE_IRR != 0,
                "waiting": self.pending & 1 << pin != 0,
                "destination": entry >> 56,
            })
        };
        json!({ "pins": pins.map(pin).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
#[path = "ioapic_tests.rs"]
mod tests;
