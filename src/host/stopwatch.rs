//! A clock that can be stopped.

use std::time::{Duration, Instant};

/// Measures time except while it is stopped. Its owner passes in the host's time.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    start: Instant,
    /// The total of all stops that have ended.
    stopped: Duration,
    stopped_since: Option<Instant>,
}

impl Stopwatch {
    /// Creates a clock that starts at zero now.
    pub fn new(now: Instant) -> Self {
        Self { start: now, stopped: Duration::ZERO, stopped_since: None }
    }

    /// Returns the time.
    pub fn time(&self, now: Instant) -> Duration {
        self.stopped_since.unwrap_or(now).saturating_duration_since(self.start).saturating_sub(self.stopped)
    }

    /// Returns `true` while the clock is stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped_since.is_some()
    }

    /// Stops the clock.
    pub fn stop(&mut self, now: Instant) {
        self.stopped_since.get_or_insert(now);
    }

    /// Starts the clock again after a stop.
    pub fn resume(&mut self, now: Instant) {
        if let Some(since) = self.stopped_since.take() {
            self.stopped += now.saturating_duration_since(since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopped_time_is_not_counted() {
        const SECOND: Duration = Duration::from_secs(1);
        let start = Instant::now();
        let mut clock = Stopwatch::new(start);
        assert_eq!(clock.time(start + SECOND), SECOND);
        clock.stop(start + SECOND * 2);
        clock.stop(start + SECOND * 3);
        assert!(clock.is_stopped());
        assert_eq!(clock.time(start + SECOND * 50), SECOND * 2);
        clock.resume(start + SECOND * 100);
        clock.resume(start + SECOND * 200);
        assert_eq!(clock.time(start + SECOND * 101), SECOND * 3);
        clock.stop(start + SECOND * 101);
        clock.resume(start + SECOND * 102);
        assert_eq!(clock.time(start + SECOND * 103), SECOND * 4);
        assert_eq!(clock.time(start - SECOND), Duration::ZERO);
    }
}
