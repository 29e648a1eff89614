//! Shutdown: asks the guest to power off, to restart or to hibernate.
//!
//! The guest answers before it acts, so success means only that it has accepted. The machine's end is the confirmation.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zerocopy::IntoBytes;

use super::protocol::{Failure, Moment, Outgoing, Protocol, Reply, Ticket};
use super::text;
use super::wire::Version;
use super::{Answer, Details, Event, Request};
use crate::wire::wire;

/// A guest answers at once, even if it then takes long to shut down.
const PATIENCE: Duration = Duration::from_secs(30);

/// A kind of shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It powers off.
    PowerOff,
    /// It restarts.
    Restart,
    /// It writes its memory to disk and powers off. It must support that: Linux wants `_S4` in the ACPI tables.
    Hibernate,
}

/// A shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// The kind of shutdown.
    pub kind: Kind,
    /// Programs that do not want to end are ended. Linux always does that.
    pub force: bool,
    /// The reason, as an `SHTDN_REASON` of Windows.
    pub reason: u32,
    /// Text for the users of the guest.
    pub text: String,
    /// Time limit for the guest, or `None` for its default. Linux does not evaluate it.
    pub limit: Option<Duration>,
}

/// `SHTDN_REASON_FLAG_PLANNED`
pub const PLANNED: u32 = 0x8000_0000;

impl Shutdown {
    /// Creates a planned shutdown.
    pub fn new(kind: Kind) -> Self {
        Self { kind, force: false, reason: PLANNED, text: String::new(), limit: None }
    }

    fn body(&self) -> Result<Vec<u8>, Failure> {
        let kind = match self.kind {
            Kind::PowerOff => 0,
            Kind::Restart => Message::RESTART,
            Kind::Hibernate => Message::HIBERNATE,
        };
        let limit_seconds = self.limit.map_or(0, |limit| limit.as_secs().try_into().unwrap_or(u32::MAX));
        let flags = kind | if self.force { Message::FORCE } else { 0 };
        let mut message = Message { reason: self.reason, limit_seconds, flags, text: [0; 2048] };
        text::put(&mut message.text, &self.text, "the text of the shutdown")?;
        Ok(message.as_bytes().to_vec())
    }
}

wire! { 2060,
/// The request. Linux does not answer a shorter one.
pub struct Message {
    /// The reason.
    pub reason: u32,
    /// Time limit for the guest, in seconds.
    pub limit_seconds: u32,
    /// The kind of shutdown, as flags.
    pub flags: u32,
    /// Text for the users.
    pub text: [u8; 2048],
}}

impl Message {
    /// In [`flags`](Self::flags): programs that do not want to end are ended.
    pub const FORCE: u32 = 1;
    /// In [`flags`](Self::flags): the guest restarts.
    pub const RESTART: u32 = 2;
    /// In [`flags`](Self::flags): the guest hibernates.
    pub const HIBERNATE: u32 = 4;
}

/// The service.
#[derive(Default)]
pub struct ShutdownService {
    wanted: Option<Wanted>,
    accepted: Option<Kind>,
}

struct Wanted {
    ticket: Ticket,
    kind: Kind,
    /// `None` once it is sent.
    body: Option<Vec<u8>>,
}

/// The status of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The shutdown that the guest has accepted and not yet completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Kind>,
}

impl Protocol for ShutdownService {
    fn request(&mut self, _now: &Moment, ticket: Ticket, request: Request) -> Result<(), Failure> {
        let Request::Shutdown(shutdown) = request else { return Err(request.is_misplaced()) };
        if self.wanted.is_some() {
            return Err(Failure::Busy);
        }
        self.wanted = Some(Wanted { ticket, kind: shutdown.kind, body: Some(shutdown.body()?) });
        Ok(())
    }

    fn connected(&mut self, _now: &Moment) {}

    fn disconnected(&mut self, events: &mut Vec<Event>) {
        if let Some(wanted) = self.wanted.take() {
            events.push(Event::Finished(wanted.ticket, Err(Failure::Closed)));
        }
    }

    fn reset(&mut self) {
        self.accepted = None;
    }

    fn next(&mut self, _now: &Moment, _version: Version) -> Option<Outgoing> {
        let body = self.wanted.as_mut()?.body.take()?;
        Some(Outgoing { body, patience: Some(PATIENCE) })
    }

    fn reply(&mut self, _now: &Moment, reply: Result<Reply<'_>, Failure>, events: &mut Vec<Event>) {
        let Some(wanted) = self.wanted.take() else { return };
        let result = reply.and_then(|reply| reply.succeeded());
        if result.is_ok() {
            self.accepted = Some(wanted.kind);
        }
        events.push(Event::Finished(wanted.ticket, result.map(|()| Answer::Done)));
    }

    fn next_send(&self) -> Option<Duration> {
        self.wanted.as_ref().filter(|wanted| wanted.body.is_some()).map(|_| Duration::ZERO)
    }

    fn details(&self) -> Details {
        Details::Shutdown(Facts { accepted: self.accepted })
    }
}

#[cfg(test)]
#[path = "shutdown_tests.rs"]
mod tests;
