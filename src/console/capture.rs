//! A console for programs: waits for output of the guest, and types.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ConsoleInput;
use crate::host::lock::{Condvar, Mutex, MutexGuard};
use crate::wire::printable::Marked;

/// Maximum size of output that the program has not taken. Beyond it, the oldest half is dropped.
const CAPACITY: usize = 16 << 20;

/// Maximum length of the output's end in an error, in bytes.
const TAIL: usize = 2000;

/// The text did not appear.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", with_tail(&self.reason(), tail))]
pub struct NotSeen {
    /// The text.
    pub text: String,
    /// The time that was waited.
    pub waited: Duration,
    /// A description of the machine's end, if it ended, so that no more output could arrive.
    pub end: Option<String>,
    /// The last bytes of the output, at most 2,000.
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

/// The machine has ended, so nothing reads what is typed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", with_tail(&format!("cannot type: the machine has ended: {end}"), tail))]
pub struct NotTyped {
    /// A description of the machine's end.
    pub end: String,
    /// The last bytes of the output that was not taken, at most 2,000.
    pub tail: Vec<u8>,
}

/// The guest's output is escaped, because the error may be printed on a terminal.
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
    /// The output that was not taken.
    bytes: Vec<u8>,
    /// A description of the machine's end, if it has ended.
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

    /// Ends the output and input. Only the first call has an effect.
    pub fn end(&self, how: &str) {
        self.lock().end.get_or_insert_with(|| how.into());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// The program's end of a captured console: see `Console::capture`.
///
/// Output that is waited for or taken is consumed: the next wait examines only what follows it.
#[derive(Clone)]
pub struct Capture {
    pub(super) transcript: Arc<Transcript>,
    pub(super) input: Arc<ConsoleInput>,
}

impl Capture {
    /// Waits until the guest has printed `text`, and returns the output up to its end. Does not wait if the machine has
    /// ended.
    ///
    /// # Errors
    /// Returns an error if the text does not appear in time, or if the machine ends without it. No output is consumed
    /// then.
    pub fn wait_for(&self, text: &str, timeout: Duration) -> Result<Vec<u8>, NotSeen> {
        let deadline = Instant::now().checked_add(timeout);
        let mut seen = 0;
        let mut state = self.transcript.lock();
        loop {
            // Searches only new output, and what can be the beginning of the text. Another thread may have taken some.
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
                Some(left) => changed.wait_timeout(state, left),
                None => changed.wait(state),
            };
        }
    }

    /// Returns the output of the guest so far.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.transcript.lock().bytes)
    }

    /// Types to the guest. Never blocks: what the guest has not read yet is kept for it.
    ///
    /// # Errors
    /// Returns an error if the machine has ended.
    pub fn type_bytes(&self, bytes: &[u8]) -> Result<(), NotTyped> {
        let state = self.transcript.lock();
        if let Some(end) = &state.end {
            return Err(NotTyped { end: end.clone(), tail: state.tail() });
        }
        // The device that is notified may print.
        drop(state);
        self.input.put(bytes);
        Ok(())
    }

    /// Types a text to the guest.
    ///
    /// # Errors
    /// Returns the error of [`type_bytes`](Self::type_bytes).
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
