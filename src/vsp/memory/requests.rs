//! Decides which request brings a guest closer to its target size.
//!
//! A guest that has too much is asked for pages. One that has too little gets back pages that it gave, and then new ones.
//! Requests are limited in size, so that a new target counts soon. They start with the guest's first status report:
//! Windows does not survive one that comes earlier.

use std::time::Duration;

use super::floor::floor;
use super::plan::{PATIENCE, Work};
use super::protocol::{Phase, Protocol, Step};
use super::wire::{BalloonRequest, HotAddRequest, MAX_RANGES, MessageType, PageRange, UnballoonRequest};
use super::{Event, LARGEST_BLOCK};

/// Maximum number of pages in a request: 512 MiB.
const MAX_REQUEST: u64 = 1 << 17;
const _: () = assert!(MAX_REQUEST <= PageRange::MAX_PAGES);

/// Number of messages in a request that returns pages. A ring of Linux has room for four of the longest.
const MAX_CHAIN: usize = 4;

/// The next request for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Balloon(u64),
    Unballoon(u64),
    Add(u64),
}

impl Protocol {
    /// Sets the target size. It is brought into the limits. Returns the new target.
    pub fn set_target(&mut self, pages: u64) -> u64 {
        let pages = pages.clamp(self.limits.min, self.limits.max);
        self.plan.set_target(pages);
        pages
    }

    /// Makes the next request, if one is needed and possible.
    pub(super) fn decide(&mut self, now: Duration) {
        if let Some((what, since)) = self.plan.work.describe() {
            if now.saturating_sub(since) >= PATIENCE && !self.plan.told_of_silence {
                self.plan.told_of_silence = true;
                self.events.push(Event::NoAnswer(what));
            }
            return;
        }
        self.plan.told_of_silence = false;
        if self.phase != Phase::Ready || self.report.is_none() {
            return;
        }
        match self.need() {
            Some((Need::Balloon(pages), after)) if now >= after => self.balloon(now, pages),
            Some((Need::Unballoon(pages), _)) => self.unballoon(now, pages),
            Some((Need::Add(pages), after)) if now >= after => self.add(now, pages),
            Some(_) => {}
            None if self.assigned() == self.plan.target && !self.plan.is_reached => {
                self.plan.is_reached = true;
                self.events.push(Event::Reached(self.plan.target));
            }
            None => {}
        }
    }

    /// Returns the time at which [`next_step`](Self::next_step) may have something new.
    pub fn deadline(&self) -> Option<Duration> {
        match self.plan.work.describe() {
            Some((_, since)) => (!self.plan.told_of_silence).then_some(since + PATIENCE),
            None if self.phase != Phase::Ready || self.report.is_none() => None,
            None => self.need().map(|(_, after)| after),
        }
    }

    /// Returns what the guest needs, and the time before which it must not be asked.
    fn need(&self) -> Option<(Need, Duration)> {
        let assigned = self.assigned();
        let surplus = assigned.saturating_sub(self.lowest_target()).min(MAX_REQUEST);
        let lack = self.plan.target.saturating_sub(assigned).min(MAX_REQUEST);
        let room = self.layout.window.end - self.next_page;
        if surplus > 0 && self.abilities.balloon {
            Some((Need::Balloon(surplus), self.plan.balloon_after))
        } else if lack > 0 && self.ballooned.count() > 0 {
            Some((Need::Unballoon(lack), Duration::ZERO))
        } else if lack > 0 && room > 0 && self.can_add() {
            Some((Need::Add(lack.min(room)), self.plan.add_after))
        } else {
            None
        }
    }

    /// Returns the target, or the size below which a guest is in danger.
    fn lowest_target(&self) -> u64 {
        self.plan.target.max(floor(self.limits.startup + self.added).min(self.limits.startup))
    }

    fn can_add(&self) -> bool {
        self.abilities.hot_add && !self.plan.adds_no_more && self.abilities.alignment <= LARGEST_BLOCK
    }

    fn balloon(&mut self, now: Duration, pages: u64) {
        self.plan.work = Work::Ballooning { asked: pages, given: 0, since: now };
        self.send(MessageType::BALLOON_REQUEST, &BalloonRequest { pages: pages as u32, reserved: 0 }, &[]);
    }

    fn unballoon(&mut self, now: Duration, pages: u64) {
        let mut left = pages;
        let mut ranges = Vec::new();
        while ranges.len() < MAX_CHAIN * MAX_RANGES {
            let Some(range) = self.ballooned.take(left) else { break };
            left -= range.end - range.start;
            ranges.push(PageRange::new(&range));
        }
        self.plan.work = Work::Unballooning { since: now };
        let mut chain = ranges.chunks(MAX_RANGES).peekable();
        while let Some(part) = chain.next() {
            let more = chain.peek().is_some().into();
            let request = UnballoonRequest { more, range_count: part.len() as u32 };
            self.send(MessageType::UNBALLOON_REQUEST, &request, part);
        }
    }

    /// Offers new pages. They are mapped first.
    fn add(&mut self, now: Duration, pages: u64) {
        let pages = self.next_page..self.next_page + pages;
        self.plan.work = Work::Adding { pages: pages.clone(), since: now };
        self.steps.push_back(Step::Populate(pages));
    }

    /// Records the result of [`Step::Populate`].
    pub fn populated(&mut self, now: Duration, is_done: bool) {
        let Work::Adding { pages, .. } = &self.plan.work else { return };
        let pages = pages.clone();
        if !is_done {
            self.plan.work = Work::Idle;
            self.plan.add_failed(now, true);
            self.events.push(Event::NotMapped { pages: pages.end - pages.start });
            return;
        }
        let range = PageRange::new(&pages);
        let alignment = self.abilities.alignment;
        if pages.start.is_multiple_of(alignment) {
            let region = PageRange::new(&(pages.start..pages.end.next_multiple_of(alignment)));
            self.send(MessageType::HOT_ADD_REQUEST, &HotAddRequest { range, region }, &[]);
        } else {
            // These follow pages that the guest has: Linux takes a region for a new one, and would not extend the last.
            self.send(MessageType::HOT_ADD_REQUEST, &range, &[]);
        }
    }
}
