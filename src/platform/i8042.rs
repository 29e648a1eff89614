//! A PC's keyboard controller without a keyboard, and the PS/2's system control port A.
//!
//! Guests use this controller for its output port, whose lines drive the CPU's reset and the A20 gate (IBM PS/2
//! Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller"). It implements its own commands
//! completely, and reports that there is no auxiliary port. A byte sent to the keyboard gets the reply of a controller
//! whose keyboard does not respond: 0xfe, resend, with the time-out bit in the status. So a driver that probes gives up
//! without waiting.
//!
//! KVM has no A20 gate: the line's state is stored and read back, but address bit 20 is always used.

use serde_json::json;

use super::chip::Chip;
use super::{PortDevice, PowerEvent};
use crate::device::Value;

/// Offsets of the data port and of the command and status port from the controller's first port.
const DATA: u16 = 0;
const COMMAND: u16 = 4;

/// Status: the output buffer holds a byte.
const OUTPUT_FULL: u8 = 0x01;
/// Status: the self-test was passed.
const SYSTEM: u8 = 0x04;
/// Status: the last write went to the command port.
const LAST_WAS_COMMAND: u8 = 0x08;
/// Status: the keyboard is not locked.
const UNLOCKED: u8 = 0x10;
/// Status: the keyboard did not answer in time.
const TIMED_OUT: u8 = 0x40;

/// Command byte: the system flag that shows in the status.
const COMMAND_BYTE_SYSTEM: u8 = 0x04;
/// Command byte: keyboard interface off.
const KEYBOARD_OFF: u8 = 0x10;
/// Command byte: auxiliary interface off.
const AUXILIARY_OFF: u8 = 0x20;

/// Output port: the reset line, active low.
const RESET_LINE: u8 = 0x01;
/// Output port: the A20 gate.
const A20: u8 = 0x02;
/// Output port after power-on: keyboard clock and data high, no reset, A20 open.
const OUTPUT_PORT_START: u8 = 0xc0 | A20 | RESET_LINE;
/// Input port: keyboard unlocked, colour display, no manufacturing jumper.
const INPUT_PORT: u8 = 0xb0;

const RESEND: u8 = 0xfe;
const SELF_TEST_PASSED: u8 = 0x55;
const INTERFACE_TEST_PASSED: u8 = 0x00;
/// Result of the auxiliary interface test for a clock line that stays low: nothing is connected.
const CLOCK_STUCK_LOW: u8 = 0x01;

/// The purpose of the next byte at the data port.
#[derive(Clone, Copy)]
enum DataFor {
    Keyboard,
    Auxiliary,
    Memory(u8),
    OutputPort,
    OutputBuffer,
}

/// The keyboard controller, on the data port and, four above it, the command port.
pub struct I8042 {
    /// The controller's 32 bytes of RAM; the first is the command byte.
    memory: [u8; 32],
    output_port: u8,
    output: Option<u8>,
    status: u8,
    data_for: DataFor,
}

impl Default for I8042 {
    fn default() -> Self {
        Self::new()
    }
}

impl I8042 {
    /// Creates a controller in the state after power-on and self-test.
    pub fn new() -> Self {
        let mut memory = [0; 32];
        memory[0] = COMMAND_BYTE_SYSTEM | KEYBOARD_OFF | AUXILIARY_OFF;
        Self { memory, output_port: OUTPUT_PORT_START, output: None, status: 0, data_for: DataFor::Keyboard }
    }

    fn status(&self) -> u8 {
        let full = if self.output.is_some() { OUTPUT_FULL } else { 0 };
        let system = if self.memory[0] & COMMAND_BYTE_SYSTEM != 0 { SYSTEM } else { 0 };
        self.status | full | system | UNLOCKED
    }

    fn answer(&mut self, byte: u8) {
        self.output = Some(byte);
    }

    fn command(&mut self, command: u8) -> Option<PowerEvent> {
        self.status = LAST_WAS_COMMAND;
        self.data_for = DataFor::Keyboard;
        match command {
            0x20..=0x3f => self.answer(self.memory[usize::from(command & 0x1f)]),
            0x60..=0x7f => self.data_for = DataFor::Memory(command & 0x1f),
            0xa7 => self.memory[0] |= AUXILIARY_OFF,
            0xa8 => self.memory[0] &= !AUXILIARY_OFF,
            0xa9 => self.answer(CLOCK_STUCK_LOW),
            0xaa => {
                self.memory[0] |= COMMAND_BYTE_SYSTEM;
                self.answer(SELF_TEST_PASSED);
            }
            0xab => self.answer(INTERFACE_TEST_PASSED),
            0xad => self.memory[0] |= KEYBOARD_OFF,
            0xae => self.memory[0] &= !KEYBOARD_OFF,
            0xc0 => self.answer(INPUT_PORT),
            0xd0 => self.answer(self.output_port),
            0xd1 => self.data_for = DataFor::OutputPort,
            // With an auxiliary port, the byte of 0xd3 would come back marked as its own. Unmarked, it shows that there
            // is none.
            0xd2 | 0xd3 => self.data_for = DataFor::OutputBuffer,
            0xd4 => self.data_for = DataFor::Auxiliary,
            0xdd => self.output_port &= !A20,
            0xdf => self.output_port |= A20,
            // Pulses the output lines low whose bits are clear.
            0xf0..=0xff if command & RESET_LINE == 0 => return Some(PowerEvent::Reset),
            _ => {}
        }
        None
    }

    fn data(&mut self, byte: u8) -> Option<PowerEvent> {
        self.status = 0;
        match std::mem::replace(&mut self.data_for, DataFor::Keyboard) {
            DataFor::Keyboard | DataFor::Auxiliary => {
                self.status = TIMED_OUT;
                self.answer(RESEND);
            }
            DataFor::Memory(index) => self.memory[usize::from(index & 0x1f)] = byte,
            DataFor::OutputPort if byte & RESET_LINE == 0 => return Some(PowerEvent::Reset),
            DataFor::OutputPort => self.output_port = byte,
            DataFor::OutputBuffer => self.answer(byte),
        }
        None
    }

    fn take_output(&mut self) -> u8 {
        self.status &= !TIMED_OUT;
        self.output.take().unwrap_or(0)
    }
}

impl PortDevice for I8042 {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        match (offset, data.first_mut()) {
            (DATA, Some(byte)) => *byte = self.take_output(),
            (COMMAND, Some(byte)) => *byte = self.status(),
            _ => {}
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<PowerEvent> {
        match (offset, data.first()) {
            (DATA, Some(byte)) => self.data(*byte),
            (COMMAND, Some(byte)) => self.command(*byte),
            _ => None,
        }
    }
}

/// System control port A (port 0x92): a fast path to the reset line and to the A20 gate, which has no effect.
pub struct SystemControlPortA {
    value: u8,
}

impl Default for SystemControlPortA {
    fn default() -> Self {
        Self::new()
    }
}

impl SystemControlPortA {
    /// Writing this bit resets the CPU.
    const FAST_RESET: u8 = 0x01;
    const A20: u8 = 0x02;

    /// Creates the port in the power-on state, with the A20 gate open.
    pub fn new() -> Self {
        Self { value: Self::A20 }
    }
}

impl PortDevice for SystemControlPortA {
    fn read(&mut self, _offset: u16, data: &mut [u8]) {
        data.fill(self.value);
    }

    fn write(&mut self, _offset: u16, data: &[u8]) -> Option<PowerEvent> {
        let value = *data.first()?;
        self.value = value & !Self::FAST_RESET;
        (value & Self::FAST_RESET != 0).then_some(PowerEvent::Reset)
    }
}

impl Chip for I8042 {
    fn inspect(&self) -> Value {
        json!({
            "command-byte": self.memory[0],
            "output-port": self.output_port,
            "status": self.status(),
            "waiting-byte": self.output,
        })
    }
}

#[cfg(test)]
#[path = "i8042_tests.rs"]
mod tests;
