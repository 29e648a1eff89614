//! Who may run: the gate that every VP thread passes before it enters the guest.
//!
//! Any thread may order a pause, a resume or a stop at any time. Nothing polls, and no kick is lost:
//! the order is written first, then each VP's `immediate_exit` is set, then its thread is signalled.
//! A VP that has not entered the guest yet finds `immediate_exit` set and comes straight back; one
//! that is inside is driven out by the signal. Having come out, it clears `immediate_exit` *before*
//! it reads the order, so an order that it does not see has a kick still to come.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Drives one VP out of the guest, or keeps it from entering.
pub trait Kick: Send {
    /// Makes the VP's current or next entry into the guest return promptly. May be called from any thread.
    fn kick(&self);
}

/// What the VPs of a partition are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Order {
    Run,
    Pause,
    Stop,
}

struct State {
    order: Order,
    /// VP threads that are registered and not parked here.
    at_large: usize,
    kicks: Vec<(u32, Box<dyn Kick>)>,
}

/// The gate of one partition. See the module's description.
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    /// A copy of `state.order` that a VP can look at without the lock.
    order: AtomicU8,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// Creates an open gate.
    pub fn new() -> Self {
        let state = State { order: Order::Run, at_large: 0, kicks: Vec::new() };
        Self { state: Mutex::new(state), changed: Condvar::new(), order: AtomicU8::new(Order::Run as u8) }
    }

    /// Makes VP `index` known, from its own thread. It counts as running until it parks or [leaves](Self::leave).
    pub fn enter(&self, index: u32, kick: Box<dyn Kick>) {
        let mut state = self.lock();
        state.kicks.push((index, kick));
        state.at_large += 1;
    }

    /// Forgets VP `index`, whose thread is about to end.
    pub fn leave(&self, index: u32) {
        let mut state = self.lock();
        state.kicks.retain(|(vp, _)| *vp != index);
        state.at_large -= 1;
        self.changed.notify_all();
    }

    /// Drives VP `index` out of the guest once, so that it looks for what it has to do.
    pub fn kick(&self, index: u32) {
        self.lock().kicks.iter().filter(|(vp, _)| *vp == index).for_each(|(_, kick)| kick.kick());
    }

    /// Returns `true` if the gate stands open: one atomic load, for the VP's way into the guest.
    pub fn is_open(&self) -> bool {
        self.order.load(Ordering::SeqCst) == Order::Run as u8
    }

    /// Returns `true` if the VPs are to pause: one atomic load.
    pub fn is_pausing(&self) -> bool {
        self.order.load(Ordering::SeqCst) == Order::Pause as u8
    }

    /// Calls `access` while every VP stands still at the gate, and keeps them there meanwhile. `None`, without a call, if they do
    /// not. `access` must not use the gate.
    pub fn while_paused<T>(&self, access: impl FnOnce() -> T) -> Option<T> {
        let state = self.lock();
        (state.order == Order::Pause && state.at_large == 0).then(access)
    }

    /// Waits, on a VP's thread, until the VP may run. Returns `false` when it is to end instead.
    pub fn pass(&self) -> bool {
        self.wait_for(|| true)
    }

    /// Waits, on a VP's thread, for something outside of the guest, and for leave to run.
    ///
    /// A VP that waits here counts as paused. `ready` is asked again after each [`wake`](Self::wake).
    /// Returns `false` when the VP is to end instead, whether it was ready or not.
    pub fn wait_for(&self, mut ready: impl FnMut() -> bool) -> bool {
        let mut state = self.lock();
        let mut parked = false;
        loop {
            let go = match state.order {
                Order::Stop => Some(false),
                Order::Run if ready() => Some(true),
                _ => None,
            };
            if let Some(go) = go {
                state.at_large += usize::from(parked);
                return go;
            }
            if !parked {
                parked = true;
                state.at_large -= 1;
                self.changed.notify_all();
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Has every VP in [`wait_for`](Self::wait_for) look again. Call it without any lock that a `ready` takes.
    pub fn wake(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Brings every VP to a halt and returns when none is in the guest. Does nothing after a stop.
    pub fn pause(&self) {
        let mut state = self.lock();
        self.give(&mut state, Order::Pause);
        while state.at_large > 0 && state.order == Order::Pause {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Orders a pause without waiting for it.
    pub fn close(&self) {
        self.give(&mut self.lock(), Order::Pause);
    }

    /// Lets paused VPs run again.
    pub fn resume(&self) {
        self.give(&mut self.lock(), Order::Run);
    }

    /// Opens the gate again after a stop, when the VPs of before have left and before others enter.
    pub fn reopen(&self) {
        let mut state = self.lock();
        state.order = Order::Run;
        self.order.store(Order::Run as u8, Ordering::SeqCst);
    }

    /// Tells every VP to end; only [`reopen`](Self::reopen) takes it back. Does not wait for them: join their threads.
    pub fn stop(&self) {
        self.give(&mut self.lock(), Order::Stop);
    }

    fn give(&self, state: &mut MutexGuard<'_, State>, order: Order) {
        if state.order == Order::Stop || state.order == order {
            return;
        }
        state.order = order;
        self.order.store(order as u8, Ordering::SeqCst);
        if order != Order::Run {
            state.kicks.iter().for_each(|(_, kick)| kick.kick());
        }
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
