//! PCI configuration space at its two ports, with the functions of Hyper-V's generation 1, and the reset control register between
//! the ports.
//!
//! Linux takes a machine without EFI for one of generation 1, which has a PCI bus. It probes for the bus by configuration
//! mechanism 1 (PCI Local Bus 3.0, 3.2.2.3.2), and prints an error if there is none. A machine with a screen also has the video
//! function, whose only task is to be found: Linux's `hyperv_fb` wants to see it before it uses the video device on VMBus.

use std::ops::Range;

use serde_json::json;

use super::acpi_power::ResetControl;
use super::chip::Chip;
use super::{PortDevice, PowerEvent, ports};
use crate::device::Value;

/// Offset of the data port.
const DATA: u16 = ports::PCI_DATA - ports::PCI.start;
/// Offset of the reset control register.
const RESET: u16 = ports::RESET - ports::PCI.start;

/// The registers that a function can have here. All others are 0.
const IDENTITY: u8 = 0x00;
const COMMAND: u8 = 0x04;
const CLASS: u8 = 0x08;
const BASE: u8 = 0x10;

/// A function on bus 0. It is the only one of its device, and has no interrupt.
struct Function {
    device: u8,
    /// Vendor, and above it the device.
    identity: u32,
    /// Revision, and above it the class.
    class: u32,
    /// The low half of [`COMMAND`], as far as it can be written.
    command: u32,
    /// The first base address, and the range's size: a power of two, or 0 if there is no range.
    base: u32,
    size: u32,
}

impl Function {
    /// Memory space, I/O space and bus master.
    const COMMAND_WRITABLE: u32 = 0b111;
    /// Memory space.
    const MEMORY: u32 = 0b10;

    /// The host bridge: an Intel 440BX without AGP.
    fn host_bridge() -> Self {
        Self { device: 0, identity: 0x7192_8086, class: 0x0600_0003, command: 0, base: 0, size: 0 }
    }

    /// The video function: a VGA controller of Microsoft with its memory.
    fn video(memory: Range<u32>) -> Self {
        let size = memory.end - memory.start;
        let (identity, class) = (0x5353_1414, 0x0300_0000);
        Self { device: 8, identity, class, command: Self::MEMORY, base: memory.start, size }
    }

    fn read(&self, register: u8) -> u32 {
        match register {
            IDENTITY => self.identity,
            COMMAND => self.command,
            CLASS => self.class,
            BASE => self.base,
            _ => 0,
        }
    }

    /// Replaces the bits of a register that are set in `mask`.
    fn write(&mut self, register: u8, value: u32, mask: u32) {
        let (field, writable) = match register {
            COMMAND => (&mut self.command, Self::COMMAND_WRITABLE),
            BASE if self.size > 0 => (&mut self.base, !(self.size - 1)),
            _ => return,
        };
        let mask = mask & writable;
        *field = *field & !mask | value & mask;
    }
}

/// The ports; see the module's description.
pub struct Pci {
    /// The address register.
    address: u32,
    reset: ResetControl,
    functions: Vec<Function>,
}

impl Pci {
    /// The bit of the address register that makes the data port one of configuration space.
    const ENABLE: u32 = 1 << 31;
    /// The implemented bits of the address register: enable, bus, device, function and register.
    const IMPLEMENTED: u32 = Self::ENABLE | 0x00ff_fffc;

    /// Creates the bus. `video_memory` is the memory of the video function, if there is one: a power of two, aligned to itself.
    /// The guest can move the function's base address, but not the memory.
    pub fn new(video_memory: Option<Range<u32>>) -> Self {
        let functions = [Some(Function::host_bridge()), video_memory.map(Function::video)];
        Self { address: 0, reset: ResetControl::default(), functions: functions.into_iter().flatten().collect() }
    }

    /// Returns the selected function and register.
    fn selected(&mut self) -> Option<(&mut Function, u8)> {
        let [register, function, device, enable] = {
            let [register, function, bus, enable] = self.address.to_le_bytes();
            [register, function & 7 | bus, function >> 3, enable]
        };
        if enable == 0 || function != 0 {
            return None;
        }
        self.functions.iter_mut().find(|other| other.device == device).map(|function| (function, register))
    }
}

impl PortDevice for Pci {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        match offset {
            0 if data.len() == 4 => data.copy_from_slice(&self.address.to_le_bytes()),
            RESET if data.len() == 1 => self.reset.read(0, data),
            DATA.. => {
                let value = self.selected().map_or(u32::MAX, |(function, register)| function.read(register));
                let bytes = value.to_le_bytes();
                data.iter_mut().zip(&bytes[usize::from(offset - DATA)..]).for_each(|(byte, value)| *byte = *value);
            }
            _ => data.fill(0xff),
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<PowerEvent> {
        match (offset, data) {
            (0, &[a, b, c, d]) => self.address = u32::from_le_bytes([a, b, c, d]) & Self::IMPLEMENTED,
            (RESET, [_]) => return self.reset.write(0, data),
            (DATA.., _) => {
                let (mut value, mut mask) = ([0; 4], [0; 4]);
                for (place, byte) in (usize::from(offset - DATA)..4).zip(data) {
                    (value[place], mask[place]) = (*byte, 0xff);
                }
                if let Some((function, register)) = self.selected() {
                    function.write(register, u32::from_le_bytes(value), u32::from_le_bytes(mask));
                }
            }
            _ => {}
        }
        None
    }
}

impl Chip for Pci {
    fn inspect(&self) -> Value {
        json!({ "address": self.address, "functions": self.functions.len() })
    }
}

#[cfg(test)]
#[path = "pci_tests.rs"]
mod tests;
