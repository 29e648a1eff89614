//! The alarm clock of a partition: one thread, which sleeps until the earliest deadline of a VP.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::host::limited;
use crate::host::lock::{Condvar, Mutex};
use crate::kvm::gate::{Gate, Kick};

/// Called with a VP's number at its deadline.
pub(super) type Wake = Arc<dyn Fn(usize) + Send + Sync>;

#[derive(Default)]
struct State {
    /// The deadline of each VP.
    deadlines: Vec<Option<Instant>>,
    closed: bool,
}

/// The deadlines of a partition's VPs.
pub(super) struct Alarm {
    state: Mutex<State>,
    changed: Condvar,
    /// The gate at which the thread stops when the machine pauses.
    gate: Arc<Gate>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Alarm {
    /// Creates an alarm for `vps` VPs, without deadlines and without a thread.
    pub fn new(vps: usize, gate: Arc<Gate>) -> Self {
        let state = State { deadlines: vec![None; vps], closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), gate, thread: Mutex::default() }
    }

    /// Sets the deadline of VP `vp` to `time` from now, or removes it. The first deadline starts the thread.
    pub fn set(self: &Arc<Self>, vp: usize, time: Option<Duration>, wake: &Wake) {
        let deadline = time.and_then(|time| Instant::now().checked_add(time));
        let mut state = self.state.lock();
        if state.closed || state.deadlines[vp] == deadline {
            return;
        }
        let earliest = state.deadlines.iter().flatten().min().copied();
        state.deadlines[vp] = deadline;
        drop(state);
        if deadline.is_some_and(|deadline| earliest.is_none_or(|earliest| deadline < earliest)) {
            self.changed.notify_one();
            self.start(wake);
        }
    }

    fn start(self: &Arc<Self>, wake: &Wake) {
        let mut thread = self.thread.lock();
        if thread.is_none() {
            let (alarm, wake) = (self.clone(), wake.clone());
            let spawned = thread::Builder::new().name("timers".into()).spawn(move || alarm.run(&*wake));
            *thread = spawned.inspect_err(|error| limited::error!("no thread for synthetic timers: {error}")).ok();
        }
    }

    fn run(self: &Arc<Self>, wake: &(dyn Fn(usize) + Send + Sync)) {
        // By default, the kernel may wake the thread 50 us late, half the shortest period of a timer.
        if let Err(error) = rustix::thread::set_current_timer_slack(NonZeroU64::new(1)) {
            log::debug!("synthetic timers may be 50 us late: {error}");
        }
        let _member = self.gate.join(Box::new(LookUp(self.clone())));
        let mut state = self.state.lock();
        while !state.closed {
            if self.gate.is_pausing() {
                drop(state);
                self.gate.pass();
                state = self.state.lock();
                continue;
            }
            let now = Instant::now();
            let due = state.deadlines.iter().position(|deadline| deadline.is_some_and(|deadline| deadline <= now));
            if let Some(vp) = due {
                state.deadlines[vp] = None;
                drop(state);
                wake(vp);
                state = self.state.lock();
                continue;
            }
            state = match state.deadlines.iter().flatten().min() {
                Some(earliest) => {
                    let left = earliest.saturating_duration_since(now);
                    self.changed.wait_timeout(state, left)
                }
                None => self.changed.wait(state),
            };
        }
    }

    /// Ends the thread. Deadlines have no effect any more.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
        let thread = self.thread.lock().take();
        if let Some(Err(_)) = thread.map(JoinHandle::join) {
            log::error!("the thread of the synthetic timers panicked");
        }
    }
}

/// Wakes the thread, so that it checks the gate.
struct LookUp(Arc<Alarm>);

impl Kick for LookUp {
    fn kick(&self) {
        // The thread holds the lock until it sleeps, so it cannot miss the notification.
        drop(self.0.state.lock());
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
#[path = "alarm_tests.rs"]
mod tests;
