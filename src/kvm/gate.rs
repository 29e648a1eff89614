//! The gate at which the threads of a machine stop: it decides which VPs may run.
//!
//! Every VP thread passes the gate before it enters the guest. Other threads that write guest memory are
//! [members](Gate::join) too: a pause is complete once all of them are parked.
//!
//! Any thread may order a pause, a resume or a stop at any time. Nothing polls, and no kick is lost: the order is
//! written first, then each VP's `immediate_exit` is set, then its thread is signalled. A VP that has not entered the
//! guest yet finds `immediate_exit` set and returns at once. The signal forces a VP that is in the guest to exit. After
//! that, the VP clears `immediate_exit` *before* it reads the order. So if it does not see an order, that order's kick
//! is still to come.

use crate::host::lock::{Condvar, Mutex, MutexGuard};
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

thread_local! {
    /// The address of the gate that the thread is a member of, or 0.
    static GATE: Cell<usize> = const { Cell::new(0) };
}

/// Makes one member of a gate look at the gate's order.
pub trait Kick: Send {
    /// Makes a VP's current or next entry into the guest return promptly, or wakes another thread from its sleep. May be called from
    /// any thread. It must not use the gate, nor take a lock under which its thread uses the gate.
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
    /// Number of threads that are registered and not parked here.
    at_large: usize,
    /// The kicks of members, by VP index. Other members have numbers above all VP indexes.
    kicks: Vec<(u64, Box<dyn Kick>)>,
    next_member: u64,
    /// Number of resumes so far.
    resumes: u64,
    /// Set when no further member can join.
    finished: bool,
}

/// The number of the first member that is not a VP.
const FIRST_MEMBER: u64 = 1 << 32;

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

impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Gate").field("order", &self.order).finish_non_exhaustive()
    }
}

impl Gate {
    /// Creates an open gate.
    pub fn new() -> Self {
        let state = State {
            order: Order::Run,
            at_large: 0,
            kicks: Vec::new(),
            next_member: FIRST_MEMBER,
            resumes: 0,
            finished: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), order: AtomicU8::new(Order::Run as u8) }
    }

    /// Registers VP `index`, from its own thread. The VP counts as running until it parks or [leaves](Self::leave).
    pub fn enter(&self, index: u32, kick: Box<dyn Kick>) {
        self.add(&mut self.state.lock(), index.into(), kick);
    }

    fn add(&self, state: &mut State, member: u64, kick: Box<dyn Kick>) {
        state.kicks.push((member, kick));
        state.at_large += 1;
        GATE.set(self.address());
    }

    /// Makes the calling thread a member until the result is dropped. It counts as running until it parks in [`pass`](Self::pass),
    /// and must do so soon after a kick while the gate [pauses](Self::is_pausing).
    pub fn join(self: &Arc<Self>, kick: Box<dyn Kick>) -> Member {
        let mut state = self.state.lock();
        let member = state.next_member;
        state.next_member += 1;
        self.add(&mut state, member, kick);
        drop(state);
        Member { gate: self.clone(), member }
    }

    /// Delays the completion of every pause until the result is dropped, on any thread. It stands for threads that are about
    /// to become members.
    pub fn hold(self: &Arc<Self>) -> Hold {
        self.state.lock().at_large += 1;
        Hold(self.clone())
    }

    /// Returns `true` if the calling thread is a member. [`pause`](Self::pause) would wait for itself there.
    pub fn is_own_thread(&self) -> bool {
        GATE.get() == self.address()
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Removes VP `index`, whose thread is about to end.
    pub fn leave(&self, index: u32) {
        self.remove(index.into());
    }

    fn remove(&self, member: u64) {
        let mut state = self.state.lock();
        state.kicks.retain(|(other, _)| *other != member);
        state.at_large -= 1;
        GATE.set(0);
        self.changed.notify_all();
    }

    /// Forces VP `index` out of the guest once, so that it checks for pending work.
    pub fn kick(&self, index: u32) {
        self.state.lock().kicks.iter().filter(|(vp, _)| *vp == u64::from(index)).for_each(|(_, kick)| kick.kick());
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
        let state = self.state.lock();
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
        let mut state = self.state.lock();
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
            state = self.changed.wait(state);
        }
    }

    /// Takes the calling thread, a member, out of the machine until the result is dropped: it uses nothing of the guest meanwhile, and counts
    /// as paused. If the result is dropped while the gate pauses, that waits for the resume.
    pub fn step_out(&self) -> Outside<'_> {
        let mut state = self.state.lock();
        state.at_large -= 1;
        if state.order == Order::Pause {
            self.changed.notify_all();
        }
        Outside(self)
    }

    /// Makes every VP in [`wait_for`](Self::wait_for) check its condition again. The caller must not hold a lock that a
    /// `ready` takes.
    pub fn wake(&self) {
        drop(self.state.lock());
        self.changed.notify_all();
    }

    /// Returns how often the members were resumed, for [`pause_since`](Self::pause_since).
    pub fn resumes(&self) -> u64 {
        self.state.lock().resumes
    }

    /// Stops every member and returns when all are parked. After a stop, it waits for the members of the next life.
    ///
    /// Returns `false` if a resume came first, or if there is no [next life](Self::finish).
    pub fn pause(&self) -> bool {
        self.pause_since(self.resumes())
    }

    /// As [`pause`](Self::pause), but returns `false` if there was a resume after the call of [`resumes`](Self::resumes)
    /// that returned `resumes`.
    pub fn pause_since(&self, resumes: u64) -> bool {
        let mut state = self.state.lock();
        while !state.finished && state.resumes == resumes {
            self.give(&mut state, Order::Pause);
            if state.order == Order::Pause && state.at_large == 0 {
                return true;
            }
            state = self.changed.wait(state);
        }
        false
    }

    /// Ends every [`pause`](Self::pause): the gate is not reopened any more.
    pub fn finish(&self) {
        self.state.lock().finished = true;
        self.changed.notify_all();
    }

    /// Orders a pause without waiting for it.
    pub fn close(&self) {
        self.give(&mut self.state.lock(), Order::Pause);
    }

    /// Lets paused VPs run again.
    pub fn resume(&self) {
        let mut state = self.state.lock();
        state.resumes += 1;
        self.give(&mut state, Order::Run);
        self.changed.notify_all();
    }

    /// Reopens the gate after a stop, once the previous VPs have left and before new ones enter.
    pub fn reopen(&self) {
        let mut state = self.state.lock();
        state.order = Order::Run;
        self.order.store(Order::Run as u8, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Orders every VP to end. Only [`reopen`](Self::reopen) undoes this. Does not wait for the VPs: join their
    /// threads.
    pub fn stop(&self) {
        self.give(&mut self.state.lock(), Order::Stop);
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
}

/// The absence of a member: see [`Gate::step_out`].
pub struct Outside<'a>(&'a Gate);

impl Drop for Outside<'_> {
    fn drop(&mut self) {
        let Self(gate) = self;
        let mut state = gate.state.lock();
        while state.order == Order::Pause {
            state = gate.changed.wait(state);
        }
        state.at_large += 1;
    }
}

/// Keeps pauses from being complete: see [`Gate::hold`].
pub struct Hold(Arc<Gate>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.state.lock().at_large -= 1;
        self.0.changed.notify_all();
    }
}

/// A thread's membership of a gate, from [`Gate::join`]. Ends when dropped, on the thread that joined.
pub struct Member {
    gate: Arc<Gate>,
    member: u64,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.gate.remove(self.member);
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
