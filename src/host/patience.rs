//! Decides whether to let the guest continue before its packets are processed.
//!
//! If a channel's thread shares a host CPU with the VP that signals it, it preempts the VP and finds only one packet,
//! although the guest is about to write many. Each packet then costs a doorbell and an interrupt. A thread that waits
//! for its turn finds all of them. But a guest that waits for each reply gains nothing from that, and only idles in
//! between. This is found out by trying: always while it pays, and rarely while it does not.

use crate::host::scheduling;

/// Maximum number of consecutive times without a try after it did not pay.
const MAX_PAUSE: u32 = 64;

/// The state of the decision, owned by one channel's thread; see the module's description.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// Number of times without a try from now on.
    skip: u32,
    /// Number of times without a try before the last try.
    pause: u32,
    /// Whether the thread lets others finish before it runs.
    patient: bool,
}

impl Patience {
    /// Called by the channel's thread before it sleeps. `found` is the number of packets since it last woke; this
    /// decides how it is woken next.
    pub fn adapt(&mut self, found: u32) {
        if found == 0 {
            return;
        }
        if self.patient {
            self.learn(found > 1);
        }
        let patient = self.is_due();
        if patient != self.patient && scheduling::set_patient(patient) {
            self.patient = patient;
        }
    }

    /// Returns `true` if the next wake-up should be patient.
    fn is_due(&mut self) -> bool {
        let due = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        due
    }

    /// Records whether patience has paid.
    fn learn(&mut self, paid: bool) {
        self.pause = if paid { self.pause / 4 } else { (2 * self.pause + 1).min(MAX_PAUSE) };
        self.skip = self.pause;
    }
}

#[cfg(test)]
#[path = "patience_tests.rs"]
mod tests;
