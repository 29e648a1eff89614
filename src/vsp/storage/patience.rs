//! Whether it pays to let the guest go on before its requests are taken up.
//!
//! Where a channel's thread shares a host processor with the VP that rang, it pushes the VP aside and finds one request,
//! though the guest is about to write many; each then costs a doorbell and an interrupt. A thread that waits for its turn finds
//! them all. But a guest that waits for each request gains nothing by that, and only idles in between. Which it is now
//! shows by trying: always while it pays, seldom while it does not.

/// How many times in a row it is not tried, at most, after it did not pay.
const MAX_PAUSE: u32 = 64;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Patience {
    /// How many times it is not tried from now on.
    skip: u32,
    /// How many times it was not tried before the last try.
    pause: u32,
}

impl Patience {
    /// Whether to be patient for what comes next.
    pub fn is_due(&mut self) -> bool {
        let due = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        due
    }

    /// Takes up whether patience has paid.
    pub fn learn(&mut self, paid: bool) {
        self.pause = if paid { self.pause / 4 } else { (2 * self.pause + 1).min(MAX_PAUSE) };
        self.skip = self.pause;
    }
}

#[cfg(test)]
#[path = "patience_tests.rs"]
mod tests;
