//! The I/O ports and interrupt lines of the platform's devices.
//!
//! The classic devices have their usual ports since the IBM AT. The ACPI ports are arbitrary; a guest reads them from
//! the FADT.

use std::ops::Range;

use crate::boot::layout;
pub use crate::boot::layout::{RESET_VALUE, S4_SLEEP_TYPE, S5_SLEEP_TYPE, SCI_IRQ, SERIAL_IRQ};

/// The first serial port, COM1.
pub const SERIAL: Range<u16> = layout::SERIAL_PORT..layout::SERIAL_PORT + 8;

/// Index and data port of the real-time clock.
pub const RTC: Range<u16> = layout::RTC_PORT..layout::RTC_PORT + 2;

/// The interval timer: three channels and its control register.
pub const INTERVAL_TIMER: Range<u16> = 0x40..0x44;
/// System control port B of the PC AT: gate and output of the interval timer's third channel.
pub const SYSTEM_CONTROL_B: Range<u16> = 0x61..0x62;

/// The keyboard controller's data port. The ports between it and the command port belong to other devices.
pub const I8042_DATA: Range<u16> = 0x60..0x61;
/// The keyboard controller's command and status port.
pub const I8042_COMMAND: Range<u16> = 0x64..0x65;
/// System control port A of the PS/2: fast reset and the A20 gate.
pub const SYSTEM_CONTROL_A: Range<u16> = 0x92..0x93;

/// The colour display's video controller: index and data port.
pub const VIDEO_REGISTERS: Range<u16> = layout::VIDEO_PORT..layout::VIDEO_PORT + 2;
/// Its mode, colours and status.
pub const VIDEO_CONTROL: Range<u16> = layout::VIDEO_PORT + 4..layout::VIDEO_PORT + 7;

/// ACPI power management: event block, control block and timer.
pub const ACPI_POWER: Range<u16> = layout::PM1A_EVENT_PORT..layout::PM_TIMER_PORT + layout::PM_TIMER_LENGTH as u16;
/// PM1a event block: status, then enable, 2 bytes each.
pub const PM1A_EVENT: u16 = layout::PM1A_EVENT_PORT;
/// PM1a control block, 2 bytes.
pub const PM1A_CONTROL: u16 = layout::PM1A_CONTROL_PORT;
/// PM timer block, 4 bytes.
pub const PM_TIMER: u16 = layout::PM_TIMER_PORT;

/// Address and data register of PCI configuration space, 4 bytes each, and [`RESET`] inside of the first.
pub const PCI: Range<u16> = layout::PCI_PORT..layout::PCI_PORT + 8;
/// The data register.
pub const PCI_DATA: u16 = layout::PCI_PORT + 4;
/// The reset control register, the FADT's RESET_REG.
pub const RESET: u16 = layout::RESET_PORT;

/// The debug port: each byte written goes to the console.
pub const DEBUG: Range<u16> = layout::DEBUG_PORT..layout::DEBUG_PORT + 1;
/// The exit port: the value written ends the run.
pub const EXIT: Range<u16> = layout::EXIT_PORT..layout::EXIT_PORT + 4;
