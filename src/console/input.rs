//! Input that was typed and that the guest has not read yet.
//!
//! The serial port takes bytes from here as its FIFO has room. The console's thread reads its source only while there
//! is room here, so the source of a guest that does not read is held back, and no input is lost.

use std::collections::VecDeque;
use std::sync::Arc;

use super::wake::Waker;
use crate::host::lock::{Mutex, MutexGuard};

/// Maximum number of bytes that are read ahead.
pub(super) const CAPACITY: usize = 4096;

type Listener = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    /// Somebody has found no room, and must be woken when there is some.
    held_back: bool,
    /// Woken like the console's thread: the client that types.
    client: Option<Arc<Waker>>,
}

/// Bytes from a console to a serial port; see the module's description.
#[derive(Default)]
pub struct ConsoleInput {
    state: Mutex<State>,
    listener: Mutex<Option<Listener>>,
    waker: Option<Arc<Waker>>,
}

impl ConsoleInput {
    /// Creates an empty input. The thread that reads its source, if it has one, sleeps on `waker`.
    pub(super) fn new(waker: Option<Arc<Waker>>) -> Self {
        Self { waker, ..Self::default() }
    }

    /// Calls `listener`, on the typing thread, whenever bytes arrive. Replaces the previous listener.
    pub fn listen(&self, listener: Box<dyn Fn() + Send + Sync>) {
        let listener: Listener = listener.into();
        *self.listener.lock() = Some(listener.clone());
        if !self.lock().bytes.is_empty() {
            listener();
        }
    }

    /// Moves as many bytes as fit into `buffer`, and returns their number.
    pub fn take(&self, buffer: &mut [u8]) -> usize {
        let mut state = self.lock();
        let count = state.bytes.len().min(buffer.len());
        for (slot, byte) in buffer.iter_mut().zip(state.bytes.drain(..count)) {
            *slot = byte;
        }
        let wake = state.held_back && state.bytes.len() <= CAPACITY / 2;
        state.held_back &= !wake;
        let client = state.client.clone();
        drop(state);
        if wake {
            self.waker.iter().chain(&client).for_each(|waker| waker.wake());
        }
        count
    }

    /// Sets the waker of the client that types.
    pub(super) fn wake_for_room(&self, client: Option<Arc<Waker>>) {
        self.lock().client = client;
    }

    /// Returns the number of bytes for which there is room. If there is none, the wakers are woken when there is some.
    pub(super) fn room(&self) -> usize {
        let mut state = self.lock();
        let room = CAPACITY.saturating_sub(state.bytes.len());
        // Another one may wait for more room.
        state.held_back |= room == 0;
        room
    }

    /// Appends typed bytes, without limit, and calls the listener.
    pub(super) fn put(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.lock().bytes.extend(bytes);
        let listener = self.listener.lock().clone();
        if let Some(listener) = listener {
            listener();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

#[cfg(test)]
#[path = "input_tests.rs"]
mod tests;
