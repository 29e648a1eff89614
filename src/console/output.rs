//! Output of the guest that has not been written yet.
//!
//! VP threads append, and the console's thread takes everything at once. A queue that has reached [`CAPACITY`] is full:
//! the VP that printed last completes its access and then waits at its partition's gate until the console's thread has
//! taken the queue. A pause or a stop still reaches it there. So a guest that prints faster than its reader reads is
//! slowed down, and loses nothing. The queue holds at most the capacity plus one access of each VP (4 KiB for string
//! output), and the console's thread as much again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::wake::Waker;
use crate::host::lock::{Condvar, Mutex, MutexGuard};
use crate::kvm::gate::Gate;

/// Number of bytes in the queue at which VPs wait.
pub(super) const CAPACITY: usize = 64 << 10;

struct State {
    bytes: Vec<u8>,
    /// The length at which an append wakes the console's thread.
    wake_at: usize,
    /// Whether the console's thread holds bytes that it has not written.
    in_flight: bool,
    /// There will be no more output.
    finishing: bool,
    /// Output is dropped from now on, because it cannot be written or need not be.
    closed: bool,
    /// Some output was dropped.
    lost: bool,
    /// Gates at which a VP waits for room.
    waiting: Vec<Arc<Gate>>,
}

/// The queue between VPs and the console's thread; see the module's description.
pub(super) struct OutputQueue {
    state: Mutex<State>,
    /// Signalled when the last byte is written, or the queue is closed.
    settled: Condvar,
    full: AtomicBool,
    waker: Arc<Waker>,
}

impl OutputQueue {
    /// Creates an empty queue. The thread that takes from it sleeps on `waker`.
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

    /// Appends output of a guest. Never blocks: see [`wait_for_room`](Self::wait_for_room).
    pub fn push(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
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

    /// Waits at `gate`, on a VP's thread without locks, while the queue is full. Costs one atomic load if it is not.
    pub fn wait_for_room(&self, gate: &Arc<Gate>) {
        if self.full.load(Ordering::Relaxed) {
            // The VP learns whether it may run or must end when it passes the gate next.
            gate.wait_for(|| self.has_room_or_remembers(gate));
        }
    }

    fn has_room_or_remembers(&self, gate: &Arc<Gate>) -> bool {
        let mut state = self.state.lock();
        let full = self.full.load(Ordering::Relaxed);
        if full && !state.waiting.iter().any(|known| Arc::ptr_eq(known, gate)) {
            state.waiting.push(gate.clone());
        }
        !full
    }

    /// Moves everything into `batch`, which must be empty.
    pub fn take(&self, batch: &mut Vec<u8>) {
        let mut state = self.state.lock();
        std::mem::swap(&mut state.bytes, batch);
        state.in_flight |= !batch.is_empty();
        self.let_in(state);
    }

    /// Called by the console's thread before it sleeps. `in_flight` says whether it has unwritten bytes. It is woken
    /// when the queue has `wake_at` bytes. Returns `false` if the queue already has them.
    pub fn may_sleep(&self, wake_at: usize, in_flight: bool) -> bool {
        let mut state = self.state.lock();
        state.in_flight = in_flight;
        if !in_flight && state.bytes.is_empty() {
            self.settled.notify_all();
        }
        let sleep = state.bytes.len() < wake_at;
        state.wake_at = if sleep { wake_at } else { usize::MAX };
        sleep
    }

    /// Drops the queue's content and all further output.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.lost |= state.in_flight || !state.bytes.is_empty();
        state.bytes = Vec::new();
        self.settled.notify_all();
        self.let_in(state);
        self.waker.wake();
    }

    /// Returns `true` if the queue was closed.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Returns `true` if there will be no more output.
    pub fn is_finishing(&self) -> bool {
        self.state.lock().finishing
    }

    /// Waits until all output is written, the queue is closed, or the deadline has passed. Returns `true` if nothing
    /// was lost.
    pub fn finish(&self, deadline: Option<Instant>) -> bool {
        self.state.lock().finishing = true;
        self.waker.wake();
        let mut state = self.state.lock();
        while !state.closed && (state.in_flight || !state.bytes.is_empty()) {
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(left) if left.is_zero() => return false,
                Some(left) => self.settled.wait_timeout(state, left),
                None => self.settled.wait(state),
            };
        }
        !state.lost
    }

    /// Ends the wait of all VPs, because the queue is empty. The queue's lock is released first, because they take it
    /// at the gate.
    fn let_in(&self, mut state: MutexGuard<'_, State>) {
        self.full.store(false, Ordering::Relaxed);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.iter().for_each(|gate| gate.wake());
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
