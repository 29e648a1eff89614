//! Decides when to check again whether a VP can take an interrupt with AutoEOI.
//!
//! KVM does not report that a guest has enabled its interrupts or lowered its task priority. A VP that cannot take an
//! interrupt is usually in the handler of another one, and leaves it after some microseconds. So the VP runs for a while
//! (a round), is then forced out of the guest, and is checked again.
//!
//! If a guest enables interrupts only for short periods, these checks could miss them for a long time. After some rounds,
//! the interrupt is therefore sent to the local APIC, which delivers it at the first opportunity, and is ended at the next
//! check after that: ending it one round late is better than delivering it many rounds late. If only the guest can end an
//! interrupt of the local APIC, a VP whose interrupts are disabled is single-stepped instead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::alarm::{Alarm, Wake};
use crate::host::limited;
use crate::host::lock::{Mutex, MutexGuard};
use crate::kvm::gate::Gate;
use crate::kvm::timer::{self, VpTimer};

/// Length of the first round. Each later round is twice as long as the one before.
const FIRST_ROUND: Duration = Duration::from_micros(50);
/// Number of times that the length is doubled: the longest round takes 1.6 ms.
const LAST_DOUBLING: u32 = 5;
/// Number of rounds before the interrupt is delivered in another way.
const FREE_ROUNDS: u32 = 3;
/// Number of instructions that a VP is then single-stepped, before it runs for another round.
const STEPS: u32 = 64;
/// Time after which a VP is checked that has halted with its interrupts disabled. Only an NMI or INIT wakes it.
const DOZE: Duration = Duration::from_millis(50);

/// The next step for a VP that cannot take its interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Let it run, and force it out of the guest after this time.
    For(Duration),
    /// Let it run for the rest of the round.
    Rest,
    /// Deliver the interrupt in another way: the rounds are over.
    Enough,
}

/// The state of one VP that waits to take an interrupt.
#[derive(Debug, Default)]
struct Watch {
    rounds: u32,
    /// Number of times that [`Wait::Enough`] is still returned before the next round.
    steps: u32,
    /// End of the current round.
    due: Option<Instant>,
    /// The interrupt that was sent to the local APIC, until it is ended.
    sent: Option<u8>,
    /// `true` while the VP is single-stepped.
    stepping: bool,
}

impl Watch {
    /// Records that the VP was checked and still cannot take its interrupt. Returns what to do.
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
    /// Records that the VP no longer waits.
    fn reset(&mut self) {
        self.watch = Watch { stepping: self.watch.stepping, ..Watch::default() };
    }
}

/// The VPs of a partition that wait to take interrupts. Each method is called on the thread of the VP that it names.
pub(super) struct Watches {
    vps: Vec<Mutex<Watched>>,
    /// Used if a VP's timer cannot be created.
    alarm: Arc<Alarm>,
    wake: Wake,
}

impl Watches {
    /// Creates the watches of `vps` VPs, none of which waits. If a VP's timer cannot be created, the VP is forced out of the
    /// guest through `gate`.
    pub fn new(vps: usize, gate: Arc<Gate>) -> Self {
        let alarm = Arc::new(Alarm::new(vps, gate.clone()));
        Self {
            vps: (0..vps).map(|_| Mutex::default()).collect(),
            alarm,
            wake: Arc::new(move |vp| gate.kick(vp as u32)),
        }
    }

    /// Records that VP `vp` cannot take its interrupt yet. Unless the result is [`Wait::Enough`], the VP will be forced out
    /// of the guest at the end of the round.
    pub fn wait(&self, vp: usize) -> Wait {
        self.start(vp, &mut self.watched(vp))
    }

    /// Records that VP `vp` cannot take its interrupt and has halted.
    pub fn doze(&self, vp: usize) {
        let (mut watched, now) = (self.watched(vp), Instant::now());
        if watched.watch.due.is_none_or(|due| due <= now) {
            watched.reset();
            watched.watch.due = Some(now + DOZE);
            self.set(vp, &mut watched, Some(DOZE));
        }
    }

    /// Records that the interrupt was sent to the local APIC of VP `vp`. It must be ended once the VP has taken it.
    pub fn send(&self, vp: usize, vector: u8) {
        let mut watched = self.watched(vp);
        watched.reset();
        watched.watch.sent = Some(vector);
        self.start(vp, &mut watched);
    }

    /// Returns the interrupt that was sent to the local APIC of VP `vp`.
    pub fn sent(&self, vp: usize) -> Option<u8> {
        self.watched(vp).watch.sent
    }

    /// Records that VP `vp` has taken its interrupt, or that KVM will report when it can.
    pub fn end(&self, vp: usize) {
        let mut watched = self.watched(vp);
        if watched.watch.due.is_some() {
            self.set(vp, &mut watched, None);
        }
        watched.reset();
    }

    /// Records whether VP `vp` is single-stepped. Returns `true` if that has changed.
    pub fn change_stepping(&self, vp: usize, on: bool) -> bool {
        std::mem::replace(&mut self.watched(vp).watch.stepping, on) != on
    }

    /// Removes the timers. May be called from any thread, when no VP runs any more.
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

    /// Sets the time after which the VP is forced out of the guest. `None` cancels it.
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
