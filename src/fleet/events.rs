//! The events of a fleet since its start, for any number of listeners.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Event;
use super::log::Log;
use crate::host::event::EventFd;

/// The events of a fleet since its start: see [`RunningFleet::events`](super::RunningFleet::events).
///
/// As an iterator, it waits for each next event and finishes after the last machine's end. [`AsFd`] gives a descriptor to poll: it
/// is readable if [`wait`](Self::wait) has something to return, and remains so once the last machine has ended.
pub struct Events {
    log: Arc<Log>,
    /// The number of the next event.
    next: usize,
    changed: Arc<EventFd>,
}

impl Events {
    pub(super) fn new(log: Arc<Log>, changed: Arc<EventFd>) -> Self {
        Self { log, next: 0, changed }
    }

    /// Waits for the next event. Returns `None` if there is none within `timeout`, or if the last machine has ended.
    pub fn wait(&mut self, timeout: Duration) -> Option<Event> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    /// Returns `true` if the last machine has ended and every event was taken.
    pub fn is_over(&self) -> bool {
        self.log.is_over(self.next)
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Option<Event> {
        loop {
            if let Some(event) = self.log.take(self.next, &self.changed) {
                self.next += 1;
                return Some(event);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if self.is_over() || left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            // If the wait is interrupted, the loop checks again.
            let _ = self.changed.is_signalled_within(left);
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.changed.as_fd()
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.wait_until(None)
    }
}
