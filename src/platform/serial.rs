//! The first serial port: a 16550 by vm-superio, between a guest and its console.
//!
//! Sent bytes go to the console's output at once. Typed bytes go into the receive FIFO while it has room. The rest
//! waits in the console's input, which stops reading from its source when it is full. So no input is lost if a guest
//! reads slowly, late or never.

use std::convert::Infallible;
use std::sync::Arc;

use serde_json::json;
use vm_superio::Trigger;

use super::chip::Chip;
use super::{InterruptLine, PortDevice, PowerEvent};
use crate::console::{ConsoleInput, ConsoleOutput};
use crate::device::Value;
use crate::host::lock::Mutex;

/// The receive buffer, or the divisor's low byte.
const DATA: u8 = 0;
/// The modem control register, with the loopback bit.
const MODEM_CONTROL: u8 = 4;

struct Line(InterruptLine);

impl Trigger for Line {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        (self.0)();
        Ok(())
    }
}

/// A serial port. See the module's description.
pub struct Serial {
    uart: vm_superio::Serial<Line, vm_superio::serial::NoEvents, ConsoleOutput>,
    input: Arc<ConsoleInput>,
    /// Typed bytes wait in `input` while the machine is paused.
    is_paused: bool,
}

impl Serial {
    /// Creates a serial port that prints to `output` and receives from `input`. See also [`listen`].
    pub fn new(interrupt: InterruptLine, output: ConsoleOutput, input: Arc<ConsoleInput>) -> Self {
        Self { uart: vm_superio::Serial::new(Line(interrupt), output), input, is_paused: false }
    }

    /// Moves as many typed bytes into the FIFO as it has room for.
    pub fn receive(&mut self) {
        if self.is_paused {
            return;
        }
        let mut bytes = [0; 64];
        loop {
            // In loopback mode the line is disconnected, and typed bytes wait.
            let room = if self.is_looped_back() { 0 } else { self.uart.fifo_capacity().min(bytes.len()) };
            let count = self.input.take(&mut bytes[..room]);
            if count == 0 {
                return;
            }
            // This cannot fail: there is room, and the interrupt line never fails.
            let _ = self.uart.enqueue_raw_bytes(&bytes[..count]);
        }
    }

    fn is_looped_back(&mut self) -> bool {
        const LOOPBACK: u8 = 0x10;
        self.uart.read(MODEM_CONTROL) & LOOPBACK != 0
    }

    fn read_register(&mut self, register: u8) -> u8 {
        let value = self.uart.read(register);
        if register == DATA {
            self.receive();
        }
        value
    }

    fn write_register(&mut self, register: u8, value: u8) {
        // This cannot fail: neither the interrupt line nor the output returns errors.
        let _ = self.uart.write(register, value);
        if register == MODEM_CONTROL {
            self.receive();
        }
    }
}

/// Makes `serial` receive what is typed to `input`, until it is dropped.
pub fn listen(serial: &Arc<Mutex<Serial>>, input: &ConsoleInput) {
    let serial = Arc::downgrade(serial);
    input.listen(Box::new(move || {
        if let Some(serial) = serial.upgrade() {
            serial.lock().receive();
        }
    }));
}

impl PortDevice for Serial {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        for (register, byte) in (offset..).zip(data) {
            *byte = self.read_register(register as u8);
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<PowerEvent> {
        for (register, byte) in (offset..).zip(data) {
            self.write_register(register as u8, *byte);
        }
        None
    }
}

impl Chip for Serial {
    fn pause(&mut self) {
        self.is_paused = true;
    }

    fn resume(&mut self) {
        self.is_paused = false;
        self.receive();
    }

    fn inspect(&self) -> Value {
        let state = self.uart.state();
        json!({
            "divisor": u16::from_le_bytes([state.baud_divisor_low, state.baud_divisor_high]),
            "interrupt-enable": state.interrupt_enable,
            "interrupt-identification": state.interrupt_identification,
            "line-control": state.line_control,
            "line-status": state.line_status,
            "modem-control": state.modem_control,
            "modem-status": state.modem_status,
            "received-bytes": state.in_buffer.len(),
        })
    }
}

#[cfg(test)]
#[path = "serial_tests.rs"]
mod tests;
