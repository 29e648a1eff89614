//! ACPI's fixed power management hardware (ACPI 6.5, section 4.8): the PM1a event and control blocks, the PM timer, and
//! the reset register (section 4.8.3.6) at its usual port since Intel's PIIX.
//!
//! The hardware is always in ACPI mode, so its FADT has no SMI command port. Of the wake-up and alarm events, only the
//! power button occurs. The timer's carry sets its status bit but raises no interrupt. SCI is level-triggered: it stays
//! asserted until the guest clears the status or the enable bit.

use serde_json::json;

use super::chip::Chip;
use super::{Clock, LevelLine, PortDevice, PowerEvent, ports};
use crate::device::Value;

/// Offsets of the blocks from [`ports::ACPI_POWER`].
const STATUS: u16 = ports::PM1A_EVENT - ports::ACPI_POWER.start;
const ENABLE: u16 = STATUS + 2;
const CONTROL: u16 = ports::PM1A_CONTROL - ports::ACPI_POWER.start;
const TIMER: u16 = ports::PM_TIMER - ports::ACPI_POWER.start;

/// PM1 status and enable: the timer's highest bit changed.
const TIMER_CARRY: u16 = 1 << 0;
/// PM1 status and enable: the power button was pressed.
const POWER_BUTTON: u16 = 1 << 8;
/// PM1 enable: the writable bits: timer, global lock, power button, sleep button, RTC, PCI Express wake-up.
const ENABLE_BITS: u16 = TIMER_CARRY | 1 << 5 | POWER_BUTTON | 1 << 9 | 1 << 10 | 1 << 14;

/// PM1 control: events raise SCI, not SMI. Always set.
const SCI_EN: u16 = 1 << 0;
/// PM1 control: the stored bits: bus master reload, global lock release, sleep type. The others are reserved or
/// write-only.
const CONTROL_BITS: u16 = 1 << 1 | SLP_TYP;
const SLP_TYP: u16 = 7 << 10;
/// PM1 control: enters the sleep state in SLP_TYP. Reads as zero.
const SLP_EN: u16 = 1 << 13;

/// Frequency in Hz ("Power Management Timer").
pub const TIMER_FREQUENCY: u32 = 3_579_545;

/// PM1a event block, PM1a control block and PM timer.
pub struct AcpiPower {
    clock: Clock,
    interrupt: LevelLine,
    asserted: bool,
    status: u16,
    enable: u16,
    control: u16,
    /// The timer's value when its carry bit was last cleared.
    carry_cleared: u32,
}

impl AcpiPower {
    /// Creates the blocks in the power-on state. `clock` is monotonic; `interrupt` is the SCI.
    pub fn new(clock: Clock, interrupt: LevelLine) -> Self {
        let mut power =
            Self { clock, interrupt, asserted: false, status: 0, enable: 0, control: SCI_EN, carry_cleared: 0 };
        power.carry_cleared = power.timer();
        power
    }

    /// Presses the power button.
    pub fn press_power_button(&mut self) {
        self.status |= POWER_BUTTON;
        self.update_interrupt();
    }

    /// Returns the 32-bit timer. (If the FADT specifies 24 bits, guests mask the rest.)
    fn timer(&self) -> u32 {
        ((self.clock)().as_nanos() * u128::from(TIMER_FREQUENCY) / 1_000_000_000) as u32
    }

    /// Updates and returns the status register.
    fn status(&mut self) -> u16 {
        const HIGHEST: u32 = 1 << 31;
        if (self.timer() ^ self.carry_cleared) & HIGHEST != 0 {
            self.status |= TIMER_CARRY;
        }
        self.status
    }

    /// Writing a one clears a status bit.
    fn clear_status(&mut self, bits: u16) {
        self.status();
        self.status &= !bits;
        if bits & TIMER_CARRY != 0 {
            self.carry_cleared = self.timer();
        }
        self.update_interrupt();
    }

    fn set_enable(&mut self, value: u16) {
        self.enable = value & ENABLE_BITS;
        self.update_interrupt();
    }

    /// Asserts SCI while the power button's event is pending and enabled.
    fn update_interrupt(&mut self) {
        let asserted = self.status & self.enable & POWER_BUTTON != 0;
        if std::mem::replace(&mut self.asserted, asserted) != asserted {
            (self.interrupt)(asserted);
        }
    }

    fn set_control(&mut self, value: u16) -> Option<PowerEvent> {
        self.control = value & CONTROL_BITS | SCI_EN;
        let kind = (value & SLP_TYP) >> 10;
        // What a guest in S4 needs to wake is on its disks. Guests that were not offered S4 do not know its type.
        let is_off = [ports::S5_SLEEP_TYPE, ports::S4_SLEEP_TYPE].map(u16::from).contains(&kind);
        (value & SLP_EN != 0 && is_off).then_some(PowerEvent::PowerOff)
    }
}

impl PortDevice for AcpiPower {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        let mut registers = [0; 12];
        registers[usize::from(STATUS)..][..2].copy_from_slice(&self.status().to_le_bytes());
        registers[usize::from(ENABLE)..][..2].copy_from_slice(&self.enable.to_le_bytes());
        registers[usize::from(CONTROL)..][..2].copy_from_slice(&self.control.to_le_bytes());
        registers[usize::from(TIMER)..][..4].copy_from_slice(&self.timer().to_le_bytes());
        let shown = registers.iter().skip(offset.into()).chain(std::iter::repeat(&0xff));
        data.iter_mut().zip(shown).for_each(|(byte, register)| *byte = *register);
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<PowerEvent> {
        let mut written = [None; 12];
        written.iter_mut().skip(offset.into()).zip(data).for_each(|(slot, byte)| *slot = Some(*byte));
        // A partial access takes the other bytes from the register; for the status, they clear nothing.
        let word = |register: u16, rest: u16| {
            let [low, high] = [written[usize::from(register)], written[usize::from(register) + 1]];
            let [rest_low, rest_high] = rest.to_le_bytes();
            let value = u16::from_le_bytes([low.unwrap_or(rest_low), high.unwrap_or(rest_high)]);
            (low.is_some() || high.is_some()).then_some(value)
        };
        let (status, enable, control) = (word(STATUS, 0), word(ENABLE, self.enable), word(CONTROL, self.control));
        if let Some(bits) = status {
            self.clear_status(bits);
        }
        if let Some(value) = enable {
            self.set_enable(value);
        }
        control.and_then(|value| self.set_control(value))
    }
}

/// The reset control register of PC chipsets, which is the FADT's reset register.
#[derive(Default)]
pub struct ResetControl {
    value: u8,
}

impl ResetControl {
    /// Resets the whole system or only the CPU: the same here.
    const SYSTEM: u8 = 1 << 1;
    /// A change from 0 to 1 resets.
    const RESET: u8 = 1 << 2;
    /// Whether a reset cycles the power.
    const FULL: u8 = 1 << 3;
}

impl PortDevice for ResetControl {
    fn read(&mut self, _offset: u16, data: &mut [u8]) {
        data.fill(self.value);
    }

    fn write(&mut self, _offset: u16, data: &[u8]) -> Option<PowerEvent> {
        let value = *data.first()?;
        self.value = value & (Self::SYSTEM | Self::FULL);
        (value & Self::RESET != 0).then_some(PowerEvent::Reset)
    }
}

const _: () = assert!(ports::RESET_VALUE == ResetControl::SYSTEM | ResetControl::RESET);

impl Chip for AcpiPower {
    fn inspect(&self) -> Value {
        json!({ "status": self.status, "enable": self.enable, "control": self.control })
    }
}

#[cfg(test)]
#[path = "acpi_power_tests.rs"]
mod tests;
