//! The events of all machines, for clients that follow them.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::lock::{Condvar, Mutex};

/// Events that are kept for those who come later.
const KEPT: usize = 1024;

/// The events of all machines. Numbers grow also from one service to the next.
pub struct EventLog {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    events: VecDeque<Value>,
    /// The number of the next event.
    next: u64,
    /// No more events come.
    closed: bool,
}

/// The next item for a client that follows the events.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// An event and its number.
    Event(u64, Value),
    /// Events up to this number are not kept any more.
    Lost(u64),
    /// Nothing has happened in the given time.
    Nothing,
    /// The service ends.
    Closed,
}

impl EventLog {
    /// Creates a log without events.
    pub fn new() -> Self {
        // A clock that was put back costs nothing but events that a client gets twice.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let next = u64::try_from(since.as_micros()).unwrap_or(1).max(1);
        Self { state: Mutex::new(State { events: VecDeque::new(), next, closed: false }), changed: Condvar::default() }
    }

    /// Adds an event.
    pub fn add(&self, mut event: Value) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        event["time"] = time.into();
        let mut state = self.state.lock();
        state.events.push_back(event);
        if state.events.len() > KEPT {
            state.events.pop_front();
        }
        state.next += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Ends the streams of all who follow.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// Returns the number after which events that come from now on have theirs.
    pub fn newest(&self) -> u64 {
        self.state.lock().next - 1
    }

    /// Waits for the event after the one with number `last`.
    pub fn after(&self, last: u64, limit: Duration) -> Next {
        let begun = Instant::now();
        let mut state = self.state.lock();
        loop {
            let first = state.next - state.events.len() as u64;
            if last >= state.next {
                // A number of another service, whose clock was ahead.
                return Next::Lost(state.next - 1);
            }
            if last + 1 < first {
                return Next::Lost(first - 1);
            }
            if let Some(event) = state.events.get((last + 1 - first) as usize) {
                return Next::Event(last + 1, event.clone());
            }
            if state.closed {
                return Next::Closed;
            }
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Next::Nothing;
            }
            state = self.changed.wait_timeout(state, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_numbered_and_the_oldest_are_forgotten() {
        let log = EventLog::new();
        let start = log.newest();
        assert_eq!(log.after(start, Duration::ZERO), Next::Nothing);
        for number in 0..KEPT + 2 {
            log.add(json!({ "number": number }));
        }
        assert_eq!(log.newest(), start + KEPT as u64 + 2);
        assert_eq!(log.after(start, Duration::ZERO), Next::Lost(start + 2));
        assert_eq!(log.after(0, Duration::ZERO), Next::Lost(start + 2));
        let Next::Event(number, event) = log.after(start + 2, Duration::ZERO) else { panic!("it is kept") };
        assert_eq!((number, &event["number"]), (start + 3, &2.into()));
        assert!(event["time"].is_f64());
        assert_eq!(log.after(u64::MAX, Duration::ZERO), Next::Lost(log.newest()));
        log.close();
        assert_eq!(log.after(log.newest(), Duration::MAX), Next::Closed);
    }

    #[test]
    fn a_follower_wakes_up_at_an_event() {
        let log = EventLog::new();
        let last = log.newest();
        std::thread::scope(|scope| {
            let follower = scope.spawn(|| log.after(last, Duration::from_secs(600)));
            log.add(json!({ "event": "x" }));
            assert!(matches!(follower.join().unwrap(), Next::Event(..)));
        });
    }
}
