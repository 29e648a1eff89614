//! Two ports for test kernels: the exit port, as QEMU's isa-debug-exit, and Bochs' debug port.

use std::io::Write;

use super::{PortDevice, PowerEvent, ports};
use crate::console::ConsoleOutput;

/// Ends the run with the value written: 1, 2 or 4 bytes at the first port. Reads as zero.
pub struct ExitPort;

impl PortDevice for ExitPort {
    fn read(&mut self, _offset: u16, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<PowerEvent> {
        let mut value = [0; 4];
        value.iter_mut().zip(data).for_each(|(byte, written)| *byte = *written);
        (offset == 0).then_some(PowerEvent::Exit(u32::from_le_bytes(value)))
    }
}

/// Prints each byte written. Reads as its own number, so that a guest can detect it.
pub struct DebugPort {
    output: ConsoleOutput,
}

impl DebugPort {
    /// Creates a debug port that prints to `output`.
    pub fn new(output: ConsoleOutput) -> Self {
        Self { output }
    }
}

impl PortDevice for DebugPort {
    fn read(&mut self, _offset: u16, data: &mut [u8]) {
        data.fill(ports::DEBUG.start as u8);
    }

    fn write(&mut self, _offset: u16, data: &[u8]) -> Option<PowerEvent> {
        // Printing never fails: a console that cannot print notifies the machine.
        let _ = self.output.write(data);
        None
    }
}

#[cfg(test)]
#[path = "debug_ports_tests.rs"]
mod tests;
