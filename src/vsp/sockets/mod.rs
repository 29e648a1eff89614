//! Sockets between host and guest: hvsocket, which is AF_VSOCK in a Linux guest.
//!
//! Either side can connect to a listener of the other. A listener has a port of AF_VSOCK, or a GUID: a [`Service`]. On the host,
//! a connection is a [`UnixStream`], which reads, writes, ends one direction, and has time limits. See `docs/sockets.md` for the
//! Unix socket with which other programs connect.
//!
//! ```no_run
//! use std::io::{Read, Write};
//! use std::net::Shutdown;
//! use viridian::Builder;
//!
//! let machine = Builder::new().kernel("my-kernel").start()?;
//! // In the guest: socat VSOCK-CONNECT:2:1024 SYSTEM:cat
//! let mut stream = machine.sockets().listen(1024)?.accept()?;
//! stream.write_all(b"hello")?;
//! stream.shutdown(Shutdown::Write)?;
//! let mut echo = String::new();
//! stream.read_to_string(&mut echo)?;
//! // In the guest: socat VSOCK-LISTEN:1025 -
//! machine.sockets().connect(1025)?.write_all(echo.as_bytes())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Every connection is a VMBus channel of its own, which is offered once and removed when the connection is over.
//!
//! - `wire`, `transfer`: the protocol of a channel, pure; `waiting`: the guest's data that is under way.
//! - `connection`: moves data between a channel's rings and a `peer`: a Unix socket, or code of this process that answers.
//! - `worker`, `greeting`: the thread that connects Unix sockets for the guest, and accepts clients.
//! - `shared`, `table`, `backlog`: what exists; `device`: its place among the machine's devices.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

mod backlog;
mod connection;
mod device;
mod error;
mod greeting;
mod peer;
mod service;
mod shared;
mod table;
mod transfer;
mod waiting;
mod wire;
mod worker;

#[doc(hidden)]
pub use peer::{Answerer, Replies};
pub use service::Service;

use backlog::{Backlog, NotAccepted};
use device::SocketsDevice;
pub(crate) use error::SocketsError;
use shared::{Answer, Call, Shared};
use worker::Worker;

use crate::device::{Devices, Registration};
use crate::host::lock::Mutex;
use crate::host::unix_socket::{BindError, ListeningSocket};
use crate::vmbus::bus::VmBus;
use crate::vmbus::connection::OfferError;

/// The interval at which a wait for the guest is checked. While the machine is paused, the guest has all the time.
const PAUSE: Duration = Duration::from_secs(1);

/// The sockets of a machine: see [`Machine::sockets`](crate::Machine::sockets).
pub struct Sockets {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
    over: Arc<AtomicBool>,
    _joined: Registration,
}

impl Sockets {
    /// Makes the sockets of a machine, which join its `devices`. Clients connect at `path`.
    pub(crate) fn new(name: &str, bus: VmBus, path: Option<&Path>, devices: &Devices) -> Result<Self, SocketsError> {
        let listener = path.map(ListeningSocket::bind).transpose().map_err(|error| {
            let path = path.unwrap_or(Path::new("")).to_owned();
            match error {
                BindError::InUse => SocketsError::InUse(path),
                BindError::Refused(source, advice) => SocketsError::Refused { path, source, advice },
            }
        })?;
        let shared = Arc::new(Shared::new(name.to_owned(), bus, path.map(Path::to_owned))?);
        // Weak: the bus belongs to what it reports to.
        let weak = Arc::downgrade(&shared);
        shared.bus.connects().set(move |asked| weak.upgrade().is_some_and(|shared| shared.take(asked)));
        let joined = devices.add(Arc::new(SocketsDevice(shared.clone())))?;
        let sockets = Self { shared, worker: Mutex::default(), over: Arc::default(), _joined: joined };
        if listener.is_some() {
            sockets.start_worker(listener)?;
        }
        Ok(sockets)
    }

    /// Connects to a listener in the guest, and waits until the guest has accepted.
    ///
    /// # Errors
    /// Returns an error of kind [`NotConnected`](ErrorKind::NotConnected) at once if the guest does not use VMBus yet, or any more.
    /// A guest does not say that it has no listener: the kind is [`ConnectionRefused`](ErrorKind::ConnectionRefused) if it has not
    /// accepted within two seconds. Other kinds are errors of the host.
    pub fn connect(&self, service: impl Into<Service>) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        self.call(service.into(), ours, "")?.wait(|| true)?;
        Ok(theirs)
    }

    /// Begins to connect a client to a listener in the guest. Does not wait. Once the guest has accepted, the client is sent `head`, and
    /// has the connection from then on.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub(crate) fn call(&self, service: Service, client: UnixStream, head: &str) -> io::Result<Calling> {
        let (tell, opened) = mpsc::sync_channel(1);
        let texts = (head.to_owned(), String::new());
        let record = self.shared.offer(Call { service, peer: client.into(), asked: None, texts, opened: Some(tell) });
        let record = record.map_err(|error| {
            let kind = match error {
                OfferError::NoGuest => ErrorKind::NotConnected,
                _ => ErrorKind::ResourceBusy,
            };
            io::Error::new(kind, error)
        })?;
        Ok(Calling { shared: self.shared.clone(), service, answer: Answer::new(&self.shared, record), opened })
    }

    /// Listens for connections of the guest. They wait in the listener until they are accepted, also while the guest restarts.
    ///
    /// # Errors
    /// Returns an error of kind [`AddrInUse`](ErrorKind::AddrInUse) if there is such a listener already, or an error of the host.
    pub fn listen(&self, service: impl Into<Service>) -> io::Result<Listener> {
        let service = service.into();
        self.start_worker(None)?;
        let backlog = Backlog::default();
        if self.over.load(Ordering::SeqCst) {
            backlog.close();
        }
        let mut listeners = self.shared.listeners.lock();
        if listeners.contains_key(&service) {
            return Err(io::Error::new(ErrorKind::AddrInUse, format!("there is a listener on {service} already")));
        }
        listeners.insert(service, backlog.clone());
        Ok(Listener { service, backlog, shared: Arc::downgrade(&self.shared) })
    }

    /// Answers the first connection of the guest to a service, on the thread of its channel.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    #[doc(hidden)]
    pub fn answer(&self, service: impl Into<Service>, answerer: Box<dyn Answerer>) -> io::Result<()> {
        let service = service.into();
        self.start_worker(None)?;
        let mut answerers = self.shared.answerers.lock();
        if answerers.contains_key(&service) || self.shared.listeners.lock().contains_key(&service) {
            return Err(io::Error::new(ErrorKind::AddrInUse, format!("there is a listener on {service} already")));
        }
        answerers.insert(service, answerer);
        Ok(())
    }

    fn start_worker(&self, listener: Option<ListeningSocket>) -> io::Result<()> {
        let mut worker = self.worker.lock();
        if worker.is_none() {
            let body = Worker::new(self.shared.clone(), listener, self.over.clone());
            let name: String = self.shared.name.chars().filter(char::is_ascii_graphic).take(7).collect();
            *worker = Some(thread::Builder::new().name(format!("{name}/sockets")).spawn(move || body.run())?);
        }
        Ok(())
    }

    /// Ends listeners and the worker, because the machine has ended.
    pub(crate) fn finish(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.shared.attention.signal();
        self.shared.listeners.lock().values().for_each(Backlog::close);
        self.shared.answerers.lock().clear();
        // A panic in it does not change that it has ended.
        let _ = self.worker.lock().take().map(JoinHandle::join);
    }
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sockets").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A connection that the guest has not accepted yet.
pub(crate) struct Calling {
    shared: Arc<Shared>,
    service: Service,
    answer: Answer,
    opened: mpsc::Receiver<()>,
}

impl Calling {
    /// Waits until the guest has accepted. `is_wanted` is asked now and then: if it returns `false`, the connection is taken back.
    ///
    /// # Errors
    /// As [`Sockets::connect`].
    pub(crate) fn wait(mut self, is_wanted: impl Fn() -> bool) -> io::Result<()> {
        loop {
            let left = self.answer.left(&self.shared);
            // Once the wait is over, the device is either open or about to be dropped.
            match self.opened.recv_timeout(left.map_or(PAUSE, |left| left.min(PAUSE))) {
                Ok(()) => return Ok(()),
                Err(mpsc::RecvTimeoutError::Timeout) if left.is_some() && is_wanted() => {}
                Err(_) => break,
            }
        }
        self.shared.bus.rescind(self.answer.record.device);
        let text =
            format!("the guest has not accepted a connection to {}; does it have a listener there?", self.service);
        Err(io::Error::new(ErrorKind::ConnectionRefused, text))
    }
}

/// A listener for connections of the guest: see [`Sockets::listen`]. Dropping it ends it.
pub struct Listener {
    service: Service,
    backlog: Backlog,
    shared: Weak<Shared>,
}

impl Listener {
    /// Waits for a connection of the guest. Several threads can wait.
    ///
    /// # Errors
    /// Returns an error of kind [`NotConnected`](ErrorKind::NotConnected) once the machine has ended.
    pub fn accept(&self) -> io::Result<UnixStream> {
        self.pop(None)
    }

    /// Waits for a connection of the guest, at most for `time`.
    ///
    /// # Errors
    /// As [`accept`](Self::accept), and an error of kind [`TimedOut`](ErrorKind::TimedOut) if no connection has come in time.
    pub fn accept_timeout(&self, time: Duration) -> io::Result<UnixStream> {
        self.pop(Some(time))
    }

    fn pop(&self, time: Option<Duration>) -> io::Result<UnixStream> {
        self.backlog.pop(time).map_err(|error| match error {
            NotAccepted::Closed => io::Error::new(ErrorKind::NotConnected, "the machine has ended"),
            NotAccepted::TimedOut => io::Error::new(ErrorKind::TimedOut, "no connection of the guest has come in time"),
        })
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Listener").field("service", &self.service).finish_non_exhaustive()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.backlog.close();
        if let Some(shared) = self.shared.upgrade() {
            shared.listeners.lock().remove(&self.service);
        }
    }
}
