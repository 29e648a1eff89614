//! The state of a machine's memory, for the host.

use std::time::Duration;

use serde::Serialize;

use super::plan::Work;
use super::protocol::{Phase, Protocol};
use super::size;

/// The state of a machine's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// `closed`, `negotiating`, `ready` or `refused`.
    pub driver: &'static str,
    /// The version of the protocol.
    pub version: Option<String>,
    /// The guest can give pages.
    pub can_balloon: bool,
    /// The guest can take more pages than it had at its start.
    pub can_hot_add: bool,
    /// Alignment of memory that is added.
    pub hot_add_alignment_bytes: u64,
    /// The size at the start.
    pub startup_bytes: u64,
    /// The smallest size.
    pub minimum_bytes: u64,
    /// The largest size.
    pub maximum_bytes: u64,
    /// The wanted size.
    pub target_bytes: u64,
    /// The present size.
    pub assigned_bytes: u64,
    /// The size that it may reach by the target and by the request that is under way, if that is larger.
    pub reserved_bytes: u64,
    /// Memory that the guest has given.
    pub ballooned_bytes: u64,
    /// Memory that was added.
    pub hot_added_bytes: u64,
    /// Memory that the guest needs, by its last report.
    pub demand_bytes: Option<u64>,
    /// Memory that the guest has available, by its last report.
    pub available_bytes: Option<u64>,
    /// The age of the last report.
    pub last_report_seconds: Option<u64>,
    /// The request that is under way.
    pub request: Option<&'static str>,
    /// Pages that the guest gave twice, or that it does not have.
    pub ignored_pages: u64,
}

impl Protocol {
    /// Returns the state at the time `now`.
    pub fn status(&self, now: Duration) -> Status {
        let driver = match self.phase {
            Phase::Closed => "closed",
            Phase::Versions | Phase::Capabilities => "negotiating",
            Phase::Ready => "ready",
            Phase::Refused => "refused",
        };
        let bytes = |pages: u64| size(pages).0;
        // A guest counts ballooned pages as committed.
        let demand = |committed: u64| bytes(committed.saturating_sub(self.ballooned.count()));
        Status {
            driver,
            version: self.version.map(|version| version.to_string()),
            can_balloon: self.abilities.balloon,
            can_hot_add: self.abilities.hot_add,
            hot_add_alignment_bytes: bytes(self.abilities.alignment),
            startup_bytes: bytes(self.limits.startup),
            minimum_bytes: bytes(self.limits.min),
            maximum_bytes: bytes(self.limits.max),
            target_bytes: bytes(self.plan.target),
            assigned_bytes: bytes(self.assigned()),
            reserved_bytes: bytes(self.reserved()),
            ballooned_bytes: bytes(self.ballooned.count()),
            hot_added_bytes: bytes(self.added),
            demand_bytes: self.report.map(|(report, _)| demand(report.committed)),
            available_bytes: self.report.map(|(report, _)| bytes(report.available)),
            last_report_seconds: self.report.map(|(_, at)| now.saturating_sub(at).as_secs()),
            request: self.plan.work.describe().map(|(what, _)| what),
            ignored_pages: self.ignored,
        }
    }

    /// Returns the number of pages that the guest has, or may get if the target stays the same. Pages that it gets back count as its own
    /// at once, new ones when it has taken them.
    fn reserved(&self) -> u64 {
        let adding = if let Work::Adding { pages, .. } = &self.plan.work { pages.end - pages.start } else { 0 };
        (self.assigned() + adding).max(self.plan.target)
    }
}
