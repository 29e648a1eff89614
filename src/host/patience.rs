//! Whether it pays to let the guest go on before its packets are taken up.
//!
//! Where a channel's thread shares a host processor with the VP that rang, it pushes the VP aside and finds one packet,
//! though the guest is about to write many; each then costs a doorbell and an interrupt. A thread that waits for its turn finds
//! them all. But a guest that waits for each answer gains nothing by that, and only idles in between. Which it is now
//! shows by trying: always while it pays, seldom while it does not.

use crate::host::scheduling;

/// How many times in a row it is not tried, at most, after it did not pay.
const MAX_PAUSE: u32 = 64;

/// See the module's description. Belongs to one channel's thread.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// How many times it is not tried from now on.
    skip: u32,
    /// How many times it was not tried before the last try.
    pause: u32,
    /// Whether the thread lets others finish before it runs.
    patient: bool,
}

impl Patience {
    /// To be called by the channel's thread before it sleeps: says how it is to be woken, by how much it has found to do since it woke the last time.
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

    /// Whether to be patient for what comes next.
    fn is_due(&mut self) -> bool {
        let due = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        due
    }

    /// Takes up whether patience has paid.
    fn learn(&mut self, paid: bool) {
        self.pause = if paid { self.pause / 4 } else { (2 * self.pause + 1).min(MAX_PAUSE) };
        self.skip = self.pause;
    }
}

#[cfg(test)]
#[path = "patience_tests.rs"]
mod tests;
