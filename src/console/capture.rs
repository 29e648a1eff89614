//! A console for programs: waits for what the guest prints, and types.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ConsoleInput;
use crate::wire::printable::Marked;

/// Output that is kept for a program that does not take it. From there on the oldest half goes.
const CAPACITY: usize = 16 << 20;

/// How much of the output's end an error shows, in bytes.
const TAIL: usize = 2000;

/// The wait for a text was in vain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", with_tail(&self.reason(), tail))]
pub struct NotSeen {
    /// What was waited for.
    pub text: String,
    /// How long it was waited for.
    pub waited: Duration,
    /// How the machine ended, in words, if it did: then nothing more was to come.
    pub end: Option<String>,
    /// The end of what came instead, up to 2,000 bytes.
    pub tail: Vec<u8>,
}

impl NotSeen {
    fn reason(&self) -> String {
        let Self { text, waited, end, .. } = self;
        match end {
            Some(end) => format!("{text:?} did not come before the machine ended: {end}"),
            None => format!("{text:?} did not come within {waited:?}"),
        }
    }
}

/// Nobody reads what is typed: the machine has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", with_tail(&format!("nothing can be typed: the machine has ended: {end}"), tail))]
pub struct NotTyped {
    /// How the machine ended, in words.
    pub end: String,
    /// The end of the output that nobody took, up to 2,000 bytes.
    pub tail: Vec<u8>,
}

/// The guest's words are escaped: whoever prints the error may have a terminal.
fn with_tail(reason: &str, tail: &[u8]) -> String {
    Marked(&format!("{reason}; the last output is:\n{}", String::from_utf8_lossy(tail))).to_string()
}

#[derive(Default)]
pub(super) struct Transcript {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What was printed and nobody took.
    bytes: Vec<u8>,
    /// How the machine ended, in words, once it has.
    end: Option<String>,
}

impl State {
    fn tail(&self) -> Vec<u8> {
        self.bytes[self.bytes.len().saturating_sub(TAIL)..].to_vec()
    }
}

impl Transcript {
    pub fn push(&self, bytes: &[u8]) {
        let kept = &mut self.lock().bytes;
        if kept.len() >= CAPACITY {
            kept.drain(..CAPACITY / 2);
        }
        kept.extend_from_slice(bytes);
        self.changed.notify_all();
    }

    /// Nothing more will be printed or read. The first word counts.
    pub fn end(&self, how: &str) {
        self.lock().end.get_or_insert_with(|| how.into());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The program's end of a captured console: see [`Console::capture`](super::Console::capture).
///
/// Output that is waited for or taken is used up: the next wait looks only at what came after it.
#[derive(Clone)]
pub struct Capture {
    pub(super) transcript: Arc<Transcript>,
    pub(super) input: Arc<ConsoleInput>,
}

impl Capture {
    /// Waits until the guest has printed `text`, and returns everything up to its end. Does not wait for a machine that has
    /// ended.
    ///
    /// # Errors
    /// The text did not come in time, or the machine ended without it. Nothing is used up.
    pub fn wait_for(&self, text: &str, timeout: Duration) -> Result<Vec<u8>, NotSeen> {
        let deadline = Instant::now().checked_add(timeout);
        let mut seen = 0;
        let mut state = self.transcript.lock();
        loop {
            // Look again only at what is new, and at what may be the text's beginning. Somebody else may have taken some.
            let from = seen.min(state.bytes.len()).saturating_sub(text.len());
            if let Some(place) = find(&state.bytes[from..], text.as_bytes()) {
                return Ok(state.bytes.drain(..from + place + text.len()).collect());
            }
            seen = state.bytes.len();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if state.end.is_some() || left.is_some_and(|left| left.is_zero()) {
                return Err(NotSeen { text: text.into(), waited: timeout, end: state.end.clone(), tail: state.tail() });
            }
            let changed = &self.transcript.changed;
            state = match left {
                Some(left) => changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Everything that the guest has printed so far.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.transcript.lock().bytes)
    }

    /// Types to the guest. Never waits: what the guest does not read yet is kept for it.
    ///
    /// # Errors
    /// The machine has ended.
    pub fn type_bytes(&self, bytes: &[u8]) -> Result<(), NotTyped> {
        let state = self.transcript.lock();
        if let Some(end) = &state.end {
            return Err(NotTyped { end: end.clone(), tail: state.tail() });
        }
        // The device that is told may print.
        drop(state);
        self.input.put(bytes);
        Ok(())
    }

    /// Types a text to the guest.
    ///
    /// # Errors
    /// As [`type_bytes`](Self::type_bytes).
    pub fn type_text(&self, text: &str) -> Result<(), NotTyped> {
        self.type_bytes(text.as_bytes())
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    if text.is_empty() {
        return Some(0);
    }
    bytes.windows(text.len()).position(|window| window == text)
}

#[cfg(test)]
#[path = "capture_tests.rs"]
mod tests;
