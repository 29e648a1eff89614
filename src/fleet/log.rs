//! The events of a fleet so far, and the threads to wake when there are more.

use std::io;
use std::sync::{Arc, Weak};

use super::{Event, Outcome};
use crate::host::event::EventFd;
use crate::host::lock::Mutex;

/// The events of a fleet: two for each machine at most, so all are kept.
#[derive(Default)]
pub(super) struct Log {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    events: Vec<Event>,
    over: bool,
    listeners: Vec<Weak<EventFd>>,
}

impl Log {
    pub fn push(&self, event: Event) {
        self.change(|state| state.events.push(event));
    }

    /// Adds the end of the last machine: whoever listens is woken once.
    pub fn push_last(&self, event: Event) {
        self.change(|state| {
            state.events.push(event);
            state.over = true;
        });
    }

    /// The last machine has ended.
    pub fn finish(&self) {
        if !self.state.lock().over {
            self.change(|state| state.over = true);
        }
    }

    /// Changes the state, and wakes whoever listens. They look at the state at once, so the lock is free by then.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let listeners: Vec<_> = state.listeners.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        listeners.iter().for_each(|changed| changed.signal());
    }

    /// Returns the event with this number. If there is none yet, `changed` becomes readable when there is.
    pub fn take(&self, number: usize, changed: &EventFd) -> Option<Event> {
        let state = self.state.lock();
        let event = state.events.get(number).cloned();
        if !state.over && number + 1 >= state.events.len() {
            // The listener has taken all events, so clear its signal.
            changed.take();
        }
        event
    }

    pub fn is_over(&self, next: usize) -> bool {
        let state = self.state.lock();
        state.over && next >= state.events.len()
    }

    pub fn outcomes(&self) -> Vec<Outcome> {
        let ended = |event: &Event| match event {
            Event::Ended { outcome, .. } => Some(outcome.clone()),
            Event::Started { .. } => None,
        };
        self.state.lock().events.iter().filter_map(ended).collect()
    }

    /// Returns a descriptor that is readable from now on whenever there is something to take.
    pub fn listen(&self) -> io::Result<Arc<EventFd>> {
        let changed = Arc::new(EventFd::new()?);
        let mut state = self.state.lock();
        state.listeners.retain(|listener| listener.strong_count() > 0);
        state.listeners.push(Arc::downgrade(&changed));
        if state.over || !state.events.is_empty() {
            changed.signal();
        }
        Ok(changed)
    }
}
