//! The state that the parts of a machine's sockets share.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::backlog::Backlog;
use super::connection::{ConnectionVsp, instance, offer};
use super::peer::{Answerer, Peer};
use super::service::Service;
use super::table::{Origin, Record, Table};
use crate::host::descriptors::Budget;
use crate::host::event::EventFd;
use crate::host::limited;
use crate::host::lock::Mutex;
use crate::host::stopwatch::Stopwatch;
use crate::vmbus::bus::{Asked, VmBus};
use crate::vmbus::connection::OfferError;

/// Maximum number of connections of a machine. Each has a channel, a thread and a few descriptors.
pub const MAX_CONNECTIONS: usize = 512;

/// Maximum number of requests of the guest that wait to be decided.
const MAX_REQUESTS: usize = 256;

/// The time that a guest has to begin to open a channel. Linux's connect waits as long.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// The time that a guest has to open a channel after it has begun.
pub const OPEN_PATIENCE: Duration = Duration::from_secs(8);

/// The first port of the host's connections. Lower ones are left to listeners.
const FIRST_PORT: u32 = 1 << 30;

/// The shared state.
pub struct Shared {
    /// The name of the machine.
    pub name: String,
    /// The bus.
    pub bus: VmBus,
    /// The connections.
    pub table: Arc<Table>,
    /// Stands still while the machine is paused.
    pub clock: Mutex<Stopwatch>,
    /// The listeners of the library's user.
    pub listeners: Mutex<BTreeMap<Service, Backlog>>,
    /// Code that answers the first connection to each service. The connection takes it.
    pub answerers: Mutex<BTreeMap<Service, Box<dyn Answerer>>>,
    /// The Unix socket at which connections to the guest begin. The name of each listener's begins with it.
    pub path: Option<PathBuf>,
    /// Requests of the guest for the worker.
    requests: Mutex<VecDeque<Asked>>,
    /// Wakes the worker.
    pub attention: EventFd,
    next_port: AtomicU32,
}

/// A connection to be offered.
pub struct Call {
    /// The listener.
    pub service: Service,
    /// The host's end.
    pub peer: Peer,
    /// The request of the guest, if it is the guest that connects.
    pub asked: Option<Asked>,
    /// The texts for the host's end when the guest opens the channel, and when it does not.
    pub texts: (String, String),
    /// The thread that waits for the guest to open the channel.
    pub opened: Option<mpsc::SyncSender<()>>,
}

impl Shared {
    /// Creates what is shared.
    ///
    /// # Errors
    /// Returns an error if the host lacks a descriptor.
    pub fn new(name: String, bus: VmBus, path: Option<PathBuf>) -> io::Result<Self> {
        let attention = EventFd::new()?;
        let share = Budget::of_process().join(Arc::new(attention.try_clone()?));
        Ok(Self {
            name,
            bus,
            table: Arc::new(Table::new(share)),
            clock: Mutex::new(Stopwatch::new(Instant::now())),
            listeners: Mutex::default(),
            answerers: Mutex::default(),
            path,
            requests: Mutex::default(),
            attention,
            next_port: AtomicU32::new(FIRST_PORT),
        })
    }

    /// Ends connections if other machines have less than their share of the descriptors of the process.
    pub fn settle(&self) {
        for device in self.table.take_leaving() {
            let name = &self.name;
            limited::warn!(of: name, "{name}: a socket is closed: the machines of this process share its descriptors (ulimit -n)");
            self.bus.rescind(device);
        }
    }

    /// Returns the time that the machine has run.
    pub fn now(&self) -> Duration {
        self.clock.lock().time(Instant::now())
    }

    /// Takes a request of the guest, for the worker. Returns `false` if it must be refused. Called with the bus locked.
    pub fn take(&self, asked: Asked) -> bool {
        let service = asked.request.service.into();
        let is_known = self.listeners.lock().contains_key(&service) || self.answerers.lock().contains_key(&service);
        if self.path.is_none() && !is_known {
            self.table.count_refused();
            return false;
        }
        let mut requests = self.requests.lock();
        if requests.len() >= MAX_REQUESTS {
            self.table.count_refused();
            return false;
        }
        requests.push_back(asked);
        self.attention.signal();
        true
    }

    /// Returns the next request of the guest.
    pub fn next_request(&self) -> Option<Asked> {
        self.requests.lock().pop_front()
    }

    /// Refuses a request of the guest.
    pub fn refuse(&self, asked: &Asked) {
        self.table.count_refused();
        self.bus.refuse_socket(asked);
    }

    /// Offers a connection to the guest.
    ///
    /// # Errors
    /// Returns an [`OfferError`]. The host's end was told, and a request was refused.
    pub fn offer(&self, call: Call) -> Result<Arc<Record>, OfferError> {
        let Call { service, peer, asked, texts, opened } = call;
        self.settle();
        let (origin, instance) = match &asked {
            Some(asked) => (Origin::Guest, asked.request.endpoint),
            None => (Origin::Host, instance(self.next_port())),
        };
        let id = self.bus.new_device_id();
        let Some(record) = self.table.add(id, service, origin, MAX_CONNECTIONS) else {
            asked.iter().for_each(|asked| self.refuse(asked));
            // A host's end without room for a line does not get it.
            let _ = peer.send_text(texts.1.as_bytes());
            return Err(OfferError::TooManySockets);
        };
        let vsp = ConnectionVsp {
            record: record.clone(),
            table: self.table.clone(),
            bus: self.bus.clone(),
            offer: offer(service.guid(), instance, origin),
            peer: Some(peer),
            texts,
            opened,
        };
        self.bus.offer_socket(id, Box::new(vsp), asked.as_ref()).map(|()| record)
    }

    /// Returns the port of the host's next connection. Ports are not reused for a long time.
    fn next_port(&self) -> u32 {
        let next = |port: u32| Some(if port >= u32::MAX - 1 { FIRST_PORT } else { port + 1 });
        self.next_port.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(FIRST_PORT)
    }
}

/// The wait for a guest to open a channel.
pub struct Answer {
    /// The connection.
    pub record: Arc<Record>,
    deadline: Duration,
    has_begun: bool,
}

impl Answer {
    /// Begins to wait.
    pub fn new(shared: &Shared, record: Arc<Record>) -> Self {
        Self { record, deadline: shared.now() + ANSWER_PATIENCE, has_begun: false }
    }

    /// Returns how long the guest still has, or `None` if the wait is over: the channel is open, or the connection has been
    /// taken back.
    pub fn left(&mut self, shared: &Shared) -> Option<Duration> {
        if !self.record.is_offered() {
            return None;
        }
        let now = shared.now();
        if self.deadline <= now && !self.has_begun && shared.bus.is_socket_answered(self.record.device) {
            self.has_begun = true;
            self.deadline = now + OPEN_PATIENCE;
        }
        if self.deadline <= now {
            shared.bus.rescind(self.record.device);
            return None;
        }
        Some(self.deadline - now)
    }
}
