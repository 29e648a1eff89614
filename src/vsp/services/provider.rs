//! A service as a VMBus device: connects a [`Service`] to the rings of its channel, to the clock and to the host.
//!
//! The service lives on the thread of its channel while the channel is open. Between two openings it waits in [`Shared`], so what
//! it owes the guest, such as a thaw, is not forgotten.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use super::kvp::Item;
use super::protocol::{Failure, HostTime, Moment, Outcome, Ticket};
use super::service::{Forced, Service, Status};
use super::table::Kind;
use super::wire::MAX_PACKET;
use super::{Event, Request, create};
use crate::host::lock::Mutex;
use crate::vmbus::vsp::{Channel, Handler, Offer, Port, Requested, Requests, ServiceError, Unsent, Vsp};
use crate::vsp::pipe::exchange::{Exchange, Peer};

/// Maximum number of requests that wait for the handler.
const MAX_WAITING: usize = 256;

/// A request of the host to a handler.
enum Ask {
    Start { number: u64, request: Request, answer: mpsc::Sender<Outcome> },
    Cancel { number: u64 },
}

/// A service, for the host. Clones refer to the same service.
#[derive(Clone)]
pub struct ServiceHandle(Arc<Shared>);

struct Shared {
    kind: Kind,
    requests: Requests<Ask>,
    next_number: AtomicU64,
    seen: Mutex<Seen>,
    /// The service, while no handler has it.
    home: Mutex<Option<Service>>,
    events: EventSink,
}

/// Takes the events of services, on the threads of their channels.
pub type EventSink = Arc<dyn Fn(Kind, &Event) + Send + Sync>;

/// The last known status of the service.
struct Seen {
    status: Status,
    /// The time of the status, in the time that the machine has run.
    at: Duration,
    /// The clock of the open channel, and the time at which the channel was opened.
    clock: Option<(Arc<dyn Port>, Duration)>,
}

impl Seen {
    /// Returns the time that the machine has run, as far as the channel knows.
    fn now(&self) -> Duration {
        self.clock.as_ref().map_or(self.at, |(port, opened)| *opened + port.time())
    }
}

impl ServiceHandle {
    /// Returns which service it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns the state of the service. It does not wait.
    pub fn status(&self) -> Status {
        let seen = self.0.seen.lock();
        let since = seen.now().saturating_sub(seen.at).as_secs();
        let last_contact_seconds = seen.status.last_contact_seconds.map(|seconds| seconds + since);
        Status { last_contact_seconds, ..seen.status.clone() }
    }

    /// Makes a request. It is cancelled when the result is dropped.
    ///
    /// # Errors
    /// Returns an error if the guest does not use the service, or too many requests wait.
    pub fn ask(&self, request: Request) -> Result<Asked, Failure> {
        let number = self.0.next_number.fetch_add(1, Ordering::Relaxed);
        let (answer, outcome) = mpsc::channel();
        match self.0.requests.send(Ask::Start { number, request, answer }) {
            Ok(()) => Ok(Asked { service: self.clone(), number, outcome }),
            Err(Unsent::NotOpen(_)) => Err(Failure::NoContact(self.0.kind.profile().name)),
            Err(Unsent::Full(_)) => Err(Failure::Busy),
        }
    }
}

impl fmt::Debug for ServiceHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("ServiceHandle").field(&self.0.kind).finish()
    }
}

/// A request that was made.
pub struct Asked {
    service: ServiceHandle,
    number: u64,
    outcome: mpsc::Receiver<Outcome>,
}

impl Asked {
    /// Waits for the outcome. Returns `None` if there is none within `time`.
    pub fn wait(&self, time: Duration) -> Option<Outcome> {
        match self.outcome.recv_timeout(time) {
            Ok(outcome) => Some(outcome),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            // The handler is gone, and did not take the request.
            Err(mpsc::RecvTimeoutError::Disconnected) => Some(Err(Failure::Closed)),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        // A request that is finished is not known any more, and a handler that is gone has nothing to cancel.
        let _ = self.service.0.requests.send(Ask::Cancel { number: self.number });
    }
}

/// The device.
pub struct ServiceVsp(ServiceHandle);

impl ServiceVsp {
    /// Creates the device, whose events go to `events`. KVP tells the guest the items `facts`.
    pub fn new(kind: Kind, forced: Forced, facts: &[Item], events: EventSink) -> Self {
        let service = create(kind, forced, facts);
        let status = service.status(&Moment::default());
        Self(ServiceHandle(Arc::new(Shared {
            kind,
            requests: Requests::new(MAX_WAITING),
            next_number: AtomicU64::new(0),
            seen: Mutex::new(Seen { status, at: Duration::ZERO, clock: None }),
            home: Mutex::new(Some(service)),
            events,
        })))
    }

    /// Returns the service, for the host.
    pub fn handle(&self) -> ServiceHandle {
        self.0.clone()
    }
}

impl Vsp for ServiceVsp {
    fn offer(&self) -> Offer {
        self.0.0.kind.offer()
    }

    fn open(&mut self, channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        let shared = self.0.0.clone();
        let service = shared.home.lock().take();
        let mut service = service.ok_or_else(|| ServiceError::Host("the service is in use".into()))?;
        service.opened();
        let mut seen = shared.seen.lock();
        seen.at = seen.now();
        let opened = seen.at;
        seen.clock = Some((channel.port().clone(), opened));
        drop(seen);
        let requested = shared.requests.connect(channel.port());
        Ok(Box::new(ServiceHandler {
            shared,
            service: Some(service),
            port: channel.port().clone(),
            opened,
            requested,
            asked: BTreeMap::new(),
            tickets: BTreeMap::new(),
            resumed: false,
            exchange: Exchange::default(),
        }))
    }
}

/// Serves the open channel.
struct ServiceHandler {
    shared: Arc<Shared>,
    /// `Some` until the handler is dropped.
    service: Option<Service>,
    port: Arc<dyn Port>,
    /// The time at which the channel was opened, in the time that the machine has run.
    opened: Duration,
    requested: Requested<Ask>,
    /// Requests that are not finished, with their numbers and who waits for them.
    asked: BTreeMap<Ticket, (u64, mpsc::Sender<Outcome>)>,
    tickets: BTreeMap<u64, Ticket>,
    resumed: bool,
    exchange: Exchange,
}

/// The service while packets are exchanged.
struct Turn<'a> {
    handler: &'a ServiceHandler,
    service: &'a mut Service,
}

impl Peer for Turn<'_> {
    const MAX_PACKET: usize = MAX_PACKET;

    fn name(&self) -> &'static str {
        "a service"
    }

    fn receive(&mut self, payload: &[u8]) -> Result<(), ServiceError> {
        let received = self.service.receive(&self.handler.now(), payload);
        received.map_err(|error| ServiceError::Protocol(error.to_string()))
    }

    fn tick(&mut self, _is_read: bool) {
        self.service.tick(&self.handler.now());
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        self.service.next_packet(&self.handler.now())
    }
}

impl Handler for ServiceHandler {
    fn service(&mut self, channel: &mut Channel) -> Result<(), ServiceError> {
        let Some(mut service) = self.service.take() else { return Ok(()) };
        let result = self.serve(&mut service, channel);
        self.settle(&mut service);
        self.service = Some(service);
        result
    }

    fn resume(&mut self) {
        self.resumed = true;
    }
}

impl ServiceHandler {
    fn now(&self) -> Moment {
        let running = self.opened + self.port.time();
        // Read side by side, the two are of the same time.
        let reference = if self.shared.kind == Kind::Time { self.port.reference_time() } else { None };
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Moment { running, host: HostTime::from_unix(since), reference }
    }

    fn serve(&mut self, service: &mut Service, channel: &mut Channel) -> Result<(), ServiceError> {
        if std::mem::take(&mut self.resumed) {
            service.resumed(&self.now());
        }
        self.take_requests(service);
        let mut exchange = std::mem::take(&mut self.exchange);
        let ended = exchange.run(channel, &mut Turn { handler: self, service });
        self.exchange = exchange;
        let ended = ended?;
        let now = self.now().running;
        let deadline = service.deadline(ended.has_room).map(|deadline| deadline.saturating_sub(now));
        self.port.wake_after([deadline, ended.poll].into_iter().flatten().min());
        Ok(())
    }

    fn take_requests(&mut self, service: &mut Service) {
        while let Some(ask) = self.requested.take() {
            match ask {
                Ask::Start { number, request, answer } => match service.request(&self.now(), request) {
                    Ok(ticket) => {
                        self.asked.insert(ticket, (number, answer));
                        self.tickets.insert(number, ticket);
                    }
                    // The requester may no longer wait.
                    Err(failure) => _ = answer.send(Err(failure)),
                },
                Ask::Cancel { number } => {
                    if let Some(ticket) = self.tickets.get(&number) {
                        service.cancel(*ticket);
                    }
                }
            }
        }
    }

    /// Passes on what has happened, and shows the status.
    fn settle(&mut self, service: &mut Service) {
        let now = self.now();
        let status = service.status(&now);
        let mut seen = self.shared.seen.lock();
        (seen.status, seen.at) = (status, now.running);
        drop(seen);
        for event in service.take_events() {
            match event {
                Event::Finished(ticket, outcome) => {
                    if let Some((number, answer)) = self.asked.remove(&ticket) {
                        self.tickets.remove(&number);
                        // The requester may no longer wait.
                        let _ = answer.send(outcome);
                    }
                }
                event => (self.shared.events)(self.shared.kind, &event),
            }
        }
    }
}

impl Drop for ServiceHandler {
    fn drop(&mut self) {
        // After a panic, there is no service. Create a new one for the next opening of the channel.
        let mut service = self.service.take().unwrap_or_else(|| create(self.shared.kind, Forced::default(), &[]));
        if self.port.is_guest_gone() {
            service.reset();
        } else {
            service.closed();
        }
        self.settle(&mut service);
        self.shared.seen.lock().clock = None;
        *self.shared.home.lock() = Some(service);
    }
}

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;
