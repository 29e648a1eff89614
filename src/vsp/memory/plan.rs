//! The target of a guest, and the request that is under way to it.

use std::ops::Range;
use std::time::Duration;

/// The time after which a guest that gave or took less than it was asked for is asked again.
pub const RETRY: Duration = Duration::from_secs(10);

/// The time after which a missing reply is reported. The request stays in force: the protocol cannot take one back.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The request that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// None.
    Idle,
    /// The guest was asked for pages.
    Ballooning { asked: u64, given: u64, since: Duration },
    /// The guest gets pages back.
    Unballooning { since: Duration },
    /// The guest gets new pages.
    Adding { pages: Range<u64>, since: Duration },
}

impl Work {
    /// Returns the name of the request, and the time at which it was made.
    pub fn describe(&self) -> Option<(&'static str, Duration)> {
        match self {
            Self::Idle => None,
            Self::Ballooning { since, .. } => Some(("balloon", *since)),
            Self::Unballooning { since } => Some(("unballoon", *since)),
            Self::Adding { since, .. } => Some(("hot add", *since)),
        }
    }
}

/// The target, and what is under way to it.
#[derive(Debug)]
pub struct Plan {
    /// The wanted size in pages.
    pub target: u64,
    pub work: Work,
    /// No request for pages before this time.
    pub balloon_after: Duration,
    /// No new pages before this time.
    pub add_after: Duration,
    /// The guest takes no new pages until it opens the channel again.
    pub adds_no_more: bool,
    /// The missing reply has been reported.
    pub told_of_silence: bool,
    /// The target has been reported as reached.
    pub is_reached: bool,
}

impl Plan {
    /// Creates the plan of a machine that has its target size.
    pub fn new(target: u64) -> Self {
        Self {
            target,
            work: Work::Idle,
            balloon_after: Duration::ZERO,
            add_after: Duration::ZERO,
            adds_no_more: false,
            told_of_silence: false,
            is_reached: true,
        }
    }

    /// Sets the target.
    pub fn set_target(&mut self, pages: u64) {
        if pages != self.target {
            self.target = pages;
            self.is_reached = false;
            // The guest's answer to another size may be another one.
            (self.balloon_after, self.add_after) = (Duration::ZERO, Duration::ZERO);
        }
    }

    /// Ends what is under way, and forgets what the guest cannot do.
    pub fn closed(&mut self) {
        *self = Self { is_reached: false, ..Self::new(self.target) };
    }

    /// Records the end of a request for pages.
    pub fn ballooned(&mut self, now: Duration, is_short: bool) {
        self.work = Work::Idle;
        if is_short {
            self.balloon_after = now + RETRY;
        }
    }

    /// Records that the guest did not take all new pages.
    pub fn add_failed(&mut self, now: Duration, never: bool) {
        self.adds_no_more |= never;
        self.add_after = now + RETRY;
    }
}
