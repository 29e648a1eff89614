//! KVP: exchanges key-value pairs and network configurations with the guest.
//!
//! The guest keeps its items in [pools](Pool). The host adds, replaces and deletes items in its own pools, and reads all. It reads by
//! enumeration even for a single item, because Linux's answer to a request for one item does not contain the value. One message
//! concerns one item, so a request may take many.
//!
//! The pool [`Intrinsic`](Pool::Intrinsic) is read regularly: among other things, it contains the guest's addresses. After the first reading,
//! the host sends what it tells each guest about itself and the machine.
//!
//! Linux negotiates when its daemon has connected, so until then there is no contact, without a time limit.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use super::protocol::{Failure, Moment, Outgoing, Protocol, Reply, Ticket};
use super::wire::{Status, Version};
use super::{Answer, Details, Event, Request};

mod item;
mod wire;

pub use item::{Adapter, Item, Pool, Value};

/// Linux gives its daemon 30 s for each message.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time between two readings of the intrinsic items.
pub const REFRESH: Duration = Duration::from_secs(10);

/// Maximum number of items in a request, and of items of a pool that are read.
pub const MAX_ITEMS: usize = 1024;

/// Maximum number of requests that wait.
const MAX_JOBS: usize = 64;

/// A request of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyValue {
    /// Adds or replaces items.
    Set(Pool, Vec<Item>),
    /// Deletes an item.
    Delete(Pool, String),
    /// Reads an item.
    Get(Pool, String),
    /// Reads all items.
    List(Pool),
    /// Reads the network configuration of the adapter with this MAC address.
    Adapter([u8; 6]),
    /// Configures the adapter with this GUID.
    Configure(crate::wire::guid::Guid, Adapter),
}

/// A request at work.
struct Job {
    origin: Origin,
    work: Work,
}

/// The origin of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The host's user.
    User(Ticket),
    /// The host's user, who has cancelled it while its message was with the guest.
    Cancelled,
    /// The service reads the intrinsic items.
    Refresh,
    /// The service sends the host's items.
    Facts,
}

impl Origin {
    fn ticket(self) -> Option<Ticket> {
        if let Self::User(ticket) = self { Some(ticket) } else { None }
    }
}

enum Work {
    /// Send each; they only report success.
    Send(VecDeque<Vec<u8>>),
    /// Read a pool.
    Read { pool: Pool, items: Vec<Item>, wanted: Option<String> },
    /// Read an adapter.
    Adapter(Vec<u8>),
}

/// The service.
#[derive(Default)]
pub struct KvpService {
    jobs: VecDeque<Job>,
    /// The first job's message is with the guest.
    sent: bool,
    /// Time at which the intrinsic items are read next.
    refresh_at: Duration,
    intrinsic: Vec<Item>,
    /// The items that each guest gets in the pool [`Host`](Pool::Host).
    facts: Vec<Item>,
    /// Time at which the guest is told, `None` once it was.
    facts_at: Option<Duration>,
}

/// The status of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The guest's addresses.
    pub addresses: Vec<String>,
    /// The guest's items about itself.
    pub intrinsic: Vec<Item>,
}

impl KvpService {
    /// Creates a service that sends these items to the pool [`Host`](Pool::Host) of each guest. Those that do not fit into a message are left out.
    pub fn new(facts: &[Item]) -> Self {
        let fits = |item: &&Item| item::set(Pool::Host, item).is_ok();
        Self { facts: facts.iter().filter(fits).cloned().collect(), ..Self::default() }
    }

    fn work(request: KeyValue) -> Result<Work, Failure> {
        let writable = |pool: Pool| {
            let refused = || Failure::Invalid("items of this pool are the guest's: the host cannot change them".into());
            pool.is_hosts().then_some(()).ok_or_else(refused)
        };
        Ok(match request {
            KeyValue::Set(pool, items) => {
                writable(pool)?;
                if items.is_empty() || items.len() > MAX_ITEMS {
                    return Err(Failure::Invalid(format!("a request has 1 to {MAX_ITEMS} items, not {}", items.len())));
                }
                Work::Send(items.iter().map(|item| item::set(pool, item)).collect::<Result<_, _>>()?)
            }
            KeyValue::Delete(pool, key) => {
                writable(pool)?;
                Work::Send([item::delete(pool, &key)?].into())
            }
            KeyValue::Get(pool, key) => Work::Read { pool, items: Vec::new(), wanted: Some(key) },
            KeyValue::List(pool) => Work::Read { pool, items: Vec::new(), wanted: None },
            KeyValue::Adapter(mac) => {
                let mac: Vec<String> = mac.iter().map(|byte| format!("{byte:02X}")).collect();
                Work::Adapter(item::get_adapter(&mac.join(":"))?)
            }
            KeyValue::Configure(guid, adapter) => {
                Work::Send([item::set_adapter(&format!("{{{guid}}}"), &adapter)?].into())
            }
        })
    }

    /// Finishes the first job.
    fn end(&mut self, outcome: Result<Answer, Failure>, now: &Moment, events: &mut Vec<Event>) {
        let Some(Job { origin, .. }) = self.jobs.pop_front() else { return };
        match origin {
            Origin::User(ticket) => events.push(Event::Finished(ticket, outcome)),
            // After a failure, as of a daemon that was just killed, they are sent again.
            Origin::Facts => self.facts_at = outcome.is_err().then_some(now.running + REFRESH),
            Origin::Refresh => {
                self.refresh_at = now.running + REFRESH;
                if let Ok(Answer::Items(items)) = outcome
                    && items != self.intrinsic
                {
                    self.intrinsic = items;
                    events.push(Event::Intrinsic(self.facts().addresses));
                }
            }
            Origin::Cancelled => {}
        }
    }

    fn facts(&self) -> Facts {
        let is_list = |item: &&Item| matches!(&*item.key, "NetworkAddressIPv4" | "NetworkAddressIPv6");
        let lists = self.intrinsic.iter().filter(is_list);
        let addresses = lists.flat_map(|item| item::split_list(&item.value.to_string())).collect();
        Facts { addresses, intrinsic: self.intrinsic.clone() }
    }
}

impl Work {
    /// Returns the next message.
    fn next(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Send(bodies) => bodies.front().cloned(),
            Self::Read { pool, items, .. } => Some(item::enumerate(*pool, items.len() as u32)),
            Self::Adapter(body) => Some(body.clone()),
        }
    }

    /// Processes a reply. Returns the outcome if the work is finished.
    fn reply(&mut self, reply: Reply<'_>) -> Option<Result<Answer, Failure>> {
        if let Self::Read { items, wanted, .. } = self
            && reply.status == Status::NO_MORE_ITEMS
        {
            let missing = Ok(Answer::Value(None));
            return Some(if wanted.is_some() { missing } else { Ok(Answer::Items(std::mem::take(items))) });
        }
        if let Err(failure) = reply.succeeded() {
            return Some(Err(failure));
        }
        match self {
            Self::Send(bodies) => {
                bodies.pop_front();
                bodies.is_empty().then_some(Ok(Answer::Done))
            }
            Self::Adapter(_) => Some(item::got_adapter(reply.body).map(Answer::Adapter)),
            Self::Read { items, wanted, .. } => match item::enumerated(reply.body) {
                Ok(item) if wanted.as_ref() == Some(&item.key) => Some(Ok(Answer::Value(Some(item.value)))),
                Ok(_) if items.len() >= MAX_ITEMS => {
                    Some(Err(Failure::BadReply(format!("the guest lists more than {MAX_ITEMS} items"))))
                }
                Ok(item) => {
                    items.push(item);
                    None
                }
                Err(failure) => Some(Err(failure)),
            },
        }
    }
}

impl Protocol for KvpService {
    fn request(&mut self, _now: &Moment, ticket: Ticket, request: Request) -> Result<(), Failure> {
        let Request::KeyValue(request) = request else { return Err(request.is_misplaced()) };
        if self.jobs.len() >= MAX_JOBS {
            return Err(Failure::Busy);
        }
        self.jobs.push_back(Job { origin: Origin::User(ticket), work: Self::work(request)? });
        Ok(())
    }

    fn cancel(&mut self, ticket: Ticket, events: &mut Vec<Event>) {
        let is_its = |job: &Job| job.origin == Origin::User(ticket);
        let is_first = self.jobs.front().is_some_and(is_its);
        if let Some(at) = self.jobs.iter().position(is_its) {
            // The message that is with the guest is answered nevertheless: the job becomes one without work.
            if is_first && self.sent {
                self.jobs[at].origin = Origin::Cancelled;
                self.jobs[at].work = Work::Send(VecDeque::from([Vec::new()]));
            } else {
                self.jobs.remove(at);
            }
            events.push(Event::Finished(ticket, Err(Failure::Cancelled)));
        }
    }

    fn connected(&mut self, now: &Moment) {
        self.refresh_at = now.running;
        self.facts_at = (!self.facts.is_empty()).then_some(now.running);
    }

    fn disconnected(&mut self, events: &mut Vec<Event>) {
        self.sent = false;
        let tickets = self.jobs.drain(..).filter_map(|job| job.origin.ticket());
        events.extend(tickets.map(|ticket| Event::Finished(ticket, Err(Failure::Closed))));
    }

    fn reset(&mut self) {
        self.intrinsic.clear();
    }

    fn next(&mut self, now: &Moment, _version: Version) -> Option<Outgoing> {
        if self.jobs.is_empty() && self.refresh_at <= now.running {
            let work = Work::Read { pool: Pool::Intrinsic, items: Vec::new(), wanted: None };
            self.jobs.push_back(Job { origin: Origin::Refresh, work });
        }
        if self.jobs.is_empty() && self.facts_at.is_some_and(|at| at <= now.running) {
            let bodies = self.facts.iter().filter_map(|item| item::set(Pool::Host, item).ok());
            self.jobs.push_back(Job { origin: Origin::Facts, work: Work::Send(bodies.collect()) });
        }
        let body = self.jobs.front_mut()?.work.next()?;
        self.sent = true;
        Some(Outgoing { body, patience: Some(PATIENCE) })
    }

    fn reply(&mut self, now: &Moment, reply: Result<Reply<'_>, Failure>, events: &mut Vec<Event>) {
        self.sent = false;
        let Some(job) = self.jobs.front_mut() else { return };
        let outcome = match reply {
            Ok(reply) => job.work.reply(reply),
            Err(failure) => Some(Err(failure)),
        };
        if let Some(outcome) = outcome {
            self.end(outcome, now, events);
        }
    }

    fn next_send(&self) -> Option<Duration> {
        let own = self.facts_at.map_or(self.refresh_at, |at| at.min(self.refresh_at));
        Some(if self.jobs.is_empty() { own } else { Duration::ZERO })
    }

    fn details(&self) -> Details {
        Details::KeyValue(self.facts())
    }
}

#[cfg(test)]
#[path = "kvp_tests.rs"]
mod tests;
