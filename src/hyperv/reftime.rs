//! Reference time: the partition's clock, in units of 100 ns (TLFS, "Reference Counter" and
//! "Partition Reference Time Enlightenment").
//!
//! If the host's TSC is suitable, reference time is a function of the guest's TSC, and the reference TSC page contains
//! the scale and offset of that function. The MSR and the page always agree, because both use the same formula.
//! Otherwise the clock counts the host's monotonic time, and the page's sequence is 0, which makes the guest use the
//! MSR.
//!
//! The clock stops while the partition is paused. It never steps back, on any VP.

use std::sync::atomic::{AtomicU64, Ordering};

use super::registers::ReferenceTscPage;

/// Reference-time units per second.
pub const UNITS_PER_SECOND: u64 = 10_000_000;
/// Nanoseconds per reference-time unit.
pub const NANOSECONDS_PER_UNIT: u64 = 100;

/// The host's clocks, read at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The TSC as the guest reads it.
    pub guest_tsc: u64,
    /// The host's monotonic clock, in nanoseconds.
    pub monotonic: u64,
}

/// The source of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// reference = ((guest TSC * scale) >> 64) + offset.
    Tsc { scale: u64, offset: i64, sequence: u32 },
    /// reference = monotonic / 100 + offset.
    Monotonic { offset: i64 },
}

/// A partition's reference clock.
#[derive(Debug)]
pub struct ReferenceTime {
    source: Source,
    paused_at: Option<u64>,
    /// The latest time that was returned.
    latest: AtomicU64,
}

/// Returns the scale for a TSC of this frequency, or `None` if it does not fit in 64 bits (10 MHz and less).
pub fn tsc_scale(frequency: u64) -> Option<u64> {
    let scale = (u128::from(UNITS_PER_SECOND) << 64).checked_div(u128::from(frequency))?;
    u64::try_from(scale).ok()
}

fn scaled(tsc: u64, scale: u64) -> u64 {
    ((u128::from(tsc) * u128::from(scale)) >> 64) as u64
}

impl ReferenceTime {
    /// Creates a clock that reads 0 at `now`. Pass the TSC's frequency only if the TSC is invariant and the same on
    /// every VP.
    pub fn new(tsc_frequency: Option<u64>, now: Reading) -> Self {
        let source = match tsc_frequency.and_then(tsc_scale) {
            Some(scale) => Source::Tsc { scale, offset: 0, sequence: 1 },
            None => Source::Monotonic { offset: 0 },
        };
        let mut time = Self { source, paused_at: None, latest: AtomicU64::new(0) };
        time.set(0, now);
        time
    }

    /// Returns the time at `now`, which is the value of TIME_REF_COUNT.
    pub fn at(&self, now: Reading) -> u64 {
        let time = self.paused_at.unwrap_or_else(|| self.computed(now));
        self.latest.fetch_max(time, Ordering::Relaxed).max(time)
    }

    /// Returns the content of the reference TSC page. The sequence is 0 if the clock does not use the TSC.
    pub fn page(&self) -> ReferenceTscPage {
        match self.source {
            Source::Tsc { scale, offset, sequence } => ReferenceTscPage { sequence, reserved: 0, scale, offset },
            Source::Monotonic { .. } => ReferenceTscPage::default(),
        }
    }

    /// Returns `true` if the reference TSC page is valid.
    pub fn has_page(&self) -> bool {
        matches!(self.source, Source::Tsc { .. })
    }

    /// Returns the time in nanoseconds from `now` until the clock reads `deadline`: 0 if it has passed, `None` while
    /// the clock is stopped.
    pub fn until(&self, deadline: u64, now: Reading) -> Option<u64> {
        let time = self.at(now);
        self.paused_at.is_none().then(|| deadline.saturating_sub(time).saturating_mul(NANOSECONDS_PER_UNIT))
    }

    /// Stops the clock. Call it when no VP is running.
    pub fn pause(&mut self, now: Reading) {
        self.paused_at.get_or_insert(self.computed(now).max(*self.latest.get_mut()));
    }

    /// Restarts the clock from the time at which it stopped. Call it before any VP runs.
    ///
    /// Returns `true` if the page's content has changed, so that it must be rewritten where it is shown.
    pub fn resume(&mut self, now: Reading) -> bool {
        match self.paused_at.take() {
            Some(time) => {
                self.set(time, now);
                self.has_page()
            }
            None => false,
        }
    }

    fn computed(&self, now: Reading) -> u64 {
        let time = match self.source {
            Source::Tsc { scale, offset, .. } => scaled(now.guest_tsc, scale).wrapping_add_signed(offset),
            Source::Monotonic { offset } => (now.monotonic / NANOSECONDS_PER_UNIT).wrapping_add_signed(offset),
        };
        // A reading from before the clock was set, possibly on another processor, counts as time 0.
        time.cast_signed().max(0).cast_unsigned()
    }

    /// Sets the clock to `time` at `now`.
    fn set(&mut self, time: u64, now: Reading) {
        match &mut self.source {
            Source::Tsc { scale, offset, sequence } => {
                *offset = time.wrapping_sub(scaled(now.guest_tsc, *scale)) as i64;
                *sequence = next_sequence(*sequence);
            }
            Source::Monotonic { offset } => {
                *offset = time.wrapping_sub(now.monotonic / NANOSECONDS_PER_UNIT) as i64;
            }
        }
    }
}

/// Returns the next sequence. 0 and 0xffffffff are never shown: 0 invalidates the page, and guests for TLFS versions
/// before 5 used 0xffffffff for that.
fn next_sequence(sequence: u32) -> u32 {
    match sequence.wrapping_add(1) {
        0 | u32::MAX => 1,
        next => next,
    }
}

#[cfg(test)]
#[path = "reftime_tests.rs"]
mod tests;
