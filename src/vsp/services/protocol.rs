//! The trait that each service implements, and the values that it exchanges with its host.

use std::time::Duration;

use super::text::BadText;
use super::wire::{Status, Version};
use super::{Answer, Details, Event, Request};

/// The time at which something happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The time for which the machine has run, without its pauses.
    pub running: Duration,
    /// The host's clock, in UTC.
    pub host: HostTime,
    /// The guest's reference time, in units of 100 ns. `None` if the host cannot read it.
    pub reference: Option<u64>,
}

/// A time in units of 100 ns since the start of 1601, in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostTime(pub u64);

impl HostTime {
    /// The start of 1970.
    pub const UNIX_EPOCH: Self = Self(116_444_736_000_000_000);

    /// Returns the time that is `since` after the start of 1970.
    pub fn from_unix(since: Duration) -> Self {
        let units = u64::try_from(since.as_nanos() / 100).unwrap_or(u64::MAX);
        Self(Self::UNIX_EPOCH.0.saturating_add(units))
    }
}

/// Identifies a request of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The reason why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The guest's driver has not opened the channel, or has not negotiated yet.
    #[error("the guest does not use the service {0}: it has no driver for it, or has not loaded it yet")]
    NoContact(&'static str),
    /// The guest supports none of the offered versions.
    #[error("the guest supports no version of the service {0} that is offered")]
    NoVersion(&'static str),
    /// The guest reported an error.
    #[error("{0}")]
    Guest(Status),
    /// The guest has not answered.
    #[error("the guest has not answered within {} seconds", .0.as_secs())]
    NoAnswer(Duration),
    /// The guest closed the channel, or restarted.
    #[error("the guest closed the channel of the service before the request was finished")]
    Closed,
    /// The guest's reply makes no sense.
    #[error("the guest's reply is invalid: {0}")]
    BadReply(String),
    /// The service is at work.
    #[error("the service is busy with another request")]
    Busy,
    /// The request is invalid.
    #[error("{0}")]
    Invalid(String),
    /// The host cancelled the request.
    #[error("the request was cancelled")]
    Cancelled,
    /// The source of the data to send cannot be read.
    #[error("the source cannot be read: {0}")]
    Source(String),
}

impl From<BadText> for Failure {
    fn from(error: BadText) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// The result of a request.
pub type Outcome = Result<Answer, Failure>;

/// A request to the guest, without its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The body.
    pub body: Vec<u8>,
    /// Time limit for the reply, or `None` to wait as long as the channel is open.
    pub patience: Option<Duration>,
}

/// The guest's reply to a request.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// The result.
    pub status: Status,
    /// The body. Its length is the guest's choice.
    pub body: &'a [u8],
}

impl Reply<'_> {
    /// Returns an error unless the guest reports success.
    pub fn succeeded(&self) -> Result<(), Failure> {
        if self.status == Status::SUCCESS { Ok(()) } else { Err(Failure::Guest(self.status)) }
    }
}

/// The protocol of one service: decides what to ask, and interprets the replies.
///
/// [`Service`](super::service::Service) calls it. At most one request is with the guest: [`next`](Self::next) is called only when
/// the versions are negotiated and no reply is awaited.
pub trait Protocol: Send {
    /// Accepts a request of the host, or refuses it. An accepted one is finished with an [`Event::Finished`].
    ///
    /// # Errors
    /// Returns the reason why it is refused.
    fn request(&mut self, now: &Moment, ticket: Ticket, request: Request) -> Result<(), Failure>;

    /// Cancels a request. It is finished with an event, perhaps only after further messages.
    fn cancel(&mut self, _ticket: Ticket, _events: &mut Vec<Event>) {}

    /// The channel is ready for requests.
    fn connected(&mut self, now: &Moment);

    /// The channel is no longer usable: the guest has closed it, or the versions are negotiated again.
    fn disconnected(&mut self, events: &mut Vec<Event>);

    /// The guest is another one from now on, as after a reset of the machine. Called after
    /// [`disconnected`](Self::disconnected).
    fn reset(&mut self) {}

    /// The machine continues after a pause.
    fn resumed(&mut self, _now: &Moment) {}

    /// Returns the next message, if there is one to be sent now.
    fn next(&mut self, now: &Moment, version: Version) -> Option<Outgoing>;

    /// Processes the reply to the last message, or [`Failure::NoAnswer`].
    fn reply(&mut self, now: &Moment, reply: Result<Reply<'_>, Failure>, events: &mut Vec<Event>);

    /// Does what is due. Called at least when [`deadline`](Self::deadline) has passed.
    fn tick(&mut self, _now: &Moment, _events: &mut Vec<Event>) {}

    /// Returns when [`tick`](Self::tick) has something to do next, in the time that the machine has run.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    /// Returns when [`next`](Self::next) has something to send next, in the time that the machine has run.
    fn next_send(&self) -> Option<Duration>;

    /// Returns the state of the service.
    fn details(&self) -> Details;
}
