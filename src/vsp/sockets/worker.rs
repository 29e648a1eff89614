//! The thread of a machine's sockets: connects Unix sockets for the guest, and accepts clients of `--vsock`.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, socket_with,
};

use super::greeting::Greeting;
use super::peer::Peer;
use super::service::Service;
use super::shared::{Answer, Call, Shared};
use crate::host::limited;
use crate::host::unix_socket::ListeningSocket;
use crate::vmbus::bus::Asked;

/// Maximum number of clients that have not said where they connect to. Others wait to be accepted.
const MAX_GREETING: usize = 64;

/// The time that a client has to name its destination.
const GREETING_PATIENCE: Duration = Duration::from_secs(10);

/// The time for which a listener of the host with a full queue is asked again, and the interval.
const BUSY_PATIENCE: Duration = Duration::from_secs(1);
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// The delay before clients are accepted again if the host lacks descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A client of the Unix socket that has not said where it connects to.
struct Client {
    stream: UnixStream,
    line: Greeting,
    deadline: Duration,
}

/// A request of the guest whose listener has a full queue.
struct Busy {
    asked: Asked,
    deadline: Duration,
}

/// The state of the thread.
pub struct Worker {
    shared: Arc<Shared>,
    listener: Option<ListeningSocket>,
    over: Arc<AtomicBool>,
    clients: Vec<Client>,
    busy: Vec<Busy>,
    answers: Vec<Answer>,
    /// Clients are accepted again from this time on.
    accepts_from: Duration,
}

/// The result of connecting a Unix socket.
enum Connected {
    To(Peer),
    Busy,
    Nobody,
}

impl Worker {
    /// Creates the state of the thread, which ends when `over` is set and the shared eventfd is signalled.
    pub fn new(shared: Arc<Shared>, listener: Option<ListeningSocket>, over: Arc<AtomicBool>) -> Self {
        let (clients, busy, answers) = (Vec::new(), Vec::new(), Vec::new());
        Self { shared, listener, over, clients, busy, answers, accepts_from: Duration::ZERO }
    }

    /// Runs the thread.
    pub fn run(mut self) {
        while !self.over.load(Ordering::SeqCst) {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(Errno::INTR) => continue,
                Err(error) => {
                    limited::error!(of: &self.shared.name, "{}: sockets cannot be waited for: {error}", self.shared.name);
                    return;
                }
            };
            self.shared.attention.take();
            self.shared.settle();
            self.decide();
            self.hear(&ready);
            self.accept();
        }
    }

    /// Waits until there is something to do. Returns which clients can be read.
    fn wait(&mut self) -> Result<Vec<bool>, Errno> {
        let now = self.shared.now();
        let shared = self.shared.clone();
        let mut next: Option<Duration> = None;
        let mut until = |left: Duration| next = Some(next.map_or(left, |next| next.min(left)));
        self.answers.retain_mut(|answer| answer.left(&shared).inspect(|left| until(*left)).is_some());
        self.clients.iter().for_each(|client| until(client.deadline.saturating_sub(now)));
        if !self.busy.is_empty() {
            until(BUSY_PAUSE);
        }
        let mut polled = vec![PollFd::new(&shared.attention, PollFlags::IN)];
        let listener = self.listener.as_ref().filter(|_| self.clients.len() < MAX_GREETING);
        match listener {
            Some(listener) if self.accepts_from <= now => polled.push(PollFd::new(listener, PollFlags::IN)),
            Some(_) => until(self.accepts_from - now),
            None => {}
        }
        let first = polled.len();
        polled.extend(self.clients.iter().map(|client| PollFd::new(&client.stream, PollFlags::IN)));
        // While the machine is paused, time limits are suspended.
        let limit = next.map(|next| if shared.clock.lock().is_stopped() { next.max(ACCEPT_PAUSE) } else { next });
        let limit = limit.and_then(|limit| Timespec::try_from(limit + Duration::from_millis(1)).ok());
        poll(&mut polled, limit.as_ref())?;
        Ok(polled[first..].iter().map(|polled| !polled.revents().is_empty()).collect())
    }

    /// Decides the requests of the guest.
    fn decide(&mut self) {
        for Busy { asked, deadline } in std::mem::take(&mut self.busy) {
            self.answer(asked, Some(deadline));
        }
        while let Some(asked) = self.shared.next_request() {
            self.answer(asked, None);
        }
    }

    fn answer(&mut self, asked: Asked, deadline: Option<Duration>) {
        let service = Service::from(asked.request.service);
        let peer = match self.reach(service) {
            Connected::To(peer) => peer,
            Connected::Busy => {
                let now = self.shared.now();
                let deadline = deadline.unwrap_or(now + BUSY_PATIENCE);
                match deadline > now {
                    true => self.busy.push(Busy { asked, deadline }),
                    false => self.shared.refuse(&asked),
                }
                return;
            }
            Connected::Nobody => return self.shared.refuse(&asked),
        };
        self.offer(Call { service, peer, asked: Some(asked), texts: Default::default(), opened: None });
    }

    /// Connects to a listener of the host: one of the library's user, or a Unix socket.
    fn reach(&self, service: Service) -> Connected {
        let backlog = self.shared.listeners.lock().get(&service).cloned();
        if let Some(backlog) = backlog {
            let Ok((ours, theirs)) = UnixStream::pair() else { return Connected::Nobody };
            return if backlog.push(theirs) { Connected::To(ours.into()) } else { Connected::Nobody };
        }
        if let Some(answerer) = self.shared.answerers.lock().remove(&service) {
            return Connected::To(answerer.into());
        }
        let Some(path) = &self.shared.path else { return Connected::Nobody };
        let mut is_busy = false;
        for path in listeners(path, service) {
            match connect_to(&path) {
                Ok(stream) => return Connected::To(stream.into()),
                Err(Errno::AGAIN) => is_busy = true,
                Err(error) => log::debug!("{}: no connection to {}: {error}", self.shared.name, path.display()),
            }
        }
        if is_busy { Connected::Busy } else { Connected::Nobody }
    }

    fn offer(&mut self, call: Call) {
        let service = call.service;
        match self.shared.offer(call) {
            Ok(record) => self.answers.push(Answer::new(&self.shared, record)),
            Err(error) => {
                let name = &self.shared.name;
                limited::warn!(of: name, "{name}: no connection of a socket to {service}: {error}");
            }
        }
    }

    /// Reads where clients connect to.
    fn hear(&mut self, ready: &[bool]) {
        let now = self.shared.now();
        let clients = std::mem::take(&mut self.clients);
        for (index, mut client) in clients.into_iter().enumerate() {
            if ready.get(index).is_some_and(|ready| *ready) {
                match client.read() {
                    Ok(None) => {}
                    Ok(Some(service)) => {
                        self.call(client.stream, service);
                        continue;
                    }
                    Err(None) => continue,
                    Err(Some(text)) => {
                        client.refuse(&text);
                        continue;
                    }
                }
            }
            match client.deadline > now {
                true => self.clients.push(client),
                false => client.refuse("no request came in time"),
            }
        }
    }

    /// Connects a client to the guest.
    fn call(&mut self, peer: UnixStream, service: Service) {
        let refusal = format!("ERROR the guest has not accepted a connection to {service}\n");
        let peer = peer.into();
        self.offer(Call { service, peer, asked: None, texts: (format!("OK {service}\n"), refusal), opened: None });
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        while self.clients.len() < MAX_GREETING {
            match listener.accept() {
                Ok(stream) => {
                    let deadline = self.shared.now() + GREETING_PATIENCE;
                    self.clients.push(Client { stream, line: Greeting::default(), deadline });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    limited::warn!(of: &self.shared.name, "{}: no client is accepted: {error}", self.shared.name);
                    self.accepts_from = self.shared.now() + ACCEPT_PAUSE;
                    return;
                }
            }
        }
    }
}

impl Client {
    /// Reads more of the line. Returns the service, once the line has ended, and an error for a client that is sent away, with
    /// a text unless it has hung up.
    fn read(&mut self) -> Result<Option<Service>, Option<String>> {
        loop {
            let mut bytes = [0; super::greeting::MAX_LINE];
            let room = self.line.room();
            // What follows the line stays in the socket, for the guest.
            let count = match recv(&self.stream, &mut bytes[..room], RecvFlags::DONTWAIT | RecvFlags::PEEK) {
                Ok((count, _)) => Greeting::part(&bytes[..count]),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(_) => return Err(None),
            };
            if count == 0 {
                return Err(None);
            }
            let (count, _) = recv(&self.stream, &mut bytes[..count], RecvFlags::DONTWAIT).map_err(|_| None)?;
            if let Some(service) = self.line.add(&bytes[..count]).map_err(|error| Some(error.to_string()))? {
                return Ok(Some(service));
            }
        }
    }

    fn refuse(self, text: &str) {
        // A client that does not read the text does not get it.
        let _ =
            send(self.stream.as_fd(), format!("ERROR {text}\n").as_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

/// Returns the paths of the Unix sockets of a service, the first one first.
pub fn listeners(path: &Path, service: Service) -> impl Iterator<Item = PathBuf> {
    let named = move |name: String| {
        let mut path = OsString::from(path);
        path.push("_");
        path.push(name);
        PathBuf::from(path)
    };
    let port = service.port().map(|port| port.to_string());
    port.into_iter().chain([service.guid().to_string()]).map(named)
}

/// Connects to a Unix socket without waiting. [`Errno::AGAIN`]: its queue is full.
fn connect_to(path: &Path) -> Result<UnixStream, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}
