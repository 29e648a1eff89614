//! When a VP is looked at again that cannot take an interrupt with AutoEOI yet.
//!
//! KVM tells nobody that a guest has enabled its interrupts or lowered its task priority. A VP that cannot take an
//! interrupt is mostly in the handler of another one, and out of it after some microseconds: so it runs freely and is
//! driven out of the guest after a while. A guest that opens only short windows would be missed that way for as long
//! as chance wants. After some rounds, therefore, the interrupt goes to the local APIC, which misses none, and is
//! ended when the VP is looked at after that: an end that is late by a round is better than an interrupt that is late by many.
//! Where nobody but the guest can end an interrupt, a VP whose interrupts are disabled is stepped instead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::alarm::{Alarm, Wake};
use crate::host::limited;
use crate::host::lock::{Mutex, MutexGuard};
use crate::kvm::gate::Gate;
use crate::kvm::timer::{self, VpTimer};

/// How long a VP runs freely in the first round. Each round after that doubles it.
const FIRST_ROUND: Duration = Duration::from_micros(50);
/// A VP is looked at at least this often: 50 us doubled so many times, 1.6 ms.
const LAST_DOUBLING: u32 = 5;
/// Rounds before the interrupt is got in otherwise.
const FREE_ROUNDS: u32 = 3;
/// Then the VP is so often told to be stepped, and runs freely again for a round: one round's instructions may be many.
const STEPS: u32 = 64;
/// How soon a VP is looked at that has halted with its interrupts disabled. Only an NMI or INIT gets it going.
const DOZE: Duration = Duration::from_millis(50);

/// What is to be done with a VP that cannot take its interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// It runs freely, until it is driven out after this time.
    For(Duration),
    /// It runs on for what is left of its time.
    Rest,
    /// It has run freely for long enough.
    Enough,
}

/// How long one VP has waited to take an interrupt.
#[derive(Debug, Default)]
struct Watch {
    rounds: u32,
    /// How often it is still to be told that it is enough, in this round.
    steps: u32,
    /// When the free run of this round ends.
    due: Option<Instant>,
    /// The interrupt that the local APIC has.
    sent: Option<u8>,
    /// The VP leaves the guest after each instruction.
    stepping: bool,
}

impl Watch {
    /// The VP was looked at, and still cannot take its interrupt.
    fn fail(&mut self, now: Instant) -> Wait {
        match self.due {
            Some(due) if now < due => return Wait::Rest,
            Some(_) => {
                self.due = None;
                self.rounds = self.rounds.saturating_add(1);
                self.steps = if self.rounds < FREE_ROUNDS || self.sent.is_some() { 0 } else { STEPS };
            }
            None => {}
        }
        if self.steps > 0 {
            self.steps -= 1;
            return Wait::Enough;
        }
        let time = FIRST_ROUND * (1 << self.rounds.min(LAST_DOUBLING));
        self.due = Some(now + time);
        Wait::For(time)
    }
}

/// A VP's watch, and the timer that forces the VP out of the guest.
#[derive(Default)]
struct Watched {
    watch: Watch,
    /// Created when it is first needed.
    timer: Option<VpTimer>,
}

impl Watched {
    /// Ends the wait.
    fn reset(&mut self) {
        self.watch = Watch { stepping: self.watch.stepping, ..Watch::default() };
    }
}

/// The VPs of a partition that wait to take interrupts. Each method is called on the thread of the VP that it names.
pub(super) struct Watches {
    vps: Vec<Mutex<Watched>>,
    /// Used for a VP that cannot have a timer.
    alarm: Arc<Alarm>,
    wake: Wake,
}

impl Watches {
    /// No VP waits. One that does and cannot have a timer is forced out of the guest through `gate`.
    pub fn new(vps: usize, gate: Arc<Gate>) -> Self {
        let alarm = Arc::new(Alarm::new(vps, gate.clone()));
        Self {
            vps: (0..vps).map(|_| Mutex::default()).collect(),
            alarm,
            wake: Arc::new(move |vp| gate.kick(vp as u32)),
        }
    }

    /// VP `vp` cannot take its interrupt yet. It is driven out of the guest in time, unless it is [`Wait::Enough`].
    pub fn wait(&self, vp: usize) -> Wait {
        self.start(vp, &mut self.watched(vp))
    }

    /// VP `vp` cannot take its interrupt, and sleeps.
    pub fn doze(&self, vp: usize) {
        let (mut watched, now) = (self.watched(vp), Instant::now());
        if watched.watch.due.is_none_or(|due| due <= now) {
            watched.reset();
            watched.watch.due = Some(now + DOZE);
            self.set(vp, &mut watched, Some(DOZE));
        }
    }

    /// The local APIC of VP `vp` was sent its interrupt: it is to be ended once the VP has taken it.
    pub fn send(&self, vp: usize, vector: u8) {
        let mut watched = self.watched(vp);
        watched.reset();
        watched.watch.sent = Some(vector);
        self.start(vp, &mut watched);
    }

    /// The interrupt that the local APIC of VP `vp` was sent.
    pub fn sent(&self, vp: usize) -> Option<u8> {
        self.watched(vp).watch.sent
    }

    /// VP `vp` has taken an interrupt, or will by itself tell when it can.
    pub fn end(&self, vp: usize) {
        let mut watched = self.watched(vp);
        if watched.watch.due.is_some() {
            self.set(vp, &mut watched, None);
        }
        watched.reset();
    }

    /// Notes whether VP `vp` leaves the guest after each instruction. Returns `true` if that is a change.
    pub fn change_stepping(&self, vp: usize, on: bool) -> bool {
        std::mem::replace(&mut self.watched(vp).watch.stepping, on) != on
    }

    /// Removes the timers, from any thread, once no VP runs any more.
    pub fn close(&self) {
        self.alarm.close();
        (0..self.vps.len()).for_each(|vp| *self.watched(vp) = Watched::default());
    }

    fn start(&self, vp: usize, watched: &mut Watched) -> Wait {
        let wait = watched.watch.fail(Instant::now());
        if let Wait::For(time) = wait {
            self.set(vp, watched, Some(time));
        }
        wait
    }

    /// Forces the VP out of the guest after `time`, or not at all.
    fn set(&self, vp: usize, watched: &mut Watched, time: Option<Duration>) {
        if watched.timer.is_none() {
            let report = |error: &_| {
                limited::warn!("interrupts with AutoEOI may be late on a busy host: {error}; `ulimit -i` limits them");
            };
            watched.timer = VpTimer::new(timer::own_thread()).inspect_err(report).ok();
        }
        match &watched.timer {
            Some(timer) => timer.set(time),
            None => self.alarm.set(vp, time, &self.wake),
        }
    }

    fn watched(&self, vp: usize) -> MutexGuard<'_, Watched> {
        self.vps[vp].lock()
    }
}

#[cfg(test)]
#[path = "auto_eoi_tests.rs"]
mod tests;
