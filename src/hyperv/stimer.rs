//! The four synthetic timers of one VP (TLFS, "Synthetic Timers").
//!
//! A timer expires at an absolute reference time. The expirations of a periodic timer are multiples of the period from
//! the time when it was enabled, so that delays do not accumulate. This module decides what expires when. The engine
//! sleeps until [`Timers::next_deadline`] and then calls [`Timers::expire`]; nothing polls.
//!
//! A timer has one message buffer. While its message waits for a busy slot, the timer sends no other message and has no
//! deadline; it resumes on the guest's EOM. Expirations that it missed meanwhile, or because the host was late, are
//! made up for at half the period (the TLFS's "period modulation"), up to [`MAX_CATCH_UP`] of them; the rest is
//! skipped. A lazy timer skips all missed expirations, and also a late message if the next expiration is almost due.
//!
//! A timer whose half period is shorter than [`MIN_PERIOD`] does not make up for missed expirations: the guest might need
//! longer than half a period to handle an expiration, and would have no time for anything else.

use super::registers::TimerConfig;
use super::types::{Fault, GP, TIMER_COUNT, TimerIndex};

/// Shortest supported period, in reference time: 100 us. It limits the load on the host.
pub const MIN_PERIOD: u64 = 1000;
/// Longest time that an expiration of a periodic timer waits for those of other timers, in reference time: 100 us.
const MAX_SLACK: u64 = 1000;
/// Number of missed expirations that a timer makes up for.
pub const MAX_CATCH_UP: u64 = 16;

/// An expiration of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiration {
    /// The timer.
    pub timer: TimerIndex,
    /// The time when it was due.
    pub nominal: u64,
    /// The configuration at that time.
    pub config: TimerConfig,
}

/// The state of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not running.
    Idle,
    /// Expires at `fire`, which is `nominal` unless the timer is catching up.
    Armed { nominal: u64, fire: u64 },
    /// Expired at `nominal`; the message waits for a slot.
    Undelivered { nominal: u64 },
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    config: TimerConfig,
    count: u64,
    phase: Phase,
}

impl Timer {
    const RESET: Self = Self { config: TimerConfig(0), count: 0, phase: Phase::Idle };

    fn period(&self) -> u64 {
        self.count.max(MIN_PERIOD)
    }

    /// The time that an expiration may wait for those of other timers. Expirations of a one-shot timer never wait.
    fn slack(&self) -> u64 {
        if self.config.periodic() { (self.period() / 16).min(MAX_SLACK) } else { 0 }
    }

    /// Starts the timer from its registers and discards its previous state.
    fn start(&mut self, now: u64) {
        self.phase = if !self.config.enabled() || self.count == 0 {
            Phase::Idle
        } else {
            let due = if self.config.periodic() { now.saturating_add(self.period()) } else { self.count };
            Phase::Armed { nominal: due, fire: due }
        };
    }

    /// Continues after the expiration due at `nominal` was delivered at `now`.
    fn delivered(&mut self, nominal: u64, now: u64) {
        if !self.config.periodic() {
            self.phase = Phase::Idle;
            return;
        }
        let period = self.period();
        let missed = now.saturating_sub(nominal) / period;
        let is_short = period < 2 * MIN_PERIOD;
        let kept = if self.config.lazy() || is_short { 0 } else { missed.min(MAX_CATCH_UP) };
        // Skips all but the last `kept` missed expirations, then continues at multiples of the period.
        let mut next = nominal.saturating_add((missed - kept + 1).saturating_mul(period));
        if missed > 0 && is_short && !self.config.lazy() && next < now.saturating_add(MIN_PERIOD / 2) {
            next = next.saturating_add(period);
        }
        let fire = if kept > 0 { now.saturating_add(period / 2) } else { next };
        self.phase = Phase::Armed { nominal: next, fire: fire.max(next) };
    }
}

/// The timers of one VP.
#[derive(Debug)]
pub struct Timers {
    timers: [Timer; TIMER_COUNT],
}

impl Default for Timers {
    fn default() -> Self {
        Self { timers: [Timer::RESET; TIMER_COUNT] }
    }
}

impl Timers {
    /// STIMERn_CONFIG.
    pub fn config(&self, timer: TimerIndex) -> u64 {
        self.timers[timer.index()].config.0
    }

    /// STIMERn_COUNT.
    pub fn count(&self, timer: TimerIndex) -> u64 {
        self.timers[timer.index()].count
    }

    /// Writes STIMERn_CONFIG at `now`. An undelivered expiration is discarded.
    ///
    /// # Errors
    /// Returns #GP for reserved bits, for direct mode if it is not offered, and for enabling it with a vector below 16.
    pub fn set_config(&mut self, timer: TimerIndex, value: u64, direct_offered: bool, now: u64) -> Result<(), Fault> {
        let mut config = TimerConfig(value);
        if value & TimerConfig::RESERVED != 0 || config.direct() && !direct_offered {
            return Err(GP);
        }
        if config.direct() && config.enabled() && config.vector() < 16 {
            return Err(GP);
        }
        // An enabled timer that sends its message to SINT 0 is disabled at once. A timer that is enabled before it has
        // a count stays enabled, and starts when the count is written.
        if !config.direct() && config.sint().get() == 0 {
            config = config.with_enabled(false);
        }
        let timer = &mut self.timers[timer.index()];
        timer.config = config;
        timer.start(now);
        Ok(())
    }

    /// Writes STIMERn_COUNT at `now`: 0 disables the timer; any other value enables a timer with AutoEnable.
    pub fn set_count(&mut self, timer: TimerIndex, count: u64, now: u64) {
        let timer = &mut self.timers[timer.index()];
        timer.count = count;
        let config = timer.config;
        if count == 0 {
            timer.config = config.with_enabled(false);
        } else if config.auto_enable() {
            // The rule for SINT 0 also applies here.
            timer.config = config.with_enabled(config.direct() || config.sint().get() != 0);
        }
        timer.start(now);
    }

    /// Returns the time of the next call to [`expire`](Self::expire), in reference time.
    ///
    /// A periodic timer waits for up to its [slack](Timer::slack) if other timers expire within that time, so that the VP
    /// is interrupted once for all of them.
    pub fn next_deadline(&self) -> Option<u64> {
        let armed = || {
            self.timers.iter().filter_map(|timer| match timer.phase {
                Phase::Armed { fire, .. } => Some((fire, fire.saturating_add(timer.slack()))),
                Phase::Idle | Phase::Undelivered { .. } => None,
            })
        };
        let latest = armed().map(|(_, latest)| latest).min()?;
        armed().map(|(fire, _)| fire).filter(|fire| *fire <= latest).max()
    }

    /// Returns the next expiration that is due at `now`. It is undelivered until [`delivered`](Self::delivered) is
    /// called. A one-shot timer is disabled.
    pub fn expire(&mut self, now: u64) -> Option<Expiration> {
        TimerIndex::all().find_map(|index| {
            let timer = &mut self.timers[index.index()];
            let Phase::Armed { nominal, fire } = timer.phase else { return None };
            if fire > now {
                return None;
            }
            timer.phase = Phase::Undelivered { nominal };
            if !timer.config.periodic() {
                timer.config = timer.config.with_enabled(false);
            }
            Some(Expiration { timer: index, nominal, config: timer.config })
        })
    }

    /// Returns the expirations whose messages wait for the slot of a SINT, in the timers' order.
    pub fn undelivered(&self) -> impl Iterator<Item = Expiration> {
        TimerIndex::all().filter_map(|index| {
            let timer = &self.timers[index.index()];
            match timer.phase {
                Phase::Undelivered { nominal } => Some(Expiration { timer: index, nominal, config: timer.config }),
                Phase::Idle | Phase::Armed { .. } => None,
            }
        })
    }

    /// Records that the timer's expiration was delivered at `now`, and continues with the next.
    pub fn delivered(&mut self, timer: TimerIndex, now: u64) {
        let timer = &mut self.timers[timer.index()];
        if let Phase::Undelivered { nominal } = timer.phase {
            timer.delivered(nominal, now);
        }
    }

    /// Skips a lazy timer's late expiration if the next one is almost due. Returns `true` if it did.
    ///
    /// Called when the slot that the message waited for is free. The last quarter of a period counts as "shortly before
    /// the next timer is due".
    pub fn skip_if_stale(&mut self, timer: TimerIndex, now: u64) -> bool {
        let timer = &mut self.timers[timer.index()];
        let Phase::Undelivered { nominal } = timer.phase else { return false };
        if !(timer.config.lazy() && timer.config.periodic()) {
            return false;
        }
        let period = timer.period();
        let into_period = now.saturating_sub(nominal) % period;
        let stale = into_period >= period - period / 4;
        if stale {
            timer.delivered(nominal, now);
        }
        stale
    }
}

#[cfg(test)]
#[path = "stimer_tests.rs"]
mod tests;
