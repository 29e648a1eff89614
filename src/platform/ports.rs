//! Where the platform's devices are: I/O ports and interrupt lines.
//!
//! The classic ones are where every PC has had them since the IBM AT. The ACPI ones are ours to choose: a guest
//! reads them from the FADT.

use std::ops::Range;

/// The first serial port, COM1.
pub const SERIAL: Range<u16> = 0x3f8..0x400;
/// COM1's interrupt line.
pub const SERIAL_IRQ: u32 = 4;

/// Index and data port of the real-time clock.
pub const RTC: Range<u16> = 0x70..0x72;

/// The keyboard controller's data port. What lies between it and the command port belongs to others.
pub const I8042_DATA: Range<u16> = 0x60..0x61;
/// The keyboard controller's command and status port.
pub const I8042_COMMAND: Range<u16> = 0x64..0x65;
/// System control port A of the PS/2: fast reset and the A20 gate.
pub const SYSTEM_CONTROL_A: Range<u16> = 0x92..0x93;

/// ACPI power management: event block, control block and timer.
pub const ACPI_POWER: Range<u16> = 0x600..0x60c;
/// PM1a event block: status, then enable, 2 bytes each.
pub const PM1A_EVENT: u16 = 0x600;
/// PM1a control block, 2 bytes.
pub const PM1A_CONTROL: u16 = 0x604;
/// PM timer block, 4 bytes.
pub const PM_TIMER: u16 = 0x608;
/// SLP_TYP of the soft-off state S5, as the DSDT's `_S5` names it.
pub const S5_SLEEP_TYPE: u8 = 5;
/// The line of the ACPI system control interrupt.
pub const SCI_IRQ: u32 = 9;

/// The reset control register, the FADT's RESET_REG.
pub const RESET: Range<u16> = 0xcf9..0xcfa;
/// What resets the machine when written there, the FADT's RESET_VALUE.
pub const RESET_VALUE: u8 = 6;

/// The debug port: each byte written goes to the console.
pub const DEBUG: Range<u16> = 0xe9..0xea;
/// The exit port: the value written ends the run.
pub const EXIT: Range<u16> = 0xf4..0xf8;
