//! The gate that every VP thread passes before it enters the guest: it decides which VPs may run.
//!
//! Any thread may order a pause, a resume or a stop at any time. Nothing polls, and no kick is lost: the order is
//! written first, then each VP's `immediate_exit` is set, then its thread is signalled. A VP that has not entered the
//! guest yet finds `immediate_exit` set and returns at once. The signal forces a VP that is in the guest to exit. After
//! that, the VP clears `immediate_exit` *before* it reads the order. So if it does not see an order, that order's kick
//! is still to come.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Forces one VP to leave the guest, or keeps it from entering.
pub trait Kick: Send {
    /// Makes the VP's current or next entry into the guest return promptly. May be called from any thread.
    fn kick(&self);
}

/// The current order to the VPs of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Order {
    Run,
    Pause,
    Stop,
}

struct State {
    order: Order,
    /// Number of VP threads that are registered and not parked here.
    at_large: usize,
    kicks: Vec<(u32, Box<dyn Kick>)>,
}

/// The gate of one partition. See the module's description.
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    /// A copy of `state.order` that VPs read without the lock.
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

    /// Registers VP `index`, from its own thread. The VP counts as running until it parks or [leaves](Self::leave).
    pub fn enter(&self, index: u32, kick: Box<dyn Kick>) {
        let mut state = self.lock();
        state.kicks.push((index, kick));
        state.at_large += 1;
    }

    /// Removes VP `index`, whose thread is about to end.
    pub fn leave(&self, index: u32) {
        let mut state = self.lock();
        state.kicks.retain(|(vp, _)| *vp != index);
        state.at_large -= 1;
        self.changed.notify_all();
    }

    /// Forces VP `index` out of the guest once, so that it checks for pending work.
    pub fn kick(&self, index: u32) {
        self.lock().kicks.iter().filter(|(vp, _)| *vp == index).for_each(|(_, kick)| kick.kick());
    }

    /// Returns `true` if the gate is open. This is one atomic load.
    pub fn is_open(&self) -> bool {
        self.order.load(Ordering::SeqCst) == Order::Run as u8
    }

    /// Returns `true` if the VPs are to pause. This is one atomic load.
    pub fn is_pausing(&self) -> bool {
        self.order.load(Ordering::SeqCst) == Order::Pause as u8
    }

    /// Calls `access` while every VP is parked at the gate, and keeps them parked during the call. Returns `None`,
    /// without a call, if they are not parked. `access` must not use the gate.
    pub fn while_paused<T>(&self, access: impl FnOnce() -> T) -> Option<T> {
        let state = self.lock();
        (state.order == Order::Pause && state.at_large == 0).then(access)
    }

    /// Waits, on a VP's thread, until the VP may run. Returns `false` if the VP must end instead.
    pub fn pass(&self) -> bool {
        self.wait_for(|| true)
    }

    /// Waits, on a VP's thread, until a condition outside of the guest holds and the VP may run.
    ///
    /// A VP that waits here counts as paused. `ready` is called again after each [`wake`](Self::wake).
    /// Returns `false` if the VP must end instead, whether it was ready or not.
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

    /// Makes every VP in [`wait_for`](Self::wait_for) check its condition again. The caller must not hold a lock that a
    /// `ready` takes.
    pub fn wake(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Stops every VP and returns when none is in the guest. Does nothing after a stop.
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

    /// Reopens the gate after a stop, once the previous VPs have left and before new ones enter.
    pub fn reopen(&self) {
        let mut state = self.lock();
        state.order = Order::Run;
        self.order.store(Order::Run as u8, Ordering::SeqCst);
    }

    /// Orders every VP to end. Only [`reopen`](Self::reopen) undoes this. Does not wait for the VPs: join their
    /// threads.
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
