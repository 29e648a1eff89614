//! What was typed and the guest has not read yet.
//!
//! The serial port takes from here as its FIFO has room. The console's thread reads its source only while there is
//! room here, so a guest that does not read holds its source back instead of losing what comes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::wake::Waker;

/// Bytes that are read ahead of the guest.
pub(super) const CAPACITY: usize = 4096;

type Listener = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    /// The console's thread found no room, and wants to know when there is some.
    held_back: bool,
}

/// Bytes on their way from a console to a serial port. See the module's description.
#[derive(Default)]
pub struct ConsoleInput {
    state: Mutex<State>,
    listener: Mutex<Option<Listener>>,
    waker: Option<Arc<Waker>>,
}

impl ConsoleInput {
    /// Creates an empty input whose source, if it has one, sleeps on `waker`.
    pub(super) fn new(waker: Option<Arc<Waker>>) -> Self {
        Self { waker, ..Self::default() }
    }

    /// Has `listener` called, on the typing thread, whenever bytes have come. Replaces the one before.
    pub fn listen(&self, listener: Box<dyn Fn() + Send + Sync>) {
        let listener: Listener = listener.into();
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener.clone());
        if !self.lock().bytes.is_empty() {
            listener();
        }
    }

    /// Takes as many bytes as there are and fit in `buffer`, and says how many.
    pub fn take(&self, buffer: &mut [u8]) -> usize {
        let mut state = self.lock();
        let count = state.bytes.len().min(buffer.len());
        for (slot, byte) in buffer.iter_mut().zip(state.bytes.drain(..count)) {
            *slot = byte;
        }
        let wake = state.held_back && state.bytes.len() <= CAPACITY / 2;
        state.held_back &= !wake;
        drop(state);
        if let Some(waker) = self.waker.as_ref().filter(|_| wake) {
            waker.wake();
        }
        count
    }

    /// Returns how many bytes may come now. When none may, the waker is woken as soon as they may again.
    pub(super) fn room(&self) -> usize {
        let mut state = self.lock();
        let room = CAPACITY.saturating_sub(state.bytes.len());
        state.held_back = room == 0;
        room
    }

    /// Appends typed bytes, however many, and tells the listener.
    pub(super) fn put(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.lock().bytes.extend(bytes);
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(listener) = listener {
            listener();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "input_tests.rs"]
mod tests;
