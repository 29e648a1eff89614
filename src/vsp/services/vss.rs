//! VSS: freezes the guest's file systems, so that a copy of its disks is consistent.
//!
//! A freeze has three messages: HOT_BACKUP asks whether the guest supports it, FREEZE freezes, THAW ends it. A guest that stays
//! frozen is unusable, so every FREEZE that was sent is followed by a THAW: when the host asks for it, when the time limit of the
//! freeze has passed, when FREEZE failed or was not answered, and when the channel is opened again. A THAW that fails or is not
//! answered is repeated until the guest has confirmed one.
//!
//! Linux freezes what is mounted from a block device for writing, except vfat and loop devices.

use std::time::Duration;

use serde::Serialize;
use zerocopy::{FromBytes, IntoBytes};

use super::protocol::{Failure, Moment, Outgoing, Protocol, Reply, Ticket};
use super::wire::Version;
use super::{Answer, Details, Event, Request};
use crate::wire::{open_enum, wire};

/// Time limit for HOT_BACKUP and THAW. Linux gives its daemon 30 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time that Linux gives its daemon for FREEZE.
pub const FREEZE_PATIENCE: Duration = Duration::from_secs(15 * 60 + 30);

/// The time after which a THAW is repeated.
const THAW_AGAIN: Duration = Duration::from_secs(5);

wire! { 12,
/// The message. Linux does not answer a shorter one.
pub struct Message {
    /// The operation.
    pub operation: Operation,
    /// 0.
    pub reserved: [u8; 7],
    /// In the reply to HOT_BACKUP: what the guest supports. Linux has 5: it needs no recovery of the copy.
    pub flags: u32,
}}

open_enum! {
/// An operation in the guest.
Operation: u8, "operation {}";
    /// It says whether it supports freezing.
    HOT_BACKUP = 2, "HOT_BACKUP";
    /// It freezes its file systems.
    FREEZE = 5, "FREEZE";
    /// It thaws them.
    THAW = 6, "THAW";
}

/// A freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// Time limit for the freeze.
    pub patience: Duration,
    /// Maximum time for which the file systems stay frozen.
    pub limit: Duration,
}

/// The state of the guest's file systems, as far as the host knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileSystems {
    /// They are in use.
    Thawed,
    /// The guest is freezing them.
    Freezing,
    /// They are frozen.
    Frozen,
    /// The guest is thawing them, or does not answer.
    Thawing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// HOT_BACKUP is to be sent.
    Check,
    /// HOT_BACKUP is sent.
    Checking,
    /// FREEZE is to be sent.
    Freeze,
    /// FREEZE is sent.
    Freezing,
    /// FREEZE has succeeded.
    Frozen {
        until: Duration,
    },
    /// THAW is to be sent at this time.
    Thaw {
        at: Duration,
    },
    /// THAW is sent.
    Thawing,
}

/// The service.
pub struct VssService {
    phase: Phase,
    /// The freeze that is not finished.
    freeze: Option<(Ticket, Freeze)>,
    /// Requests for a thaw.
    thaws: Vec<Ticket>,
    /// Flags that the guest returned.
    flags: Option<u32>,
    freezes: u64,
}

/// The status of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// The state of the guest's file systems.
    pub file_systems: FileSystems,
    /// Number of freezes that succeeded.
    pub freezes: u64,
    /// The features that the guest supports, as it reports them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<u32>,
}

/// Maximum number of requests that wait for a thaw.
const MAX_WAITING: usize = 64;

impl Default for VssService {
    fn default() -> Self {
        Self { phase: Phase::Idle, freeze: None, thaws: Vec::new(), flags: None, freezes: 0 }
    }
}

impl VssService {
    /// Finishes the freeze that the host waits for.
    fn freeze_ends(&mut self, outcome: Result<Answer, Failure>, events: &mut Vec<Event>) {
        if let Some((ticket, _)) = self.freeze.take() {
            events.push(Event::Finished(ticket, outcome));
        }
    }

    fn thaws_end(&mut self, outcome: &Result<Answer, Failure>, events: &mut Vec<Event>) {
        events.extend(self.thaws.drain(..).map(|ticket| Event::Finished(ticket, outcome.clone())));
    }

    /// The guest has answered HOT_BACKUP.
    fn checked(&mut self, result: Result<Reply<'_>, Failure>, events: &mut Vec<Event>) {
        let short = || Failure::BadReply("the answer to HOT_BACKUP is too short".into());
        let result = result.and_then(|reply| {
            reply.succeeded()?;
            Message::read_from_prefix(reply.body).map(|(message, _)| message.flags).map_err(|_| short())
        });
        // A cancelled freeze is finished already.
        self.phase = if self.freeze.is_some() && result.is_ok() { Phase::Freeze } else { Phase::Idle };
        match result {
            Ok(flags) => self.flags = Some(flags),
            Err(failure) => self.freeze_ends(Err(failure), events),
        }
    }

    /// The guest has answered FREEZE, or not.
    fn frozen(&mut self, now: &Moment, result: Result<(), Failure>, events: &mut Vec<Event>) {
        self.phase = match (&result, &self.freeze) {
            (Ok(()), Some((_, freeze))) => Phase::Frozen { until: now.running.saturating_add(freeze.limit) },
            // The freeze has failed, perhaps halfway, or its requester no longer waits.
            _ => Phase::Thaw { at: now.running },
        };
        self.freezes += u64::from(result.is_ok());
        self.freeze_ends(result.map(|()| Answer::Frozen), events);
    }
}

impl Protocol for VssService {
    fn request(&mut self, now: &Moment, ticket: Ticket, request: Request) -> Result<(), Failure> {
        match (request, self.phase) {
            (Request::Freeze(freeze), Phase::Idle) => {
                self.freeze = Some((ticket, freeze));
                self.phase = Phase::Check;
                Ok(())
            }
            (Request::Freeze(_), _) => Err(Failure::Busy),
            (Request::Thaw, Phase::Frozen { .. }) => {
                self.thaws.push(ticket);
                self.phase = Phase::Thaw { at: now.running };
                Ok(())
            }
            (Request::Thaw, Phase::Thaw { .. } | Phase::Thawing) if self.thaws.len() < MAX_WAITING => {
                self.thaws.push(ticket);
                Ok(())
            }
            (Request::Thaw, Phase::Idle) => Err(Failure::Invalid("the guest's file systems are not frozen".into())),
            (Request::Thaw, _) => Err(Failure::Busy),
            (request, _) => Err(request.is_misplaced()),
        }
    }

    fn cancel(&mut self, ticket: Ticket, events: &mut Vec<Event>) {
        if self.freeze.is_some_and(|(freeze, _)| freeze == ticket) {
            self.freeze_ends(Err(Failure::Cancelled), events);
            if matches!(self.phase, Phase::Check | Phase::Freeze) {
                self.phase = Phase::Idle;
            }
        }
    }

    fn connected(&mut self, now: &Moment) {
        if self.phase != Phase::Idle {
            self.phase = Phase::Thaw { at: now.running };
        }
    }

    fn disconnected(&mut self, events: &mut Vec<Event>) {
        self.freeze_ends(Err(Failure::Closed), events);
        self.thaws_end(&Err(Failure::Closed), events);
        self.phase = match self.phase {
            Phase::Idle | Phase::Check | Phase::Checking | Phase::Freeze => Phase::Idle,
            // The guest may be frozen: it is thawed when the channel is open again.
            Phase::Freezing | Phase::Frozen { .. } | Phase::Thaw { .. } | Phase::Thawing => Phase::Thawing,
        };
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn next(&mut self, now: &Moment, _version: Version) -> Option<Outgoing> {
        let (operation, phase, patience) = match self.phase {
            Phase::Check => (Operation::HOT_BACKUP, Phase::Checking, PATIENCE),
            Phase::Freeze => {
                let patience = self.freeze.map_or(FREEZE_PATIENCE, |(_, freeze)| freeze.patience);
                (Operation::FREEZE, Phase::Freezing, patience)
            }
            Phase::Thaw { at } if at <= now.running => (Operation::THAW, Phase::Thawing, PATIENCE),
            _ => return None,
        };
        self.phase = phase;
        let message = Message { operation, reserved: [0; 7], flags: 0 };
        Some(Outgoing { body: message.as_bytes().to_vec(), patience: Some(patience) })
    }

    fn reply(&mut self, now: &Moment, reply: Result<Reply<'_>, Failure>, events: &mut Vec<Event>) {
        match self.phase {
            Phase::Checking => self.checked(reply, events),
            Phase::Freezing => self.frozen(now, reply.and_then(|reply| reply.succeeded()), events),
            Phase::Thawing => {
                let outcome = reply.and_then(|reply| reply.succeeded()).map(|()| Answer::Done);
                let again = Phase::Thaw { at: now.running + THAW_AGAIN };
                self.phase = if outcome.is_ok() { Phase::Idle } else { again };
                self.thaws_end(&outcome, events);
                events.push(if outcome.is_ok() { Event::Thawed } else { Event::StaysFrozen });
            }
            // No message is sent in the other phases.
            Phase::Idle | Phase::Check | Phase::Freeze | Phase::Frozen { .. } | Phase::Thaw { .. } => {}
        }
    }

    fn tick(&mut self, now: &Moment, events: &mut Vec<Event>) {
        if let Phase::Frozen { until } = self.phase
            && until <= now.running
        {
            self.phase = Phase::Thaw { at: now.running };
            events.push(Event::FreezeExpired);
        }
    }

    fn deadline(&self) -> Option<Duration> {
        if let Phase::Frozen { until } = self.phase { Some(until) } else { None }
    }

    fn next_send(&self) -> Option<Duration> {
        match self.phase {
            Phase::Check | Phase::Freeze => Some(Duration::ZERO),
            Phase::Thaw { at } => Some(at),
            Phase::Idle | Phase::Checking | Phase::Freezing | Phase::Frozen { .. } | Phase::Thawing => None,
        }
    }

    fn details(&self) -> Details {
        let file_systems = match self.phase {
            Phase::Idle | Phase::Check | Phase::Checking | Phase::Freeze => FileSystems::Thawed,
            Phase::Freezing => FileSystems::Freezing,
            Phase::Frozen { .. } => FileSystems::Frozen,
            Phase::Thaw { .. } | Phase::Thawing => FileSystems::Thawing,
        };
        Details::Vss(Facts { file_systems, freezes: self.freezes, flags: self.flags })
    }
}

#[cfg(test)]
#[path = "vss_tests.rs"]
mod tests;
