//! Heartbeat: finds out whether the guest is alive.
//!
//! A message is sent every two seconds, and the guest returns its sequence number plus one. No second message is sent while one is
//! unanswered, so a guest that hangs has one in its ring, and answers it when it goes on.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use zerocopy::{FromBytes, IntoBytes};

use super::protocol::{Failure, Moment, Outgoing, Protocol, Reply, Ticket};
use super::wire::Version;
use super::{Details, Event, Request};
use crate::wire::{open_enum, wire};

/// The time between two messages.
pub const PERIOD: Duration = Duration::from_secs(2);

/// The contact is lost if a message is not answered in this time.
pub const LOST_AFTER: Duration = Duration::from_secs(10);

wire! { 40,
/// The message, in both directions.
pub struct Message {
    /// The guest returns it incremented.
    pub sequence: u64,
    /// The state of the guest's applications. Linux leaves it 0.
    pub applications: Applications,
    /// 0.
    pub reserved: [u32; 7],
}}

open_enum! {
/// The state of the guest's applications, as the guest reports it.
Applications: u32, "state {}";
    UNKNOWN = 0, "Unknown";
    HEALTHY = 1, "Healthy";
    CRITICAL = 2, "Critical";
    STOPPED = 3, "Stopped";
}

/// The health of the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// The guest does not use the service.
    #[default]
    NoContact,
    /// The guest answers.
    Ok(Applications),
    /// The guest does not answer any more.
    LostContact,
}

impl Health {
    /// Returns the state in Hyper-V's words for people.
    pub fn words(&self) -> String {
        match self {
            Self::NoContact => "No Contact".into(),
            Self::Ok(applications) => {
                format!("OK, applications {}", applications.name().unwrap_or("Unknown").to_lowercase())
            }
            Self::LostContact => "Lost Communication".into(),
        }
    }
}

impl fmt::Display for Health {
    /// Formats the state in Hyper-V's words for programs.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoContact => formatter.write_str("NoContact"),
            Self::Ok(applications) => match applications.name() {
                Some(name) => write!(formatter, "OkApplications{name}"),
                None => formatter.write_str("OkApplicationsUnknown"),
            },
            Self::LostContact => formatter.write_str("LostCommunication"),
        }
    }
}

impl Serialize for Health {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The service.
#[derive(Default)]
pub struct HeartbeatService {
    sequence: u64,
    /// Time of the next message.
    due: Duration,
    /// Time at which the contact is lost, unless an answer comes.
    lost_at: Option<Duration>,
    health: Health,
    beats: u64,
}

/// The status of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The health of the guest.
    pub health: Health,
    /// Number of messages that the guest has answered.
    pub beats: u64,
}

impl HeartbeatService {
    fn becomes(&mut self, health: Health, events: &mut Vec<Event>) {
        if std::mem::replace(&mut self.health, health) != health {
            events.push(Event::Health(health));
        }
    }
}

impl Protocol for HeartbeatService {
    fn request(&mut self, _now: &Moment, _ticket: Ticket, request: Request) -> Result<(), Failure> {
        Err(request.is_misplaced())
    }

    fn connected(&mut self, now: &Moment) {
        self.due = now.running;
    }

    fn disconnected(&mut self, events: &mut Vec<Event>) {
        self.lost_at = None;
        self.becomes(Health::NoContact, events);
    }

    fn reset(&mut self) {
        self.beats = 0;
    }

    fn next(&mut self, now: &Moment, _version: Version) -> Option<Outgoing> {
        if now.running < self.due {
            return None;
        }
        self.due = now.running + PERIOD;
        // Wrong answers do not extend it.
        self.lost_at.get_or_insert(now.running + LOST_AFTER);
        self.sequence = self.sequence.wrapping_add(1);
        let message = Message { sequence: self.sequence, applications: Applications::UNKNOWN, reserved: [0; 7] };
        Some(Outgoing { body: message.as_bytes().to_vec(), patience: None })
    }

    fn reply(&mut self, now: &Moment, reply: Result<Reply<'_>, Failure>, events: &mut Vec<Event>) {
        let message = reply.ok().filter(|reply| reply.succeeded().is_ok());
        let message = message.and_then(|reply| Message::read_from_prefix(reply.body).ok());
        match message {
            Some((message, _)) if message.sequence == self.sequence.wrapping_add(1) => {
                self.lost_at = None;
                self.beats += 1;
                self.becomes(Health::Ok(message.applications), events);
            }
            // This is not an answer. The contact is lost unless one arrives. A due time in the past would cause a busy loop.
            _ => self.due = self.due.max(now.running + PERIOD),
        }
    }

    fn tick(&mut self, now: &Moment, events: &mut Vec<Event>) {
        if self.lost_at.take_if(|at| *at <= now.running).is_some() {
            self.becomes(Health::LostContact, events);
        }
    }

    fn deadline(&self) -> Option<Duration> {
        self.lost_at
    }

    fn next_send(&self) -> Option<Duration> {
        Some(self.due)
    }

    fn details(&self) -> Details {
        Details::Heartbeat(Facts { health: self.health, beats: self.beats })
    }
}

#[cfg(test)]
#[path = "heartbeat_tests.rs"]
mod tests;
