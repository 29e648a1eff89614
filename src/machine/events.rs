//! The events of a running machine, for the program that started it.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use super::{End, Shared};
pub use crate::device::DeviceEvent;
use crate::device::Outlet;
use crate::host::limited;
use crate::host::lock::{Condvar, Mutex};
use crate::vmbus::bus::ChannelFailure;

/// Maximum number of events that are kept for later readers. It is bounded because a guest can cause failures repeatedly.
const KEPT: usize = 1024;

/// An event of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A device, handler or watcher failed or panicked.
    Failed(Failure),
    /// The guest has requested a reset and starts again.
    Restarted,
    /// Something happened to a device.
    Device(DeviceEvent),
}

/// The failure of a device, or of other code that the library's user gave to a machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A VMBus channel cannot be opened, or is no longer served until the guest opens it again.
    #[error(transparent)]
    Channel(#[from] ChannelFailure),
    /// Code of the library's user panicked.
    #[error("{what} panicked: {message}")]
    Panicked {
        /// The code that panicked, for example "the handler of hypercall Halve (0x7f00)".
        what: String,
        /// The panic's message.
        message: String,
    },
}

/// The events of one machine, from its start on: see [`Machine::events`](super::Machine::events).
///
/// As an iterator, it waits for each event, and finishes after the end of the machine. If more than 1,024 events have not been
/// read, the oldest ones are lost.
#[derive(Clone)]
pub struct Events {
    log: Arc<EventLog>,
    /// The number of the next event to return.
    next: u64,
}

impl Events {
    /// Waits for the next event. Returns `None` if none comes within `timeout`, or before the machine's end.
    pub fn wait(&mut self, timeout: Duration) -> Option<Event> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    /// Returns the number of the event that was returned last.
    pub(crate) fn number(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// Continues with the event that has this number.
    pub(crate) fn skip_to(&mut self, number: u64) {
        let state = self.log.state.lock();
        self.next = number.min(state.first + state.events.len() as u64);
    }

    /// Returns `true` if the machine has ended and every event has been returned.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.log.state.lock();
        state.over && self.next >= state.first + state.events.len() as u64
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Option<Event> {
        let mut state = self.log.state.lock();
        loop {
            let next = self.next.max(state.first);
            if let Some(event) = state.events.get((next - state.first) as usize) {
                self.next = next + 1;
                return Some(event.clone());
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if state.over || left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            let changed = &self.log.changed;
            state = match left {
                Some(left) => changed.wait_timeout(state, left),
                None => changed.wait(state),
            };
        }
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.wait_until(None)
    }
}

#[derive(Default)]
pub(super) struct EventLog {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The number of the first event that is kept.
    first: u64,
    events: VecDeque<Event>,
    over: bool,
}

impl EventLog {
    fn push(&self, event: Event) {
        let mut state = self.state.lock();
        if state.events.len() >= KEPT {
            state.events.pop_front();
            state.first += 1;
        }
        state.events.push_back(event);
        self.changed.notify_all();
    }
}

/// Collects the events of a machine.
pub(super) struct Announcer {
    name: String,
    log: Arc<EventLog>,
    /// The machine to end at the first failure, if this is enabled.
    ends: OnceLock<Weak<Shared>>,
}

impl Announcer {
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), log: Arc::default(), ends: OnceLock::new() }
    }

    /// Makes the next failure end the machine.
    pub fn end_on_failure(&self, machine: Weak<Shared>) {
        let _ = self.ends.set(machine);
    }

    /// Records a failure.
    pub fn failed(&self, failure: Failure) {
        // The bus has already logged failures of channels.
        if let Failure::Panicked { .. } = failure {
            limited::error!(of: &self.name, "{}: {failure}", self.name);
        }
        self.log.push(Event::Failed(failure.clone()));
        if let Some(machine) = self.ends.get().and_then(Weak::upgrade) {
            machine.end_run(End::DeviceFailed(failure));
        }
    }

    /// Records a panic of the library user's code.
    pub fn panicked(&self, what: impl Into<String>, message: String) {
        self.failed(Failure::Panicked { what: what.into(), message });
    }

    /// Returns the outlet through which devices report their events.
    pub fn outlet(&self) -> Outlet {
        let log = self.log.clone();
        Outlet::new(move |event| log.push(Event::Device(event)))
    }

    pub fn restarted(&self) {
        self.log.push(Event::Restarted);
    }

    /// Records that the machine has ended.
    pub fn over(&self) {
        self.log.state.lock().over = true;
        self.log.changed.notify_all();
    }

    pub fn events(&self) -> Events {
        Events { log: self.log.clone(), next: 0 }
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
