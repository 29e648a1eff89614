//! A service: the part of the protocol that all have in common.
//!
//! It negotiates the versions, numbers the requests, matches replies to them and watches their time limits. What the messages
//! mean is decided by a [`Protocol`].
//!
//! A reply that nobody waits for is dropped and counted: it may come after its time limit, or after a restore. A packet whose
//! headers are invalid is a [`Violation`], after which the channel should no longer be served.

use std::time::Duration;

use serde::Serialize;

use super::protocol::{Failure, Moment, Outgoing, Protocol, Reply, Ticket};
use super::table::Kind;
use super::wire::{
    Header, MessageType, Status as WireStatus, Version, Violation, negotiated, negotiation, packet, split,
};
use super::{Details, Event, Request, time};

/// Versions that are offered instead of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forced {
    /// The only framework version that is offered.
    pub framework: Option<Version>,
    /// The only message version that is offered.
    pub version: Option<Version>,
}

/// The state of the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The guest has not opened the channel.
    Closed,
    /// The versions are being negotiated. A guest may wait for its daemon first, as Linux does for KVP.
    Negotiating,
    /// The service can be used.
    Ready,
    /// The guest supports none of the offered versions.
    NoVersion,
}

/// The status of a service.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The name.
    pub service: &'static str,
    /// The state of the channel.
    pub state: State,
    /// The framework version that was negotiated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub framework: Option<Version>,
    /// The message version that was negotiated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Time since the guest's last reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_contact_seconds: Option<u64>,
    /// Number of requests that were sent, with those of the service itself.
    pub requests: u64,
    /// Number of requests that were not answered in time.
    pub unanswered: u64,
    /// Number of replies that nobody waited for.
    pub unexpected: u64,
    /// The part that differs between services.
    #[serde(flatten)]
    pub details: Details,
}

/// A request that the guest has not answered.
struct Awaited {
    id: u8,
    message_type: MessageType,
    limit: Option<Limit>,
}

#[derive(Clone, Copy)]
struct Limit {
    at: Duration,
    patience: Duration,
}

/// The connection with the guest.
enum Connection {
    Closed,
    /// The negotiation is to be sent.
    Open,
    Negotiating,
    Ready {
        framework: Version,
        version: Version,
    },
    NoVersion,
}

/// A service; see the module's description.
pub struct Service {
    kind: Kind,
    protocol: Box<dyn Protocol>,
    frameworks: Vec<Version>,
    versions: Vec<Version>,
    connection: Connection,
    awaited: Option<Awaited>,
    next_id: u8,
    next_ticket: u64,
    last_contact: Option<Duration>,
    requests: u64,
    unanswered: u64,
    unexpected: u64,
    events: Vec<Event>,
}

impl Service {
    /// Creates a service whose channel is closed.
    pub fn new(kind: Kind, protocol: Box<dyn Protocol>, forced: Forced) -> Self {
        let list =
            |all: &[Version], forced: Option<Version>| forced.map_or_else(|| all.to_vec(), |version| vec![version]);
        Self {
            kind,
            protocol,
            frameworks: list(kind.profile().frameworks, forced.framework),
            versions: list(kind.profile().versions, forced.version),
            connection: Connection::Closed,
            awaited: None,
            next_id: 0,
            next_ticket: 0,
            last_contact: None,
            requests: 0,
            unanswered: 0,
            unexpected: 0,
            events: Vec::new(),
        }
    }

    /// The guest has opened the channel, or the machine was restored: the versions are negotiated.
    pub fn opened(&mut self) {
        self.closed();
        self.connection = Connection::Open;
    }

    /// The guest has closed the channel, or it is no longer served. All requests fail.
    pub fn closed(&mut self) {
        if matches!(self.connection, Connection::Ready { .. }) {
            self.protocol.disconnected(&mut self.events);
            self.events.push(Event::Disconnected);
        }
        self.connection = Connection::Closed;
        self.awaited = None;
    }

    /// The machine starts another guest. The channel is closed.
    pub fn reset(&mut self) {
        self.closed();
        self.protocol.reset();
        self.last_contact = None;
    }

    /// The machine continues after a pause.
    pub fn resumed(&mut self, now: &Moment) {
        if matches!(self.connection, Connection::Ready { .. }) {
            self.protocol.resumed(now);
        }
    }

    /// Accepts a request of the host, or refuses it. An accepted one is finished with an [`Event::Finished`].
    ///
    /// # Errors
    /// Returns the reason why it is refused.
    pub fn request(&mut self, now: &Moment, request: Request) -> Result<Ticket, Failure> {
        let name = self.kind.profile().name;
        match self.connection {
            Connection::Ready { .. } => {}
            Connection::NoVersion => return Err(Failure::NoVersion(name)),
            Connection::Closed | Connection::Open | Connection::Negotiating => return Err(Failure::NoContact(name)),
        }
        let ticket = Ticket(self.next_ticket);
        self.protocol.request(now, ticket, request)?;
        self.next_ticket += 1;
        Ok(ticket)
    }

    /// Cancels a request, if it is not finished.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.protocol.cancel(ticket, &mut self.events);
    }

    /// Returns the next packet for the guest, if there is one. The caller has room for
    /// [`MAX_PACKET`](super::wire::MAX_PACKET) bytes in the ring, and sends it at once.
    pub fn next_packet(&mut self, now: &Moment) -> Option<Vec<u8>> {
        let none = Version::new(0, 0);
        match self.connection {
            Connection::Open => {
                self.connection = Connection::Negotiating;
                let versions: Vec<_> =
                    self.versions.iter().copied().filter(|version| self.can_speak(now, *version)).collect();
                let body = negotiation(&self.frameworks, &versions);
                Some(self.packet(now, MessageType::NEGOTIATE, (none, none), Outgoing { body, patience: None }))
            }
            Connection::Ready { framework, version } if self.awaited.is_none() => {
                let message = self.protocol.next(now, version)?;
                Some(self.packet(now, self.kind.profile().message_type, (framework, version), message))
            }
            _ => None,
        }
    }

    /// Returns `true` if the host can send messages of this version: some of the time service need the guest's reference time.
    fn can_speak(&self, now: &Moment, version: Version) -> bool {
        self.kind != Kind::Time || version < time::WITH_REFERENCE || now.reference.is_some()
    }

    fn packet(
        &mut self,
        now: &Moment,
        message_type: MessageType,
        (framework, version): (Version, Version),
        message: Outgoing,
    ) -> Vec<u8> {
        let Outgoing { body, patience } = message;
        self.next_id = self.next_id.wrapping_add(1);
        let id = self.next_id;
        let limit = patience.map(|patience| Limit { at: now.running.saturating_add(patience), patience });
        self.awaited = Some(Awaited { id, message_type, limit });
        self.requests += 1;
        let header = Header {
            framework,
            message_type,
            version,
            body_length: body.len() as u16,
            status: WireStatus::SUCCESS,
            transaction_id: id,
            flags: Header::TRANSACTION | Header::REQUEST,
            reserved: [0; 2],
        };
        packet(&header, &body)
    }

    /// Processes a packet of the guest.
    ///
    /// # Errors
    /// Returns an error if its headers are invalid.
    pub fn receive(&mut self, now: &Moment, payload: &[u8]) -> Result<(), Violation> {
        let (header, body) = split(payload)?;
        let is_answer = |awaited: &mut Awaited| {
            header.flags & Header::RESPONSE != 0
                && (header.transaction_id, header.message_type) == (awaited.id, awaited.message_type)
        };
        if self.awaited.take_if(is_answer).is_none() {
            self.unexpected += 1;
            return Ok(());
        }
        self.last_contact = Some(now.running);
        match self.connection {
            Connection::Negotiating => self.agree(now, body),
            _ => self.protocol.reply(now, Ok(Reply { status: header.status, body }), &mut self.events),
        }
        Ok(())
    }

    /// Takes the guest's choice of versions.
    fn agree(&mut self, now: &Moment, body: &[u8]) {
        let offered = |(framework, version): &(Version, Version)| {
            self.frameworks.contains(framework) && self.versions.contains(version)
        };
        let Some((framework, version)) = negotiated(body).filter(offered) else {
            self.connection = Connection::NoVersion;
            return self.events.push(Event::NoVersion);
        };
        self.connection = Connection::Ready { framework, version };
        self.protocol.connected(now);
        self.events.push(Event::Connected { framework, version });
    }

    /// Does what is due.
    pub fn tick(&mut self, now: &Moment) {
        let is_over = |awaited: &mut Awaited| awaited.limit.is_some_and(|limit| limit.at <= now.running);
        if let Some(Awaited { limit: Some(limit), .. }) = self.awaited.take_if(is_over) {
            self.unanswered += 1;
            self.protocol.reply(now, Err(Failure::NoAnswer(limit.patience)), &mut self.events);
        }
        if matches!(self.connection, Connection::Ready { .. }) {
            self.protocol.tick(now, &mut self.events);
        }
    }

    /// Returns when [`tick`](Self::tick) must be called, or [`next_packet`](Self::next_packet) if the ring has room, in the time
    /// that the machine has run.
    pub fn deadline(&self, has_room: bool) -> Option<Duration> {
        let limit = self.awaited.as_ref().and_then(|awaited| awaited.limit).map(|limit| limit.at);
        let Connection::Ready { .. } = self.connection else { return limit };
        let send = self.awaited.is_none() && has_room;
        let send = self.protocol.next_send().filter(|_| send);
        [limit, self.protocol.deadline(), send].into_iter().flatten().min()
    }

    /// Returns what has happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Returns the state of the service.
    pub fn status(&self, now: &Moment) -> Status {
        let (state, versions) = match self.connection {
            Connection::Closed => (State::Closed, None),
            Connection::Open | Connection::Negotiating => (State::Negotiating, None),
            Connection::Ready { framework, version } => (State::Ready, Some((framework, version))),
            Connection::NoVersion => (State::NoVersion, None),
        };
        Status {
            service: self.kind.profile().name,
            state,
            framework: versions.map(|(framework, _)| framework),
            version: versions.map(|(_, version)| version),
            last_contact_seconds: self.last_contact.map(|at| now.running.saturating_sub(at).as_secs()),
            requests: self.requests,
            unanswered: self.unanswered,
            unexpected: self.unexpected,
            details: self.protocol.details(),
        }
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "hostile_tests.rs"]
mod hostile_tests;
