//! The connection to a viewer.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::tls::Secure;

/// The connection to a viewer.
pub struct Connection {
    socket: Socket,
    /// Its encryption.
    secure: OnceLock<Secure>,
    progress: Arc<Progress>,
}

/// Progress of a connection. Outlives it, so that whoever counts connections keeps no socket open.
#[derive(Debug, Default)]
pub struct Progress(AtomicU8);

/// The part of its life that a connection is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The versions, the password, and so on.
    Greeting,
    /// It is a viewer's.
    Seated,
    /// It is closed, and its threads end.
    Closed,
}

impl Progress {
    const SEATED: u8 = 1;
    const CLOSED: u8 = 2;

    /// Notes that the greeting is over.
    pub fn seat(&self) {
        self.0.fetch_or(Self::SEATED, Ordering::Relaxed);
    }

    /// Returns the part of its life that the connection is in.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Greeting,
            Self::SEATED => Phase::Seated,
            _ => Phase::Closed,
        }
    }
}

/// The socket of a connection.
pub enum Socket {
    /// On a TCP port.
    Tcp(TcpStream),
    /// On a Unix socket.
    Unix(UnixStream),
    /// By the control socket, whose clients need no password.
    Control(UnixStream),
    /// The same, for a client that only watches.
    Watching(UnixStream),
}

impl Connection {
    /// Creates one that is not encrypted.
    pub fn new(socket: Socket) -> Self {
        Self { socket, secure: OnceLock::new(), progress: Arc::default() }
    }

    /// Returns `true` if it came by the control socket.
    pub fn is_control(&self) -> bool {
        matches!(self.socket, Socket::Control(_) | Socket::Watching(_))
    }

    /// Returns `true` if its viewer only watches: keys, buttons and texts from it are dropped.
    pub fn only_watches(&self) -> bool {
        matches!(self.socket, Socket::Watching(_))
    }

    /// Returns how far it has come.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Encrypts what is read and written from now on.
    pub fn encrypt(&self, secure: Secure) {
        // A connection is encrypted once: the greeting does it.
        let _ = self.secure.set(secure);
    }

    /// Sets how long a read and a write wait.
    ///
    /// # Errors
    /// Returns the error of the host.
    pub fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(stream) => stream.set_read_timeout(read).and_then(|()| stream.set_write_timeout(write)),
            Socket::Unix(stream) | Socket::Control(stream) | Socket::Watching(stream) => {
                stream.set_read_timeout(read).and_then(|()| stream.set_write_timeout(write))
            }
        }
    }

    /// Ends it, for both threads of the viewer.
    pub fn close(&self) {
        self.progress.0.fetch_or(Progress::CLOSED, Ordering::Relaxed);
        // It may be closed already.
        let _ = match &self.socket {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Socket::Unix(stream) | Socket::Control(stream) | Socket::Watching(stream) => {
                stream.shutdown(Shutdown::Both)
            }
        };
    }
}

/// Both threads of a viewer use the connection at the same time.
impl Read for &Connection {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.secure.get() {
            Some(secure) => secure.read(&self.socket, bytes),
            None => (&self.socket).read(bytes),
        }
    }
}

impl Write for &Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.secure.get() {
            Some(secure) => secure.write(&self.socket, bytes),
            None => (&self.socket).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for &Socket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&*stream).read(bytes),
            Socket::Unix(stream) | Socket::Control(stream) | Socket::Watching(stream) => (&*stream).read(bytes),
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&*stream).write(bytes),
            Socket::Unix(stream) | Socket::Control(stream) | Socket::Watching(stream) => (&*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
