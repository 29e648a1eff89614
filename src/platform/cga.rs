//! The video controller of a colour display (IBM Color/Graphics Monitor Adapter), as far as kernels access it.
//!
//! Kernels for PCs print to the text memory at 0xb8000 and move the cursor by the controller's registers. Some stop if
//! the cursor does not read back as written. The memory there is plain RAM. The text is not displayed: the console is
//! the serial port.

use serde_json::json;

use super::chip::Chip;
use super::{PortDevice, PowerEvent};
use crate::device::Value;

/// Ports, relative to the index register.
const INDEX: u16 = 0;
const DATA: u16 = 1;
const MODE: u16 = 4;
const COLOUR: u16 = 5;
const STATUS: u16 = 6;

/// The 6845's registers.
const REGISTERS: usize = 18;
/// The values that a BIOS sets for 80 columns and 25 rows.
const TEXT_80_25: [u8; REGISTERS] =
    [0x71, 0x50, 0x5a, 0x0a, 0x1f, 0x06, 0x19, 0x1c, 0x02, 0x07, 0x06, 0x07, 0, 0, 0, 0, 0, 0];
/// Mode: 80 columns, video on, blinking.
const MODE_START: u8 = 0x29;
const COLOUR_START: u8 = 0x30;

/// Status: the display is between lines, or in its vertical retrace.
const BETWEEN_LINES: u8 = 1 << 0;
const RETRACE: u8 = 1 << 3;

/// The controller; see the module's description.
pub struct Cga {
    index: u8,
    registers: [u8; REGISTERS],
    mode: u8,
    colour: u8,
    status: u8,
}

impl Default for Cga {
    fn default() -> Self {
        Self { index: 0, registers: TEXT_80_25, mode: MODE_START, colour: COLOUR_START, status: 0 }
    }
}

impl Cga {
    fn read_port(&mut self, port: u16) -> u8 {
        match port {
            INDEX => self.index,
            DATA => self.registers.get(usize::from(self.index)).copied().unwrap_or(0),
            MODE => self.mode,
            COLOUR => self.colour,
            STATUS => {
                // A guest that waits for either state finds it after at most one more read.
                self.status ^= BETWEEN_LINES | RETRACE;
                self.status
            }
            _ => 0xff,
        }
    }

    fn write_port(&mut self, port: u16, value: u8) {
        match port {
            INDEX => self.index = value,
            DATA => {
                if let Some(register) = self.registers.get_mut(usize::from(self.index)) {
                    *register = value;
                }
            }
            MODE => self.mode = value,
            COLOUR => self.colour = value,
            _ => {}
        }
    }
}

impl PortDevice for Cga {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        for (port, byte) in (offset..).zip(data) {
            *byte = self.read_port(port);
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<PowerEvent> {
        for (port, byte) in (offset..).zip(data) {
            self.write_port(port, *byte);
        }
        None
    }
}

impl Chip for Cga {
    fn inspect(&self) -> Value {
        json!({ "mode": self.mode, "colour": self.colour, "registers": self.registers })
    }
}

#[cfg(test)]
#[path = "cga_tests.rs"]
mod tests;
