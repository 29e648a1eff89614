//! The PC's interval timer (Intel 8254) without its interrupt, and system control port B, which gates its third
//! channel.
//!
//! It is for machines that have only local APICs. Guests calibrate their other clocks with these counters: Linux does
//! that for its TSC if no CPUID leaf has the frequency, and polls ports forever if nothing counts there. If KVM
//! emulates the timer, this one is not used.

use std::time::Duration;

use serde_json::json;

use super::chip::Chip;
use super::{Clock, PortDevice, PowerEvent};
use crate::device::Value;

/// Frequency in Hz.
const FREQUENCY: u128 = 1_193_182;
/// Ports, relative to the first channel's.
const CONTROL: u16 = 3;
const PORT_B: u16 = 0x61 - 0x40;
/// The channel whose gate and output are in port B.
const SPEAKER: usize = 2;

// Port B.
const GATE: u8 = 1 << 0;
const SPEAKER_DATA: u8 = 1 << 1;
/// Toggles with each memory refresh, every 15 us.
const REFRESH: u8 = 1 << 4;
const OUTPUT: u8 = 1 << 5;

/// The bytes of a counter that are accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bytes {
    Low = 1,
    High = 2,
    Both = 3,
}

/// A counter.
#[derive(Debug)]
struct Channel {
    mode: u8,
    bytes: Bytes,
    /// The count; 0x10000 instead of 0.
    reload: u64,
    /// The time at which it started to count from `reload`.
    start: Duration,
    gate: bool,
    /// The count when its gate was closed.
    stopped: u64,
    /// The low byte of a new count that is written in two parts.
    written: Option<u8>,
    /// Latched bytes, which are read before the counter itself.
    latched: [Option<u8>; 3],
    /// The next read returns the high byte.
    high_next: bool,
}

impl Channel {
    /// Creates a channel in the state that a PC's firmware leaves: mode 2 or 3, the longest period.
    fn new(mode: u8, gate: bool) -> Self {
        Self {
            mode,
            bytes: Bytes::Both,
            reload: 0x1_0000,
            start: Duration::ZERO,
            gate,
            stopped: 0,
            written: None,
            latched: [None; 3],
            high_next: false,
        }
    }

    /// Returns the number of ticks counted.
    fn ticks(&self, now: Duration) -> u64 {
        if !self.gate && self.mode != 1 && self.mode != 5 {
            return self.stopped;
        }
        (now.saturating_sub(self.start).as_nanos() * FREQUENCY / 1_000_000_000) as u64
    }

    fn count(&self, now: Duration) -> u16 {
        let ticks = self.ticks(now);
        match self.mode {
            2 => (self.reload - ticks % self.reload) as u16,
            // It counts by two, so that its output is a square wave.
            3 => (self.reload - ticks.wrapping_mul(2) % self.reload) as u16 & !1,
            _ => self.reload.wrapping_sub(ticks) as u16,
        }
    }

    fn output(&self, now: Duration) -> bool {
        let ticks = self.ticks(now);
        match self.mode {
            0 | 1 => ticks >= self.reload,
            2 => ticks % self.reload != self.reload - 1,
            3 => ticks % self.reload < self.reload.div_ceil(2),
            _ => ticks != self.reload,
        }
    }

    fn set_gate(&mut self, gate: bool, now: Duration) {
        if gate == self.gate {
            return;
        }
        if !gate {
            self.stopped = self.ticks(now);
        } else if matches!(self.mode, 0 | 4) {
            // The counter continues.
            let passed = u128::from(self.stopped) * 1_000_000_000 / FREQUENCY;
            self.start = now.saturating_sub(Duration::from_nanos(passed as u64));
        } else {
            self.start = now;
        }
        self.gate = gate;
    }

    fn set_mode(&mut self, command: u8, now: Duration) {
        self.bytes = match command >> 4 & 3 {
            1 => Bytes::Low,
            2 => Bytes::High,
            _ => Bytes::Both,
        };
        self.mode = match command >> 1 & 7 {
            mode @ 0..6 => mode,
            mode => mode - 4,
        };
        (self.written, self.latched, self.high_next) = (None, [None; 3], false);
        (self.start, self.stopped) = (now, 0);
    }

    fn latch_count(&mut self, now: Duration) {
        // A latched count stays until it is read.
        if self.latched[1].is_none() && self.latched[2].is_none() {
            let [low, high] = self.count(now).to_le_bytes();
            (self.latched[1], self.latched[2]) = match self.bytes {
                Bytes::Low => (Some(low), None),
                Bytes::High => (None, Some(high)),
                Bytes::Both => (Some(low), Some(high)),
            };
        }
    }

    fn latch_status(&mut self, now: Duration) {
        let status = u8::from(self.output(now)) << 7 | (self.bytes as u8) << 4 | self.mode << 1;
        self.latched[0].get_or_insert(status);
    }

    fn read(&mut self, now: Duration) -> u8 {
        if let Some(byte) = self.latched.iter_mut().find_map(Option::take) {
            return byte;
        }
        let [low, high] = self.count(now).to_le_bytes();
        match self.bytes {
            Bytes::Low => low,
            Bytes::High => high,
            Bytes::Both => {
                self.high_next = !self.high_next;
                if self.high_next { low } else { high }
            }
        }
    }

    fn write(&mut self, value: u8, now: Duration) {
        let count = match (self.bytes, self.written.take()) {
            (Bytes::Low, _) => u16::from_le_bytes([value, 0]),
            (Bytes::High, _) => u16::from_le_bytes([0, value]),
            (Bytes::Both, None) => return self.written = Some(value),
            (Bytes::Both, Some(low)) => u16::from_le_bytes([low, value]),
        };
        self.reload = if count == 0 { 0x1_0000 } else { count.into() };
        (self.start, self.stopped) = (now, 0);
    }
}

/// The timer on ports 0x40 to 0x43, and port 0x61.
pub struct IntervalTimer {
    clock: Clock,
    channels: [Channel; 3],
    speaker: u8,
    refresh: bool,
}

impl IntervalTimer {
    /// Creates the timer in the state that a PC's firmware leaves. `clock` is monotonic.
    pub fn new(clock: Clock) -> Self {
        let channels = [Channel::new(2, true), Channel::new(2, true), Channel::new(3, false)];
        Self { clock, channels, speaker: 0, refresh: false }
    }

    fn command(&mut self, command: u8, now: Duration) {
        let read_back = command >> 6 == 3;
        for (index, channel) in self.channels.iter_mut().enumerate() {
            if read_back {
                // A clear bit requests a value.
                if command >> (index + 1) & 1 != 0 {
                    if command & 1 << 5 == 0 {
                        channel.latch_count(now);
                    }
                    if command & 1 << 4 == 0 {
                        channel.latch_status(now);
                    }
                }
            } else if usize::from(command >> 6) == index {
                match command >> 4 & 3 {
                    0 => channel.latch_count(now),
                    _ => channel.set_mode(command, now),
                }
            }
        }
    }

    fn port_b(&mut self, now: Duration) -> u8 {
        self.refresh = !self.refresh;
        let channel = &self.channels[SPEAKER];
        let gate = if channel.gate { GATE } else { 0 };
        let output = if channel.output(now) { OUTPUT } else { 0 };
        gate | self.speaker | output | if self.refresh { REFRESH } else { 0 }
    }
}

impl PortDevice for IntervalTimer {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        let now = (self.clock)();
        for (byte, port) in data.iter_mut().zip(offset..) {
            *byte = match port {
                PORT_B => self.port_b(now),
                CONTROL => 0xff,
                channel => self.channels.get_mut(usize::from(channel)).map_or(0xff, |channel| channel.read(now)),
            };
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<PowerEvent> {
        let now = (self.clock)();
        for (value, port) in data.iter().zip(offset..) {
            match port {
                PORT_B => {
                    self.channels[SPEAKER].set_gate(value & GATE != 0, now);
                    self.speaker = value & SPEAKER_DATA;
                }
                CONTROL => self.command(*value, now),
                channel => {
                    if let Some(channel) = self.channels.get_mut(usize::from(channel)) {
                        channel.write(*value, now);
                    }
                }
            }
        }
        None
    }
}

impl Chip for IntervalTimer {
    fn inspect(&self) -> Value {
        let channel =
            |channel: &Channel| json!({ "mode": channel.mode, "reload": channel.reload, "gate": channel.gate });
        json!({ "channels": self.channels.iter().map(channel).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
#[path = "interval_timer_tests.rs"]
mod tests;
