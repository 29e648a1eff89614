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
use crate::host::lock::{Mutex, MutexGuard};
use crate::kvm::gate::Gate;

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

/// The VPs of a partition that wait to take interrupts.
pub(super) struct Watches {
    vps: Vec<Mutex<Watch>>,
    alarm: Arc<Alarm>,
    wake: Wake,
}

impl Watches {
    /// No VP waits. One that does is driven out of the guest through `gate`.
    pub fn new(vps: usize, gate: Arc<Gate>) -> Self {
        Self {
            vps: (0..vps).map(|_| Mutex::default()).collect(),
            alarm: Arc::new(Alarm::new(vps, gate.clone())),
            wake: Arc::new(move |vp| gate.kick(vp as u32)),
        }
    }

    /// VP `vp` cannot take its interrupt yet. It is driven out of the guest in time, unless it is [`Wait::Enough`].
    pub fn wait(&self, vp: usize) -> Wait {
        let wait = self.watch(vp).fail(Instant::now());
        if let Wait::For(time) = wait {
            self.alarm.set(vp, Some(time), &self.wake);
        }
        wait
    }

    /// VP `vp` cannot take its interrupt, and sleeps.
    pub fn doze(&self, vp: usize) {
        let (mut watch, now) = (self.watch(vp), Instant::now());
        if watch.due.is_none_or(|due| due <= now) {
            *watch = Watch { stepping: watch.stepping, due: Some(now + DOZE), ..Watch::default() };
            self.alarm.set(vp, Some(DOZE), &self.wake);
        }
    }

    /// The local APIC of VP `vp` was sent its interrupt: it is to be ended once the VP has taken it.
    pub fn send(&self, vp: usize, vector: u8) {
        let mut watch = self.watch(vp);
        *watch = Watch { stepping: watch.stepping, sent: Some(vector), ..Watch::default() };
        let first = watch.fail(Instant::now());
        if let Wait::For(time) = first {
            self.alarm.set(vp, Some(time), &self.wake);
        }
    }

    /// The interrupt that the local APIC of VP `vp` was sent.
    pub fn sent(&self, vp: usize) -> Option<u8> {
        self.watch(vp).sent
    }

    /// VP `vp` has taken an interrupt, or will by itself tell when it can.
    pub fn end(&self, vp: usize) {
        let mut watch = self.watch(vp);
        if watch.due.is_some() {
            self.alarm.set(vp, None, &self.wake);
        }
        *watch = Watch { stepping: watch.stepping, ..Watch::default() };
    }

    /// Notes whether VP `vp` leaves the guest after each instruction. Returns `true` if that is a change.
    pub fn change_stepping(&self, vp: usize, on: bool) -> bool {
        std::mem::replace(&mut self.watch(vp).stepping, on) != on
    }

    /// Ends the thread that drives VPs out.
    pub fn close(&self) {
        self.alarm.close();
    }

    fn watch(&self, vp: usize) -> MutexGuard<'_, Watch> {
        self.vps[vp].lock()
    }
}

#[cfg(test)]
#[path = "auto_eoi_tests.rs"]
mod tests;
