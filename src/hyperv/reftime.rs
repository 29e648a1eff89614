//! Reference time: the partition's clock, in units of 100 ns (TLFS, "Reference Counter" and
//! "Partition Reference Time Enlightenment").
//!
//! Where the host's TSC is fit for it, reference time *is* a function of the guest's TSC, and that
//! function's scale and offset are what the reference TSC page shows: the MSR and the page agree to
//! the tick because they are one formula. Elsewhere the clock counts the host's monotonic time, and the page's
//! sequence is 0, which sends the guest to the MSR.
//!
//! The clock stands still while the partition is paused. It never steps back, whichever VP asks.

use std::sync::atomic::{AtomicU64, Ordering};

use super::registers::ReferenceTscPage;

/// Reference-time units in a second.
pub const UNITS_PER_SECOND: u64 = 10_000_000;
/// Nanoseconds in a reference-time unit.
pub const NANOSECONDS_PER_UNIT: u64 = 100;

/// The host's clocks, read at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The TSC as the guest reads it.
    pub guest_tsc: u64,
    /// The host's monotonic clock, in nanoseconds.
    pub monotonic: u64,
}

/// What drives the clock.
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
    /// The latest time that anybody was told.
    latest: AtomicU64,
}

/// Returns the scale for a TSC of this frequency, or `None` where 64 bits cannot carry it (10 MHz and less).
pub fn tsc_scale(frequency: u64) -> Option<u64> {
    let scale = (u128::from(UNITS_PER_SECOND) << 64).checked_div(u128::from(frequency))?;
    u64::try_from(scale).ok()
}

fn scaled(tsc: u64, scale: u64) -> u64 {
    ((u128::from(tsc) * u128::from(scale)) >> 64) as u64
}

impl ReferenceTime {
    /// Creates a clock that reads 0 at `now`. Name the TSC's frequency only if the TSC is invariant and the same on every VP.
    pub fn new(tsc_frequency: Option<u64>, now: Reading) -> Self {
        let source = match tsc_frequency.and_then(tsc_scale) {
            Some(scale) => Source::Tsc { scale, offset: 0, sequence: 1 },
            None => Source::Monotonic { offset: 0 },
        };
        let mut time = Self { source, paused_at: None, latest: AtomicU64::new(0) };
        time.set(0, now);
        time
    }

    /// Returns the time at `now`: what TIME_REF_COUNT reads.
    pub fn at(&self, now: Reading) -> u64 {
        let time = self.paused_at.unwrap_or_else(|| self.computed(now));
        self.latest.fetch_max(time, Ordering::Relaxed).max(time)
    }

    /// Returns the reference TSC page's content. Sequence 0 where the TSC does not drive the clock.
    pub fn page(&self) -> ReferenceTscPage {
        match self.source {
            Source::Tsc { scale, offset, sequence } => ReferenceTscPage { sequence, reserved: 0, scale, offset },
            Source::Monotonic { .. } => ReferenceTscPage::default(),
        }
    }

    /// Returns `true` if the reference TSC page is of use.
    pub fn has_page(&self) -> bool {
        matches!(self.source, Source::Tsc { .. })
    }

    /// How many nanoseconds after `now` the clock reads `deadline`: 0 if it does already, `None` while it stands still.
    pub fn until(&self, deadline: u64, now: Reading) -> Option<u64> {
        let time = self.at(now);
        self.paused_at.is_none().then(|| deadline.saturating_sub(time).saturating_mul(NANOSECONDS_PER_UNIT))
    }

    /// Stops the clock, once no VP runs any more.
    pub fn pause(&mut self, now: Reading) {
        self.paused_at.get_or_insert(self.computed(now).max(*self.latest.get_mut()));
    }

    /// Lets the clock go on from where it stood, before any VP runs again.
    ///
    /// Returns `true` if the page's content has changed: then rewrite it wherever it is shown.
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
        // A reading taken before the clock was set, as another processor's may be, is before time began.
        time.cast_signed().max(0).cast_unsigned()
    }

    /// Makes the clock read `time` at `now`.
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

/// Returns the sequence that follows. 0 and 0xffffffff are never shown: 0 invalidates the page, and guests of
/// TLFS versions before 5 took 0xffffffff for the same.
fn next_sequence(sequence: u32) -> u32 {
    match sequence.wrapping_add(1) {
        0 | u32::MAX => 1,
        next => next,
    }
}

#[cfg(test)]
#[path = "reftime_tests.rs"]
mod tests;
