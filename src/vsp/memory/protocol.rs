//! The host's side of the dynamic memory protocol: messages and the time in, messages and effects out.
//!
//! The guest proposes versions, reports its capabilities, and then reports its status every second. The host sends one
//! request at a time: [`requests`](super::requests) decides which. A guest that breaks the protocol is not served until it opens
//! the channel again. One that names pages which it does not have, or gives a page twice, is served: those pages are
//! ignored.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::pages::PageSet;
use super::plan::{Plan, Work};
use super::wire::{
    BalloonResponse, Capabilities, Header, HotAddResponse, Information, MAX_MESSAGE, MessageType, PageRange,
    StatusReport, Verdict, Version, VersionRequest, message,
};
use super::{Event, Layout, Limits};

/// An effect that the protocol asks for. Effects must be carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send a message.
    Send(Vec<u8>),
    /// Free these pages. They read as zeros if the guest accesses them again.
    Discard(Range<u64>),
    /// Map these pages into the guest, and report the result with [`Protocol::populated`].
    Populate(Range<u64>),
}

/// The guest broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(String);

/// The phase of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The channel is closed.
    Closed,
    /// The guest proposes versions.
    Versions,
    /// The guest is about to report its capabilities.
    Capabilities,
    /// Requests can be made.
    Ready,
    /// The guest supports none of our versions.
    Refused,
}

/// The capabilities of the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Abilities {
    pub balloon: bool,
    pub hot_add: bool,
    /// Alignment of memory that is added, in pages.
    pub alignment: u64,
}

/// The protocol, and the pages that the guest has given.
#[derive(Debug)]
pub struct Protocol {
    pub(super) limits: Limits,
    pub(super) layout: Layout,
    pub(super) phase: Phase,
    pub(super) version: Option<Version>,
    pub(super) abilities: Abilities,
    /// The last status report, and the time at which it came.
    pub(super) report: Option<(StatusReport, Duration)>,
    /// Pages that the guest gave since it opened the channel, and that were not returned.
    pub(super) ballooned: PageSet,
    /// Number of pages that were added.
    pub(super) added: u64,
    /// The first page of the window that was not offered to the guest.
    pub(super) next_page: u64,
    /// Number of pages that the guest gave twice, or that it does not have.
    pub(super) ignored: u64,
    pub(super) plan: Plan,
    pub(super) steps: VecDeque<Step>,
    pub(super) events: Vec<Event>,
    transaction: u32,
}

impl Protocol {
    /// Creates the protocol of a machine with its startup memory. No channel is open.
    pub fn new(limits: Limits, layout: Layout) -> Self {
        Self {
            plan: Plan::new(limits.startup),
            ballooned: PageSet::new(layout.end()),
            next_page: layout.window.start,
            limits,
            layout,
            phase: Phase::Closed,
            version: None,
            abilities: Abilities::default(),
            report: None,
            added: 0,
            ignored: 0,
            steps: VecDeque::new(),
            events: Vec::new(),
            transaction: 0,
        }
    }

    /// Records that the guest has opened the channel.
    pub fn opened(&mut self) {
        self.phase = Phase::Versions;
    }

    /// Records that the guest has closed the channel.
    ///
    /// The pages that it gave are then never returned: another driver, or another kernel, may not know of them. New pages
    /// start at an aligned address again, because a driver adds whole blocks.
    pub fn closed(&mut self) {
        if self.phase == Phase::Ready {
            self.events.push(Event::Disconnected);
        }
        if let Work::Adding { pages, .. } = &self.plan.work {
            self.next_page = pages.end;
        }
        self.phase = Phase::Closed;
        self.version = None;
        self.report = None;
        self.steps.clear();
        self.plan.closed();
        if self.ballooned.count() > 0 {
            self.ballooned = PageSet::new(self.layout.end());
        }
        let alignment = self.abilities.alignment.max(1);
        self.next_page = self.next_page.next_multiple_of(alignment).min(self.layout.window.end);
        self.abilities = Abilities::default();
    }

    /// Returns to the state at power-on. The target is the startup size again.
    pub fn reset(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        if self.phase == Phase::Ready {
            events.push(Event::Disconnected);
        }
        *self = Self { events, ..Self::new(self.limits, self.layout.clone()) };
    }

    /// Takes the events since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Returns the memory that the guest has, in pages.
    pub fn assigned(&self) -> u64 {
        (self.limits.startup + self.added).saturating_sub(self.ballooned.count())
    }

    /// Processes a message of the guest.
    ///
    /// # Errors
    /// Returns an error if the guest broke the protocol.
    pub fn receive(&mut self, now: Duration, packet: &[u8]) -> Result<(), Violation> {
        let short = || Violation(format!("a message of {} bytes is too short", packet.len()));
        let (header, body) = Header::read_from_prefix(packet).map_err(|_| short())?;
        let length = usize::from(header.length);
        if length < size_of::<Header>() || length > packet.len() || length > MAX_MESSAGE {
            let (kind, packet) = (header.message_type, packet.len());
            return Err(Violation(format!("a {kind} says that it has {length} bytes; its packet has {packet}")));
        }
        let body = &body[..length - size_of::<Header>()];
        match (header.message_type, self.phase) {
            (MessageType::VERSION_REQUEST, Phase::Versions) => self.propose(&parse(header, body)?),
            (MessageType::CAPABILITIES_REPORT, Phase::Capabilities) => self.take_capabilities(&parse(header, body)?),
            (MessageType::STATUS_REPORT, Phase::Ready) => self.report = Some((parse(header, body)?, now)),
            (MessageType::BALLOON_RESPONSE, Phase::Ready) => self.take_pages(now, header, body)?,
            (MessageType::UNBALLOON_RESPONSE, Phase::Ready) => self.unballooned()?,
            (MessageType::HOT_ADD_RESPONSE, Phase::Ready) => self.hot_added(now, &parse(header, body)?)?,
            (kind, phase) => {
                return Err(Violation(format!("a {kind} cannot come now: the protocol is in the phase {phase:?}")));
            }
        }
        Ok(())
    }

    /// Returns the next effect.
    pub fn next_step(&mut self, now: Duration) -> Option<Step> {
        if self.steps.is_empty() {
            self.decide(now);
        }
        self.steps.pop_front()
    }

    fn propose(&mut self, request: &VersionRequest) {
        let is_known = Version::ALL.contains(&request.version);
        self.answer(MessageType::VERSION_RESPONSE, is_known);
        if is_known {
            self.version = Some(request.version);
            self.phase = Phase::Capabilities;
        } else if request.is_last_attempt & 1 != 0 {
            self.phase = Phase::Refused;
            self.events.push(Event::NoVersion);
        }
    }

    fn take_capabilities(&mut self, report: &Capabilities) {
        self.abilities = Abilities {
            balloon: report.bits & Capabilities::BALLOON != 0,
            hot_add: report.bits & Capabilities::HOT_ADD != 0,
            alignment: report.alignment(),
        };
        self.answer(MessageType::CAPABILITIES_RESPONSE, true);
        self.phase = Phase::Ready;
        if self.version != Some(Version::V0_3) {
            let information = Information {
                reserved: 0,
                length: 16,
                information_type: 0,
                value_length: 8,
                max_pages: self.limits.max,
            };
            self.send(MessageType::INFORMATION, &information, &[]);
        }
        let version = self.version.map(|version| version.to_string()).unwrap_or_default();
        let Abilities { balloon, hot_add, .. } = self.abilities;
        self.events.push(Event::Connected { version, balloon, hot_add });
    }

    /// Takes the pages of a balloon response.
    fn take_pages(&mut self, now: Duration, header: Header, body: &[u8]) -> Result<(), Violation> {
        let Work::Ballooning { asked, given, .. } = &mut self.plan.work else { return Err(unasked(header)) };
        let (response, ranges) = BalloonResponse::read_from_prefix(body).map_err(|_| misfit(header, body))?;
        let count = response.more_and_count >> 1;
        let ranges = ranges.get(..count as usize * size_of::<PageRange>()).ok_or_else(|| misfit(header, body))?;
        let mut discarded: Vec<Range<u64>> = Vec::new();
        for range in ranges.as_chunks().0 {
            let pages = PageRange(u64::from_le_bytes(*range)).pages();
            let named = pages.end - pages.start;
            let mut taken = 0;
            for part in self.layout.within(&pages, self.next_page) {
                for new in self.ballooned.insert(part) {
                    taken += new.end - new.start;
                    match discarded.last_mut() {
                        Some(last) if last.end == new.start => last.end = new.end,
                        Some(last) if new.end == last.start => last.start = new.start,
                        _ => discarded.push(new),
                    }
                }
            }
            *given += taken;
            self.ignored = self.ignored.saturating_add(named - taken);
        }
        let is_last = response.more_and_count & 1 == 0;
        let is_short = *given < *asked;
        self.steps.extend(discarded.into_iter().map(Step::Discard));
        if is_last {
            self.plan.ballooned(now, is_short);
        }
        Ok(())
    }

    fn unballooned(&mut self) -> Result<(), Violation> {
        match self.plan.work {
            Work::Unballooning { .. } => self.plan.work = Work::Idle,
            _ => return Err(Violation("an unballoon response comes without a request".into())),
        }
        Ok(())
    }

    fn hot_added(&mut self, now: Duration, response: &HotAddResponse) -> Result<(), Violation> {
        let Work::Adding { pages, .. } = &self.plan.work else {
            return Err(Violation("a hot add response comes without a request".into()));
        };
        let (asked, count) = (pages.end - pages.start, u64::from(response.pages));
        if count > asked {
            return Err(Violation(format!("the guest added {count} pages of {asked}")));
        }
        self.next_page = pages.start + count;
        self.added += count;
        if count < asked {
            let never = count == 0 && response.result != 0;
            self.events.push(Event::HotAddRefused { pages: asked - count, never });
            self.plan.add_failed(now, never);
        }
        self.plan.work = Work::Idle;
        Ok(())
    }

    fn answer(&mut self, message_type: MessageType, accepted: bool) {
        self.send(message_type, &Verdict { is_accepted: accepted.into() }, &[]);
    }

    pub(super) fn send(
        &mut self,
        message_type: MessageType,
        body: &(impl IntoBytes + Immutable),
        ranges: &[PageRange],
    ) {
        self.transaction = self.transaction.wrapping_add(1);
        self.steps.push_back(Step::Send(message(message_type, self.transaction, body, ranges)));
    }
}

/// Reads a body. A longer one is read, too: later versions may extend it.
fn parse<T: FromBytes + KnownLayout + Immutable>(header: Header, body: &[u8]) -> Result<T, Violation> {
    T::read_from_prefix(body).map(|(value, _)| value).map_err(|_| misfit(header, body))
}

fn misfit(header: Header, body: &[u8]) -> Violation {
    let kind = header.message_type;
    Violation(format!("a {kind} does not fit into {} bytes", size_of::<Header>() + body.len()))
}

fn unasked(header: Header) -> Violation {
    Violation(format!("a {} comes without a request", { header.message_type }))
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
