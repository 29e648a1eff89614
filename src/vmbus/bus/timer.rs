//! The clock and the timer of a channel, which stand still while the machine is paused.

use std::time::{Duration, Instant};

use crate::host::stopwatch::Stopwatch;

/// One timer. Its owner passes in the host's time.
#[derive(Debug)]
pub(super) struct Timer {
    clock: Stopwatch,
    /// By `clock`.
    deadline: Option<Duration>,
}

impl Timer {
    /// Creates a timer that is not set. Its clock starts now.
    pub fn new(now: Instant) -> Self {
        Self { clock: Stopwatch::new(now), deadline: None }
    }

    /// Returns the time since the clock was started, without the pauses.
    pub fn time(&self, now: Instant) -> Duration {
        self.clock.time(now)
    }

    /// Sets the timer to expire after `time`, and replaces what was set before.
    pub fn set(&mut self, time: Option<Duration>, now: Instant) {
        // A time that overflows never expires.
        self.deadline = time.and_then(|time| self.clock.time(now).checked_add(time));
    }

    /// Returns the time until it expires, if it is set and the clock runs.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let deadline = self.deadline.filter(|_| !self.clock.is_stopped())?;
        Some(deadline.saturating_sub(self.clock.time(now)))
    }

    /// Clears the timer if it has expired.
    pub fn take_expired(&mut self, now: Instant) {
        if self.left(now) == Some(Duration::ZERO) {
            self.deadline = None;
        }
    }

    /// Stops the clock.
    pub fn stop(&mut self, now: Instant) {
        self.clock.stop(now);
    }

    /// Ends a stop.
    pub fn resume(&mut self, now: Instant) {
        self.clock.resume(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_latest_setting_of_a_timer_applies_and_expires_once() {
        let now = Instant::now();
        let mut timer = Timer::new(now);
        assert_eq!(timer.left(now), None);
        timer.set(Some(SECOND * 5), now);
        timer.set(Some(SECOND), now);
        assert_eq!(timer.left(now), Some(SECOND));
        timer.take_expired(now + SECOND / 2);
        assert_eq!(timer.left(now + SECOND * 2), Some(Duration::ZERO));
        timer.take_expired(now + SECOND * 2);
        assert_eq!(timer.left(now + SECOND * 2), None);
        timer.set(Some(SECOND), now);
        timer.set(None, now);
        assert_eq!(timer.left(now), None);
        timer.set(Some(Duration::MAX), now + SECOND);
        assert_eq!(timer.left(now), None);
    }

    #[test]
    fn the_time_of_a_pause_is_not_counted() {
        let now = Instant::now();
        let mut timer = Timer::new(now);
        timer.set(Some(SECOND * 3), now);
        timer.stop(now + SECOND);
        assert_eq!(timer.left(now + SECOND * 100), None);
        timer.take_expired(now + SECOND * 100);
        timer.resume(now + SECOND * 100);
        assert_eq!(timer.left(now + SECOND * 101), Some(SECOND));
        timer.stop(now + SECOND * 101);
        timer.set(Some(SECOND * 7), now + SECOND * 150);
        timer.resume(now + SECOND * 200);
        assert_eq!(timer.left(now + SECOND * 200), Some(SECOND * 7));
    }
}
