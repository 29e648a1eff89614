//! The deadlines of the synthetic timers, and the ways to wake a VP at its deadline.
//!
//! There are two ways. A timer of the VP's thread ([`VpTimer`]) forces the VP out of the guest, and its thread delivers
//! what is due. The thread of an [`Alarm`] delivers it from outside, and the VP stays in KVM.
//!
//! The second way suits a VP that sleeps in HLT: it is woken without an exit to Viridian. For a VP that computes, the
//! first way is better. The VP must leave the guest for the interrupt anyway, and where all processors are busy with
//! guests, the thread of the alarm would have to compete with them for each expiration. So the way depends on the CPU
//! time that the VP's thread has used lately, and on how near the deadline is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::alarm::{Alarm, Wake};
use crate::host::limited;
use crate::host::lock::{Mutex, MutexGuard};
use crate::kvm::gate::Gate;
use crate::kvm::timer::{self, VpTimer};

/// The time over which a VP's use of CPU time is measured. It must not be too short, because every VP computes when it sets
/// a timer.
const STRETCH: Duration = Duration::from_millis(4);
/// Deadlines that are further away always use the alarm: they are rare, and a VP that sets one usually goes to sleep. The
/// limit is longer than the longest period of a kernel's tick, 10 ms.
const NEAR: Duration = Duration::from_millis(16);
/// A VP computes if it used this fraction (one eighth) of a stretch. On a busy host, a VP gets only a part of the time.
const BUSY_PART: u32 = 8;

/// A VP's use of CPU time.
struct Usage {
    /// The start of the current stretch, and the CPU time of the VP's thread then.
    start: (Instant, Duration),
    /// The VP computed in the last complete stretch.
    busy: bool,
}

impl Usage {
    /// Updates and returns `busy`. `cpu_time` returns the CPU time of the VP's thread.
    fn is_busy(&mut self, now: Instant, cpu_time: impl FnOnce() -> Duration) -> bool {
        let time = now.saturating_duration_since(self.start.0);
        if time >= STRETCH {
            let cpu_time = cpu_time();
            self.busy = cpu_time.saturating_sub(self.start.1) * BUSY_PART >= time;
            self.start = (now, cpu_time);
        }
        self.busy
    }
}

/// The deadline of one VP.
#[derive(Default)]
struct Slot {
    /// The thread that runs the VP and its use of CPU time, once there is one.
    thread: Option<(libc::pid_t, Usage)>,
    /// Created when it is first needed, because many guests never need it.
    timer: Option<VpTimer>,
    /// The deadline that is set, in reference time.
    deadline: Option<u64>,
    /// The deadline is set in `timer`, not in the alarm.
    in_timer: bool,
}

impl Slot {
    /// Returns the timer if it is to wake the VP after `time`.
    fn timer(&mut self, time: Duration) -> Option<&VpTimer> {
        let (thread, usage) = self.thread.as_mut()?;
        let thread = *thread;
        if !usage.is_busy(Instant::now(), || timer::cpu_time(thread)) || time > NEAR {
            return None;
        }
        if self.timer.is_none() {
            let created = VpTimer::new(thread);
            let report = |error: &_| {
                limited::warn!("synthetic timers may be late on a busy host: {error}; `ulimit -i` limits them");
            };
            self.timer = created.inspect_err(report).ok();
        }
        self.timer.as_ref()
    }
}

/// The deadlines of a partition's VPs.
pub(super) struct Deadlines {
    vps: Vec<Mutex<Slot>>,
    alarm: Arc<Alarm>,
    wake: Wake,
}

impl Deadlines {
    /// Creates the deadlines of `vps` VPs, none of which is set. The thread of the alarm stops at `gate` and calls
    /// `wake`.
    pub fn new(vps: usize, gate: Arc<Gate>, wake: Wake) -> Self {
        Self { vps: (0..vps).map(|_| Mutex::default()).collect(), alarm: Arc::new(Alarm::new(vps, gate)), wake }
    }

    /// Records that the calling thread runs VP `vp` from now on.
    pub fn enter(&self, vp: usize) {
        let thread = timer::own_thread();
        let usage = Usage { start: (Instant::now(), timer::cpu_time(thread)), busy: false };
        self.slot(vp).thread = Some((thread, usage));
    }

    /// Wakes VP `vp` at `deadline`, or not at all for `None`. `until` returns the time that is left, or `None` while
    /// the reference time is stopped.
    pub fn set(&self, vp: usize, deadline: Option<u64>, until: impl FnOnce(u64) -> Option<Duration>) {
        let mut slot = self.slot(vp);
        if slot.deadline == deadline {
            return;
        }
        let time = deadline.and_then(until);
        let was_in_timer = slot.in_timer;
        slot.deadline = deadline.filter(|_| time.is_some());
        slot.in_timer = time.is_some_and(|time| slot.timer(time).is_some());
        let in_alarm = time.filter(|_| !slot.in_timer);
        if (slot.in_timer || was_in_timer)
            && let Some(timer) = &slot.timer
        {
            timer.set(time.filter(|_| slot.in_timer));
        }
        self.alarm.set(vp, in_alarm, &self.wake);
    }

    /// Returns `true` if a timer of the calling thread's VP has expired. This is one load.
    pub fn is_due() -> bool {
        timer::has_expired()
    }

    /// Returns the same as [`is_due`](Self::is_due), and clears it.
    pub fn take_due() -> bool {
        timer::take_expired()
    }

    /// Records that VP `vp` was woken. The deadline must be set again.
    pub fn woken(&self, vp: usize) {
        self.slot(vp).deadline = None;
    }

    /// Removes all deadlines, and ends the thread of the alarm.
    pub fn close(&self) {
        self.alarm.close();
        (0..self.vps.len()).for_each(|vp| *self.slot(vp) = Slot::default());
    }

    fn slot(&self, vp: usize) -> MutexGuard<'_, Slot> {
        self.vps[vp].lock()
    }
}

#[cfg(test)]
#[path = "deadlines_tests.rs"]
mod tests;
