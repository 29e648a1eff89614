//! The sockets and the threads of a VNC server.

use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::set_socket_keepalive;

use super::address::VncAddress;
use super::connection::{Connection, Phase, Progress, Socket};
use super::device::VncDevice;
use super::password::Password;
use super::scanner;
use super::show::{MAX_VIEWERS, Show};
use super::stage::Stage;
use super::tls::Tls;
use super::viewer;
use crate::host::event::EventFd;
use crate::host::limited;
use crate::host::lock::Mutex;
use crate::host::unix_socket::ListeningSocket;
use crate::vsp::keyboard::protocol::Keyboard;
use crate::vsp::mouse::protocol::Mouse;
use crate::vsp::pipe::provider::Handle;
use crate::vsp::video::protocol::Video;

/// Maximum number of connections that are not viewers yet. One that is silent keeps nobody out: the oldest gives way.
const MAX_GREETINGS: usize = 16;
/// Maximum number of closed connections whose threads have not ended, because they hold back the answer to a wrong password.
const MAX_CLOSED: usize = 16;
/// The delay before viewers are accepted again if the host lacks descriptors or threads.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

enum Listener {
    Tcp(TcpListener),
    Unix(ListeningSocket),
}

impl Listener {
    /// Listens. Returns the address, too, which has the port that the host chose for port 0.
    fn bind(address: &VncAddress) -> Result<(Self, VncAddress), String> {
        match address {
            VncAddress::Tcp(address) => {
                let advice = |error| format!("cannot listen at {address}: {error}; name another display or port");
                let listener = TcpListener::bind(address).map_err(advice)?;
                listener.set_nonblocking(true).map_err(advice)?;
                let address = listener.local_addr().map_err(advice)?;
                Ok((Self::Tcp(listener), VncAddress::Tcp(address)))
            }
            VncAddress::Unix(path) => {
                let advice = |error| format!("{}: {error}", path.display());
                let listener = ListeningSocket::bind(path).map_err(advice)?;
                Ok((Self::Unix(listener), address.clone()))
            }
        }
    }

    fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                // Keepalives detect a host that has disappeared.
                set_socket_keepalive(&stream, true)?;
                Ok(Socket::Tcp(stream))
            }
            Self::Unix(listener) => listener.accept().map(Socket::Unix),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

/// The settings of a server, and its connections to the machine.
pub struct Wiring {
    /// Name of the machine.
    pub name: String,
    /// The address at which it listens. Without one, viewers come by the control socket alone.
    pub address: Option<VncAddress>,
    /// A file with the password that viewers need.
    pub password: Option<PathBuf>,
    /// The files of the certificate and its key, with which connections are encrypted.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The screen.
    pub video: Handle<Video>,
    /// The keyboard and the mouse.
    pub input: Option<(Handle<Keyboard>, Handle<Mouse>)>,
    /// The text of a viewer's clipboard is typed.
    pub pastes: bool,
}

/// A server, until it is dropped.
pub struct VncServer {
    show: Arc<Show>,
    over: Arc<EventFd>,
    door: Arc<Door>,
    threads: Vec<JoinHandle<()>>,
}

/// Viewers that others have let in.
struct Door {
    waiting: Mutex<Vec<Socket>>,
    knock: EventFd,
}

/// The size of the screen while the guest shows nothing.
const NOTHING: (u32, u32) = (640, 480);

impl VncServer {
    /// Starts a server.
    ///
    /// # Errors
    /// Returns a description of why it cannot listen.
    pub fn start(wiring: Wiring) -> Result<Self, String> {
        let Wiring { name, address, password, tls, video, input, pastes } = wiring;
        if let Some(address) = address.as_ref().filter(|address| !address.is_local()) {
            if password.is_none() {
                return Err(format!(
                    "without a password, everybody who reaches {address} could use the guest; give password-file=PATH, or a \
                     loopback address"
                ));
            }
            if tls.is_none() {
                return Err(format!(
                    "without encryption, everybody on the way to {address} could see and use the guest; give tls-cert=PATH and \
                     tls-key=PATH, or a loopback address"
                ));
            }
        }
        let password = password.as_deref().map(Password::read).transpose()?;
        let tls = tls.map(|(certificate, key)| Tls::open(&certificate, &key)).transpose()?;
        let (listener, address) = address.as_ref().map(Listener::bind).transpose()?.unzip();
        if let Some(address) = &address {
            limited::info!(of: &name, "{name}: viewers of the screen can connect to {address} (VNC)");
        }
        let show = Arc::new(Show {
            name,
            address,
            password,
            tls,
            stage: Stage::new(NOTHING.0, NOTHING.1),
            input,
            pastes,
            refused: AtomicU64::new(0),
            video,
            signal: Arc::default(),
            watch: Mutex::default(),
        });
        if let Some((keyboard, _)) = &show.input {
            let lit = Arc::downgrade(&show);
            let watcher = move |leds| lit.upgrade().iter().for_each(|show| show.stage.light(leds));
            keyboard.update(|keyboard| keyboard.watch(Box::new(watcher)));
        }
        let event = || EventFd::new().map_err(|error| error.to_string());
        let over = Arc::new(event()?);
        let door = Arc::new(Door { waiting: Mutex::default(), knock: event()? });
        let mut server = Self { show: show.clone(), over: over.clone(), door: door.clone(), threads: Vec::new() };
        let scan = {
            let show = show.clone();
            move || scanner::run(&show.video, &show.stage, &show.signal)
        };
        server.spawn("screen", scan)?;
        server.spawn("vnc", move || accept(&show, listener.as_ref(), &door, &over))?;
        Ok(server)
    }

    /// Returns the server as a device.
    pub fn device(&self) -> VncDevice {
        VncDevice(self.show.clone())
    }

    /// Adds a client of the control socket, after it is sent this head. If it `only_watches`, its keys, buttons and texts are
    /// dropped. Returns `false` if there are too many viewers.
    pub fn let_in(&self, mut stream: UnixStream, head: &[u8], only_watches: bool) -> bool {
        let mut waiting = self.door.waiting.lock();
        if self.show.stage.viewers() + waiting.len() >= MAX_VIEWERS {
            return false;
        }
        // Nothing was sent before, so this does not wait. A client that is gone is noticed by its own thread.
        let _ = stream.write_all(head);
        waiting.push(if only_watches { Socket::Watching(stream) } else { Socket::Control(stream) });
        self.door.knock.signal();
        true
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), String> {
        let name = format!("{}/{name}", self.show.name);
        let spawned = thread::Builder::new().name(name).spawn(body);
        self.threads.push(spawned.map_err(|error| format!("no thread for the VNC server: {error}"))?);
        Ok(())
    }
}

impl Drop for VncServer {
    fn drop(&mut self) {
        self.over.signal();
        self.show.signal.end();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Accepts viewers until the end, and waits for their threads then.
fn accept(show: &Arc<Show>, listener: Option<&Listener>, door: &Door, over: &EventFd) {
    let mut visitors = Visitors(Vec::new());
    while !over.is_signalled_within(Some(Duration::ZERO)).unwrap_or(false) {
        let mut polled = vec![PollFd::new(over, PollFlags::IN), PollFd::new(&door.knock, PollFlags::IN)];
        polled.extend(listener.map(|listener| PollFd::new(listener, PollFlags::IN)));
        let _ = poll(&mut polled, None);
        door.knock.take();
        let mut coming = std::mem::take(&mut *door.waiting.lock());
        match listener.map(Listener::accept) {
            Some(Ok(socket)) => coming.push(socket),
            None => {}
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The host lacks descriptors, or the viewer is gone already.
            Some(Err(_)) => drop(over.is_signalled_within(Some(ACCEPT_PAUSE))),
        }
        for socket in coming {
            match visitors.make_room(show.stage.viewers()) {
                Ok(()) => visitors.0.extend(spawn(show, socket)),
                Err(why) => show.refuse(&why),
            }
        }
    }
    visitors.end();
}

/// A connection with its thread.
struct Visitor {
    /// The descriptor is closed when the thread has ended.
    connection: Weak<Connection>,
    progress: Arc<Progress>,
    thread: JoinHandle<()>,
}

/// All connections, the oldest first.
struct Visitors(Vec<Visitor>);

impl Visitors {
    fn in_phase(&self, phase: Phase) -> impl Iterator<Item = &Visitor> {
        self.0.iter().filter(move |visitor| visitor.progress.phase() == phase)
    }

    /// Makes room for another connection. The oldest that is not a viewer yet gives way.
    ///
    /// # Errors
    /// Returns the reason why there is no room.
    fn make_room(&mut self, viewers: usize) -> Result<(), String> {
        self.0.retain(|visitor| !visitor.thread.is_finished());
        if viewers >= MAX_VIEWERS {
            return Err(format!("there are {MAX_VIEWERS}"));
        }
        if self.in_phase(Phase::Closed).count() >= MAX_CLOSED {
            return Err("too many connections come and go".into());
        }
        if self.in_phase(Phase::Greeting).count() >= MAX_GREETINGS {
            let oldest = self.in_phase(Phase::Greeting).find_map(|visitor| visitor.connection.upgrade());
            oldest.inspect(|connection| connection.close());
        }
        Ok(())
    }

    /// Closes all connections, and waits for their threads.
    fn end(self) {
        self.0.iter().filter_map(|visitor| visitor.connection.upgrade()).for_each(|connection| connection.close());
        for Visitor { thread, .. } in self.0 {
            let _ = thread.join();
        }
    }
}

fn spawn(show: &Arc<Show>, socket: Socket) -> Option<Visitor> {
    let connection = Arc::new(Connection::new(socket));
    let (weak, progress) = (Arc::downgrade(&connection), connection.progress().clone());
    let body = {
        let show = show.clone();
        move || {
            let result = viewer::serve(&show, &connection);
            connection.close();
            if let Err(error) = result {
                if error.kind() == io::ErrorKind::PermissionDenied {
                    show.refuse(&error.to_string());
                }
                log::debug!("{}: a viewer of the screen is gone: {error}", show.name);
            }
        }
    };
    match thread::Builder::new().name(format!("{}/viewer", show.name)).spawn(body) {
        Ok(thread) => Some(Visitor { connection: weak, progress, thread }),
        Err(error) => {
            show.refuse(&format!("the host has no thread for it: {error}"));
            None
        }
    }
}
