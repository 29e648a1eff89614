//! Connections that wait to be accepted.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::host::lock::{Condvar, Mutex};

/// Maximum number of connections that wait. Further ones are refused.
pub const MAX_WAITING: usize = 128;

/// A queue of connections. Clones refer to the same queue.
#[derive(Clone, Debug, Default)]
pub struct Backlog(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<UnixStream>,
    closed: bool,
}

/// The reason why no connection is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAccepted {
    /// None came in time.
    TimedOut,
    /// None will come.
    Closed,
}

impl Backlog {
    /// Adds a connection. Returns `false` if too many wait, or nobody accepts any.
    pub fn push(&self, stream: UnixStream) -> bool {
        let mut state = self.0.state.lock();
        let has_room = !state.closed && state.waiting.len() < MAX_WAITING;
        if has_room {
            state.waiting.push_back(stream);
            self.0.changed.notify_one();
        }
        has_room
    }

    /// Waits for a connection, at most for `time`.
    ///
    /// # Errors
    /// Returns an error if there is none.
    pub fn pop(&self, time: Option<Duration>) -> Result<UnixStream, NotAccepted> {
        let deadline = time.and_then(|time| Instant::now().checked_add(time));
        let mut state = self.0.state.lock();
        loop {
            if let Some(stream) = state.waiting.pop_front() {
                return Ok(stream);
            }
            if state.closed {
                return Err(NotAccepted::Closed);
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.0.changed.wait(state),
                Some(Duration::ZERO) => return Err(NotAccepted::TimedOut),
                Some(left) => self.0.changed.wait_timeout(state, left),
            };
        }
    }

    /// Refuses further connections. Those that wait can still be accepted.
    pub fn close(&self) {
        self.0.state.lock().closed = true;
        self.0.changed.notify_all();
    }

    /// Returns the number of connections that wait.
    pub fn len(&self) -> usize {
        self.0.state.lock().waiting.len()
    }
}
