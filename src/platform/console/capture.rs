//! A console for programs: waits for what the guest prints, and types.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ConsoleInput;

/// Output that is kept for a program that does not take it. From there on the oldest half goes.
const CAPACITY: usize = 16 << 20;

/// The wait for a text was in vain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} did not come within {waited:?}; the last output is:\n{}", String::from_utf8_lossy(tail))]
pub struct NotSeen {
    /// What was waited for.
    pub text: String,
    /// How long it was waited for.
    pub waited: Duration,
    /// The end of what came instead, up to 2,000 bytes.
    pub tail: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Transcript {
    bytes: Mutex<Vec<u8>>,
    grown: Condvar,
}

impl Transcript {
    pub fn push(&self, bytes: &[u8]) {
        let mut kept = self.lock();
        if kept.len() >= CAPACITY {
            kept.drain(..CAPACITY / 2);
        }
        kept.extend_from_slice(bytes);
        self.grown.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Waits until the guest has printed `text`, and returns everything up to its end.
    ///
    /// # Errors
    /// The text did not come in time. Nothing is used up.
    pub fn wait_for(&self, text: &str, timeout: Duration) -> Result<Vec<u8>, NotSeen> {
        let deadline = Instant::now() + timeout;
        let mut seen = 0;
        let mut bytes = self.transcript.lock();
        loop {
            // Look again only at what is new, and at what may be the text's beginning.
            let from = seen.min(bytes.len()).saturating_sub(text.len());
            if let Some(place) = find(&bytes[from..], text.as_bytes()) {
                return Ok(bytes.drain(..from + place + text.len()).collect());
            }
            seen = bytes.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let tail = bytes[bytes.len().saturating_sub(2000)..].to_vec();
                return Err(NotSeen { text: text.into(), waited: timeout, tail });
            }
            bytes = self.transcript.grown.wait_timeout(bytes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Everything that the guest has printed so far.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.transcript.lock())
    }

    /// Types to the guest. Never waits: what the guest does not read yet is kept for it.
    pub fn type_bytes(&self, bytes: &[u8]) {
        self.input.put(bytes);
    }

    /// Types a text to the guest.
    pub fn type_text(&self, text: &str) {
        self.type_bytes(text.as_bytes());
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
