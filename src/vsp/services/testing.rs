//! A service with a guest that answers as Linux does.

use std::time::Duration;

use zerocopy::{FromBytes, IntoBytes};

use super::protocol::{HostTime, Moment, Outcome, Ticket};
use super::service::{Forced, Service, Status as ServiceStatus};
use super::table::Kind;
use super::wire::{HEADERS, Header, MessageType, Status, Version, split};
use super::{Event, Request, create};

/// A service with an open channel, the clock, and the packet that the guest has to answer.
pub struct Pair {
    pub service: Service,
    pub now: Moment,
    kind: Kind,
    packet: Vec<u8>,
}

/// Versions, the newest first: those of the framework, and those of the service.
type Supported = (&'static [(u16, u16)], &'static [(u16, u16)]);

fn linux_supports(kind: Kind) -> Supported {
    match kind {
        Kind::Shutdown => (&[(3, 0), (1, 0)], &[(3, 2), (3, 1), (3, 0), (1, 0)]),
        Kind::Time | Kind::KeyValue => (&[(3, 0), (1, 0)], &[(4, 0), (3, 0), (1, 0)]),
        Kind::Heartbeat => (&[(3, 0), (1, 0)], &[(3, 0), (1, 0)]),
        Kind::Vss => (&[(3, 0)], &[(5, 0)]),
        Kind::FileCopy => (&[(3, 0)], &[(1, 1)]),
    }
}

/// Turns a negotiation into its reply in place, by `vmbus_prep_negotiate_resp`'s rules.
fn linux_negotiates(packet: &mut [u8], (frameworks, versions): Supported) {
    let word = |packet: &[u8], at: usize| u16::from_le_bytes([packet[at], packet[at + 1]]);
    let counts = (usize::from(word(packet, HEADERS)), usize::from(word(packet, HEADERS + 2)));
    assert!(packet.len() >= HEADERS + 8 + (counts.0 + counts.1) * 4, "Linux refuses a shorter one");
    let offered = |index: usize| (word(packet, HEADERS + 8 + index * 4), word(packet, HEADERS + 10 + index * 4));
    let find = |own: &[(u16, u16)], from: usize, to: usize| {
        own.iter().copied().find(|version| (from..to).any(|index| offered(index) == *version))
    };
    let chosen = find(frameworks, 0, counts.0).zip(find(versions, counts.0, counts.0 + counts.1));
    let (count, list) = chosen.map_or((0_u16, [(0, 0); 2]), |(framework, version)| (1, [framework, version]));
    packet[HEADERS..HEADERS + 4].copy_from_slice([count, count].as_bytes());
    for (index, (major, minor)) in list.into_iter().enumerate() {
        packet[HEADERS + 8 + index * 4..][..4].copy_from_slice([major, minor].as_bytes());
    }
    // icmsgsize; the length of the pipe's message stays that of the request.
    packet[8 + 10..8 + 12].copy_from_slice(&16_u16.to_le_bytes());
}

impl Pair {
    /// Creates a service whose channel the guest has just opened.
    pub fn opened(kind: Kind, forced: Forced) -> Self {
        Self::opened_by(kind, create(kind, forced, &[]))
    }

    /// The same with a service that exists.
    pub fn opened_by(kind: Kind, mut service: Service) -> Self {
        service.opened();
        let now = Moment { running: Duration::from_secs(100), host: HostTime(1 << 56), reference: Some(77) };
        Self { service, now, kind, packet: Vec::new() }
    }

    /// Creates a service that has negotiated its versions with Linux.
    pub fn connected(kind: Kind) -> Self {
        let mut pair = Self::opened(kind, Forced::default());
        pair.negotiate();
        assert!(matches!(pair.service.take_events()[..], [Event::Connected { .. }]));
        pair
    }

    /// Answers the negotiation as Linux does.
    pub fn negotiate(&mut self) {
        let (header, _) = self.sent();
        assert_eq!(header.message_type, MessageType::NEGOTIATE);
        linux_negotiates(&mut self.packet, linux_supports(self.kind));
        self.send_back(Status::SUCCESS);
    }

    /// Takes the next message of the service, which must be there.
    pub fn sent(&mut self) -> (Header, Vec<u8>) {
        self.take().expect("the service has something to send")
    }

    /// Takes the next message of the service.
    pub fn take(&mut self) -> Option<(Header, Vec<u8>)> {
        let packet = self.service.next_packet(&self.now)?;
        let (header, body) = split(&packet).expect("the headers are valid");
        assert_eq!(packet.len(), HEADERS + body.len());
        let taken = (header, body.to_vec());
        // The ring pads packets, and Linux answers with the padded length.
        self.packet = packet;
        self.packet.resize(self.packet.len().next_multiple_of(8), 0);
        Some(taken)
    }

    /// Takes the next message, whose body is a `T`.
    pub fn message<T: FromBytes>(&mut self) -> T {
        let (_, body) = self.sent();
        T::read_from_bytes(&body).unwrap_or_else(|_| panic!("a body has {} bytes", body.len()))
    }

    /// Sends the last message back with this status.
    pub fn send_back(&mut self, status: Status) {
        self.send_back_with(status, |_| ());
    }

    /// Changes the body of the last message, and sends it back.
    pub fn send_back_with(&mut self, status: Status, change: impl FnOnce(&mut [u8])) {
        let reply = self.reply_with(status, change);
        self.service.receive(&self.now, &reply).expect("the reply is valid");
    }

    /// Returns the reply to the last message.
    pub fn reply_with(&self, status: Status, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut reply = self.packet.clone();
        reply[20..24].copy_from_slice(&status.0.to_le_bytes());
        reply[25] = Header::TRANSACTION | Header::RESPONSE;
        change(&mut reply[HEADERS..]);
        reply
    }

    /// Makes a request of the host.
    pub fn request(&mut self, request: Request) -> Ticket {
        self.service.request(&self.now, request).expect("the request is accepted")
    }

    /// Advances the time, and calls the service when something is due.
    pub fn wait(&mut self, time: Duration) {
        self.now.running += time;
        self.service.tick(&self.now);
    }

    /// Returns the outcomes of requests since the last call.
    pub fn outcomes(&mut self) -> Vec<(Ticket, Outcome)> {
        let events = self.service.take_events().into_iter();
        let outcome = |event| if let Event::Finished(ticket, outcome) = event { Some((ticket, outcome)) } else { None };
        events.filter_map(outcome).collect()
    }

    /// Returns the only outcome since the last call.
    pub fn outcome(&mut self) -> Outcome {
        let mut outcomes = self.outcomes();
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        outcomes.remove(0).1
    }

    pub fn status(&self) -> ServiceStatus {
        self.service.status(&self.now)
    }
}

/// Returns the versions that were negotiated.
pub fn versions(pair: &Pair) -> Option<(Version, Version)> {
    pair.status().framework.zip(pair.status().version)
}
