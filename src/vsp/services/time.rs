//! Time synchronization: gives the guest the host's clock.
//!
//! There are two kinds of messages. A SYNC sets the guest's clock at once: it is sent when the channel is ready, after a pause and
//! after a restore, and on request of the host. A SAMPLE only tells the time: Linux makes it available as `/dev/ptp_hyperv`,
//! where chrony finds it, and does not change its clock. Samples are sent every [`PERIOD`].
//!
//! From version 4.0, a message contains the guest's reference time at which the host's clock was read. So it does not matter how
//! long the message was on its way.

use std::time::Duration;

use serde::Serialize;
use zerocopy::{IntoBytes, little_endian};

use super::protocol::{Failure, Moment, Outgoing, Protocol, Reply, Ticket};
use super::wire::Version;
use super::{Answer, Details, Event, Request};
use crate::wire::wire;

/// The time between two messages. Linux does not use a sample that is older than 600 s.
pub const PERIOD: Duration = Duration::from_secs(5);

/// The first version with a reference time.
pub const WITH_REFERENCE: Version = Version::new(4, 0);

/// A guest that has not answered for this time gets another message, so that a lost one does not end the service.
const PATIENCE: Duration = Duration::from_secs(60);

wire! { 25,
/// A message up to version 3.0.
pub struct Sample {
    /// The host's clock.
    pub host_time: little_endian::U64,
    /// 0. The guest could return its own clock; Linux does not.
    pub guest_time: little_endian::U64,
    /// 0.
    pub round_trip_time: little_endian::U64,
    /// See [`flags`].
    pub flags: u8,
}}

wire! { 24,
/// A message from version 4.0.
pub struct ReferenceSample {
    /// The host's clock.
    pub host_time: u64,
    /// The guest's reference time when the clock was read.
    pub reference_time: u64,
    /// See [`flags`].
    pub flags: u8,
    /// The leap indicator of NTP: 0 for none.
    pub leap: u8,
    /// The stratum of NTP: 0 for unspecified.
    pub stratum: u8,
    /// 0.
    pub reserved: [u8; 5],
}}

/// The reaction of the guest to a message.
pub mod flags {
    /// It sets its clock.
    pub const SYNC: u8 = 1;
    /// It may use the time.
    pub const SAMPLE: u8 = 2;
}

/// The service.
#[derive(Default)]
pub struct TimeService {
    /// Time of the next message.
    due: Duration,
    /// The next message is a SYNC.
    sync: bool,
    /// The message that the guest has not answered is a SYNC.
    sent_sync: bool,
    /// Requests for a SYNC. They wait for one that is sent after them.
    waiting: Vec<Ticket>,
    /// Requests whose SYNC is sent.
    sent: Vec<Ticket>,
    facts: Facts,
}

/// The status of the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Number of SYNC messages that the guest has answered.
    pub syncs: u64,
    /// Number of SAMPLE messages that the guest has answered.
    pub samples: u64,
}

/// Maximum number of requests that wait for a SYNC.
const MAX_WAITING: usize = 64;

impl TimeService {
    fn want_sync(&mut self, now: &Moment) {
        self.sync = true;
        self.due = now.running;
    }
}

impl Protocol for TimeService {
    fn request(&mut self, now: &Moment, ticket: Ticket, request: Request) -> Result<(), Failure> {
        let Request::SyncTime = request else { return Err(request.is_misplaced()) };
        if self.waiting.len() >= MAX_WAITING {
            return Err(Failure::Busy);
        }
        self.waiting.push(ticket);
        self.want_sync(now);
        Ok(())
    }

    fn connected(&mut self, now: &Moment) {
        self.want_sync(now);
    }

    fn disconnected(&mut self, events: &mut Vec<Event>) {
        let tickets = self.sent.drain(..).chain(self.waiting.drain(..));
        events.extend(tickets.map(|ticket| Event::Finished(ticket, Err(Failure::Closed))));
    }

    fn reset(&mut self) {
        self.facts = Facts::default();
    }

    fn resumed(&mut self, now: &Moment) {
        self.want_sync(now);
    }

    fn next(&mut self, now: &Moment, version: Version) -> Option<Outgoing> {
        if now.running < self.due {
            return None;
        }
        self.sent_sync = std::mem::take(&mut self.sync);
        self.sent.append(&mut self.waiting);
        self.due = now.running + PERIOD;
        let flags = if self.sent_sync { flags::SYNC } else { flags::SAMPLE };
        let body = if version >= WITH_REFERENCE {
            // A host that cannot read the reference time does not offer this version.
            let reference_time = now.reference.unwrap_or_default();
            let host_time = now.host.0;
            let sample = ReferenceSample { host_time, reference_time, flags, leap: 0, stratum: 0, reserved: [0; 5] };
            sample.as_bytes().to_vec()
        } else {
            let zero = little_endian::U64::ZERO;
            let host_time = little_endian::U64::new(now.host.0);
            Sample { host_time, guest_time: zero, round_trip_time: zero, flags }.as_bytes().to_vec()
        };
        Some(Outgoing { body, patience: Some(PATIENCE) })
    }

    fn reply(&mut self, now: &Moment, reply: Result<Reply<'_>, Failure>, events: &mut Vec<Event>) {
        let result = reply.and_then(|reply| reply.succeeded());
        match (&result, self.sent_sync) {
            (Ok(()), true) => self.facts.syncs += 1,
            (Ok(()), false) => self.facts.samples += 1,
            // After such a long silence, a sample is not enough.
            (Err(_), _) => self.want_sync(&Moment { running: now.running + PERIOD, ..*now }),
        }
        let finished = |ticket| Event::Finished(ticket, result.clone().map(|()| Answer::Done));
        events.extend(self.sent.drain(..).map(finished));
    }

    fn next_send(&self) -> Option<Duration> {
        Some(self.due)
    }

    fn details(&self) -> Details {
        Details::Time(self.facts)
    }
}

#[cfg(test)]
#[path = "time_tests.rs"]
mod tests;
