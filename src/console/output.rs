//! What the guest printed and nobody has written out yet.
//!
//! VP threads push, the console's thread takes everything at once. A queue that has reached [`CAPACITY`] is full: the VP that
//! printed last finishes its access and then waits at its partition's gate, where a pause or a stop still finds it, until
//! the console's thread has taken the queue. So a guest that prints faster than its reader reads is slowed down and
//! loses nothing; what is held is at most the capacity plus one access of each VP (4 KiB for string output), and as
//! much again in the hands of the console's thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::wake::Waker;
use crate::kvm::gate::Gate;

/// Bytes in the queue from which on VPs wait.
pub(super) const CAPACITY: usize = 64 << 10;

struct State {
    bytes: Vec<u8>,
    /// The length from which on a push wakes the console's thread.
    wake_at: usize,
    /// Whether the console's thread holds bytes that it has not written.
    in_flight: bool,
    /// Nothing more will be printed.
    finishing: bool,
    /// Output is dropped from now on, because it cannot be written or need not be.
    closed: bool,
    /// Some output was.
    lost: bool,
    /// Gates where a VP waits for room.
    waiting: Vec<Arc<Gate>>,
}

/// The queue between VPs and the console's thread. See the module's description.
pub(super) struct OutputQueue {
    state: Mutex<State>,
    /// Signalled when the last byte was written, or the queue closed.
    settled: Condvar,
    full: AtomicBool,
    waker: Arc<Waker>,
}

impl OutputQueue {
    /// Creates an empty queue, whose taker sleeps on `waker`.
    pub fn new(waker: Arc<Waker>) -> Self {
        let state = State {
            bytes: Vec::new(),
            wake_at: usize::MAX,
            in_flight: false,
            finishing: false,
            closed: false,
            lost: false,
            waiting: Vec::new(),
        };
        Self { state: Mutex::new(state), settled: Condvar::new(), full: AtomicBool::new(false), waker }
    }

    /// Appends what a guest printed. Never waits: see [`wait_for_room`](Self::wait_for_room).
    pub fn push(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if state.closed {
            state.lost = true;
            return;
        }
        state.bytes.extend_from_slice(bytes);
        if state.bytes.len() >= CAPACITY {
            self.full.store(true, Ordering::Relaxed);
        }
        if state.bytes.len() >= state.wake_at {
            state.wake_at = usize::MAX;
            drop(state);
            self.waker.wake();
        }
    }

    /// Waits at `gate`, on a VP's thread that holds no lock, while the queue is full. One atomic load when it is not.
    pub fn wait_for_room(&self, gate: &Arc<Gate>) {
        if self.full.load(Ordering::Relaxed) {
            // Whether the VP may go on or is to end, it learns on its next way through the gate.
            gate.wait_for(|| self.has_room_or_remembers(gate));
        }
    }

    fn has_room_or_remembers(&self, gate: &Arc<Gate>) -> bool {
        let mut state = self.lock();
        let full = self.full.load(Ordering::Relaxed);
        if full && !state.waiting.iter().any(|known| Arc::ptr_eq(known, gate)) {
            state.waiting.push(gate.clone());
        }
        !full
    }

    /// Moves everything into `batch`, which must be empty.
    pub fn take(&self, batch: &mut Vec<u8>) {
        let mut state = self.lock();
        std::mem::swap(&mut state.bytes, batch);
        state.in_flight |= !batch.is_empty();
        self.let_in(state);
    }

    /// Called by the console's thread before it sleeps: it has bytes `in_flight` or not, and is to be woken when the
    /// queue has `wake_at` bytes. Returns `false` when it has them already.
    pub fn may_sleep(&self, wake_at: usize, in_flight: bool) -> bool {
        let mut state = self.lock();
        state.in_flight = in_flight;
        if !in_flight && state.bytes.is_empty() {
            self.settled.notify_all();
        }
        let sleep = state.bytes.len() < wake_at;
        state.wake_at = if sleep { wake_at } else { usize::MAX };
        sleep
    }

    /// Drops what is queued, and all that will be.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.lost |= state.in_flight || !state.bytes.is_empty();
        state.bytes = Vec::new();
        self.settled.notify_all();
        self.let_in(state);
        self.waker.wake();
    }

    /// Returns `true` if the queue was closed.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Returns `true` if nothing more will be printed.
    pub fn is_finishing(&self) -> bool {
        self.lock().finishing
    }

    /// Waits until all is written, the queue closes, or the deadline has passed. Returns `true` if nothing was lost.
    pub fn finish(&self, deadline: Option<Instant>) -> bool {
        self.lock().finishing = true;
        self.waker.wake();
        let mut state = self.lock();
        while !state.closed && (state.in_flight || !state.bytes.is_empty()) {
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(left) if left.is_zero() => return false,
                Some(left) => self.settled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.settled.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        !state.lost
    }

    /// Ends the wait of all VPs, now that the queue is empty: without the queue's lock, which they take at the gate.
    fn let_in(&self, mut state: MutexGuard<'_, State>) {
        self.full.store(false, Ordering::Relaxed);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.iter().for_each(|gate| gate.wake());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
