//! The real-time clock: Motorola's MC146818 as in a PC, behind an index and a data port.
//!
//! Section names are those of the MC146818 data sheet. The time is the host's UTC plus an offset, and a guest that sets
//! its clock changes the offset. So nothing has to tick. The century is in register 0x32, as stated in the FADT, in the
//! same format as the year.
//!
//! There is no interrupt line: the enable bits of register B are stored, and register C shows the events since it was
//! last read, but a guest must poll. (Linux uses better clocks, and reads this one at boot.) The memory behind the
//! clock contains what a PC's setup program leaves there: see `cmos`. There are two simplifications. A running clock
//! always shows its time in the present format of register B, while the chip would have to be set again. A time that
//! does not exist, such as 31 February, becomes the corresponding later day.

mod calendar;
mod cmos;

use serde_json::json;

use super::chip::Chip;
use super::{Clock, PortDevice, PowerEvent};
use crate::device::Value;
use calendar::Moment;

const SECONDS: u8 = 0x00;
const SECONDS_ALARM: u8 = 0x01;
const MINUTES: u8 = 0x02;
const MINUTES_ALARM: u8 = 0x03;
const HOURS: u8 = 0x04;
const HOURS_ALARM: u8 = 0x05;
const DAY_OF_WEEK: u8 = 0x06;
const DAY_OF_MONTH: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const REGISTER_A: u8 = 0x0a;
const REGISTER_B: u8 = 0x0b;
const REGISTER_C: u8 = 0x0c;
const REGISTER_D: u8 = 0x0d;
/// The register in which PCs keep the century; not part of the chip.
pub const CENTURY: u8 = 0x32;

/// Register A: update in progress (read only).
const UIP: u8 = 0x80;
/// Register A: the divider select values 11x hold the divider chain in reset.
const DIVIDER_RESET: u8 = 0x60;
/// Register A: rate selection.
const RATE: u8 = 0x0f;
/// Register A after power-on, as firmware leaves it: a 32,768 Hz crystal and a rate of 1024 Hz.
const REGISTER_A_START: u8 = 0x26;

/// Register B: stops updates so that the program can set the time.
const SET: u8 = 0x80;
/// Register B: update-ended interrupt enable.
const UIE: u8 = 0x10;
/// Register B: binary data where set, BCD where clear.
const DATA_MODE_BINARY: u8 = 0x04;
/// Register B: 24-hour mode where set, 12-hour mode where clear.
const HOURS_24: u8 = 0x02;

/// Register C: an enabled flag is set.
const IRQF: u8 = 0x80;
/// Register C: periodic, alarm and update-ended flag, at the bits of their enables in register B.
const PF: u8 = 0x40;
const AF: u8 = 0x20;
const UF: u8 = 0x10;

/// Register D: RAM and time are valid, because the battery is never empty.
const VRT: u8 = 0x80;

/// In 12-hour mode, afternoon.
const PM: u8 = 0x80;
/// An alarm byte from 0xc0 up matches any value ("Time, Calendar and Alarm Locations").
const DO_NOT_CARE: u8 = 0xc0;

const SECOND: i128 = 1_000_000_000;
/// UIP is set this long before an update ("Update Cycle", tBUC). The update itself takes no time.
const BEFORE_UPDATE: i128 = 244_000;
/// Time from the divider's release to the first update ("Divider Control").
const AFTER_DIVIDER_RESET: i128 = SECOND / 2;
/// An alarm repeats at least daily, so it is sufficient to look back this far.
const ALARM_HORIZON: i128 = 24 * 60 * 60;

/// The real-time clock; see the module's description.
pub struct Rtc {
    utc: Clock,
    index: u8,
    /// All registers except the running time. While the clock is held, it includes the time registers.
    memory: [u8; 128],
    /// The guest's time minus the host's, in nanoseconds. The part below a second is the divider's phase.
    offset: i128,
    /// The guest's day of the week minus the calendar's: the chip only counts days.
    weekday_shift: u8,
    /// The host's time when register C was last read.
    flags_read: i128,
}

impl Rtc {
    /// Creates a clock that shows `utc`, the time since the Unix epoch, in a machine with `memory_size` bytes of memory.
    pub fn new(utc: Clock, memory_size: u64) -> Self {
        let mut memory = cmos::memory(memory_size);
        memory[usize::from(REGISTER_A)] = REGISTER_A_START;
        memory[usize::from(REGISTER_B)] = HOURS_24;
        let mut rtc = Self { utc, index: REGISTER_D, memory, offset: 0, weekday_shift: 0, flags_read: 0 };
        rtc.flags_read = rtc.host_time();
        rtc
    }

    fn read_register(&mut self, register: u8) -> u8 {
        match register {
            SECONDS | MINUTES | HOURS | DAY_OF_WEEK..=YEAR | CENTURY if !self.is_held() => {
                let second = self.time().div_euclid(SECOND);
                self.encode(register, &self.moment(second))
            }
            REGISTER_A => self.byte(REGISTER_A) | if self.update_is_near() { UIP } else { 0 },
            REGISTER_C => self.take_flags(),
            REGISTER_D => VRT,
            _ => self.byte(register),
        }
    }

    fn write_register(&mut self, register: u8, value: u8) {
        match register {
            SECONDS | MINUTES | HOURS | DAY_OF_WEEK..=YEAR | CENTURY if !self.is_held() => {
                self.hold();
                self.set_byte(register, value);
                self.release();
            }
            REGISTER_A => self.set_control(REGISTER_A, value & !UIP),
            REGISTER_B if value & SET != 0 => self.set_control(REGISTER_B, value & !UIE),
            REGISTER_B => self.set_control(REGISTER_B, value),
            REGISTER_C | REGISTER_D => {}
            _ => self.set_byte(register, value),
        }
    }

    /// Writes register A or B. Either can stop and restart the clock.
    fn set_control(&mut self, register: u8, value: u8) {
        let (was_held, was_reset) = (self.is_held(), self.is_divider_reset());
        self.set_byte(register, value);
        if was_reset && !self.is_divider_reset() {
            self.offset += SECOND - AFTER_DIVIDER_RESET - self.time().rem_euclid(SECOND);
        }
        match (was_held, self.is_held()) {
            (false, true) => self.hold(),
            (true, false) => self.release(),
            _ => {}
        }
    }

    /// Returns `true` if updates are off, so that the time registers are plain memory.
    fn is_held(&self) -> bool {
        self.byte(REGISTER_B) & SET != 0 || self.is_divider_reset()
    }

    fn is_divider_reset(&self) -> bool {
        self.byte(REGISTER_A) & DIVIDER_RESET == DIVIDER_RESET
    }

    /// Copies the running time into the registers.
    fn hold(&mut self) {
        let moment = self.moment(self.time().div_euclid(SECOND));
        for register in [SECONDS, MINUTES, HOURS, DAY_OF_WEEK, DAY_OF_MONTH, MONTH, YEAR, CENTURY] {
            self.set_byte(register, self.encode(register, &moment));
        }
    }

    /// Continues from the time in the registers, at the divider's phase.
    fn release(&mut self) {
        let second = calendar::seconds_from_epoch(
            i64::from(self.number(CENTURY)) * 100 + i64::from(self.number(YEAR)),
            i64::from(self.number(MONTH)),
            i64::from(self.number(DAY_OF_MONTH)),
            self.hour(),
            i64::from(self.number(MINUTES)),
            i64::from(self.number(SECONDS)),
        );
        let named = i16::from(self.number(DAY_OF_WEEK));
        let counted = i16::from(Moment::at(second).weekday);
        self.weekday_shift = (named - counted).rem_euclid(7) as u8;
        self.offset += i128::from(second) * SECOND + self.time().rem_euclid(SECOND) - self.time();
        self.flags_read = self.host_time();
    }

    /// Returns UIP: `true` if an update is less than [`BEFORE_UPDATE`] away. A program that sees it clear has that much
    /// time to read.
    fn update_is_near(&self) -> bool {
        !self.is_held() && self.time().rem_euclid(SECOND) >= SECOND - BEFORE_UPDATE
    }

    /// Reads register C: the events since it was last read.
    fn take_flags(&mut self) -> u8 {
        let (then, now) = (self.flags_read, self.host_time());
        self.flags_read = now;
        let mut flags = 0;
        let frequency = rate(self.byte(REGISTER_A) & RATE);
        if !self.is_divider_reset() && now * frequency / SECOND != then * frequency / SECOND {
            flags |= PF;
        }
        let (then, now) = ((then + self.offset).div_euclid(SECOND), (now + self.offset).div_euclid(SECOND));
        if !self.is_held() && then != now {
            flags |= UF;
            if (then.max(now - ALARM_HORIZON)..now).any(|second| self.alarm_is_at(second + 1)) {
                flags |= AF;
            }
        }
        if flags & self.byte(REGISTER_B) != 0 { flags | IRQF } else { flags }
    }

    fn alarm_is_at(&self, second: i128) -> bool {
        let moment = self.moment(second);
        [(SECONDS, SECONDS_ALARM), (MINUTES, MINUTES_ALARM), (HOURS, HOURS_ALARM)].into_iter().all(|(time, alarm)| {
            let alarm = self.byte(alarm);
            alarm >= DO_NOT_CARE || alarm == self.encode(time, &moment)
        })
    }

    /// Returns the guest's calendar for a second of its time.
    fn moment(&self, second: i128) -> Moment {
        // The time is a u64 of the host's seconds plus a year of at most five digits, so this never saturates.
        let mut moment = Moment::at(i64::try_from(second).unwrap_or(i64::MAX / 2));
        moment.weekday = (moment.weekday - 1 + self.weekday_shift) % 7 + 1;
        moment
    }

    /// Returns the content of a time register, in the format that register B selects.
    fn encode(&self, register: u8, moment: &Moment) -> u8 {
        let afternoon = if moment.hour >= 12 { PM } else { 0 };
        match register {
            SECONDS => self.digits(moment.second),
            MINUTES => self.digits(moment.minute),
            HOURS if self.byte(REGISTER_B) & HOURS_24 != 0 => self.digits(moment.hour),
            HOURS => self.digits((moment.hour + 11) % 12 + 1) | afternoon,
            DAY_OF_WEEK => self.digits(moment.weekday),
            DAY_OF_MONTH => self.digits(moment.day),
            MONTH => self.digits(moment.month),
            YEAR => self.digits(moment.year.rem_euclid(100) as u8),
            _ => self.digits(moment.year.div_euclid(100).rem_euclid(100) as u8),
        }
    }

    /// Returns the hour in the hours register, 0 to 23 if it is valid.
    fn hour(&self) -> i64 {
        if self.byte(REGISTER_B) & HOURS_24 != 0 {
            return i64::from(self.number(HOURS));
        }
        let hours = self.byte(HOURS);
        i64::from(self.plain(hours & !PM)) % 12 + if hours & PM != 0 { 12 } else { 0 }
    }

    fn digits(&self, number: u8) -> u8 {
        if self.byte(REGISTER_B) & DATA_MODE_BINARY != 0 { number } else { (number / 10) << 4 | (number % 10) }
    }

    fn plain(&self, digits: u8) -> u8 {
        if self.byte(REGISTER_B) & DATA_MODE_BINARY != 0 { digits } else { (digits >> 4) * 10 + (digits & 15) }
    }

    fn number(&self, register: u8) -> u8 {
        self.plain(self.byte(register))
    }

    fn byte(&self, register: u8) -> u8 {
        self.memory[usize::from(register & 0x7f)]
    }

    fn set_byte(&mut self, register: u8, value: u8) {
        self.memory[usize::from(register & 0x7f)] = value;
    }

    fn host_time(&self) -> i128 {
        (self.utc)().as_nanos() as i128
    }

    /// Returns the guest's time, in nanoseconds since the Unix epoch.
    fn time(&self) -> i128 {
        self.host_time() + self.offset
    }
}

/// Returns the periodic rate in Hz for a rate selection, with a 32,768 Hz crystal ("Periodic Interrupt Rate and Square Wave Frequency").
fn rate(selection: u8) -> i128 {
    match selection {
        0 => 0,
        1 | 2 => 512 >> selection,
        _ => 65536 >> selection,
    }
}

impl PortDevice for Rtc {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        for (port, byte) in (offset..).zip(data) {
            // The index port is not readable, so the bus floats.
            *byte = if port == 0 { 0xff } else { self.read_register(self.index) };
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<PowerEvent> {
        for (port, byte) in (offset..).zip(data) {
            match port {
                // The eighth bit masks NMIs on a PC and is not part of the index.
                0 => self.index = byte & 0x7f,
                _ => self.write_register(self.index, *byte),
            }
        }
        None
    }
}

impl Chip for Rtc {
    fn inspect(&self) -> Value {
        json!({
            "offset-seconds": self.offset.div_euclid(SECOND) as i64,
            "register-a": self.byte(REGISTER_A),
            "register-b": self.byte(REGISTER_B),
        })
    }
}

#[cfg(test)]
#[path = "rtc_tests.rs"]
mod tests;
