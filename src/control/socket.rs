//! The files of control sockets.
//!
//! A socket is found by its name, so names are unique in a directory. A process that is killed leaves its file behind. The next
//! one that wants the name removes it: a file whose socket nobody listens on refuses connections. A lock on the directory keeps two
//! processes from doing that at the same time.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::fleet::Handle;
use crate::host::limited;
use crate::host::unix_socket::{Access, ListeningSocket};

/// Number of machines of one name that are numbered from 1. Others have the number of their process.
const NUMBERED: u32 = 9;

/// Maximum length of a name in a path. A socket's path has at most 107 bytes.
const MAX_NAME: usize = 64;

/// Delay before the next attempt if a connection could not be accepted.
const RETRY: Duration = Duration::from_millis(50);

/// A directory of sockets, locked while this exists.
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Opens and locks a directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let lock = File::open(path).map_err(at)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| at(error.into()))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Opens the socket of a machine.
    pub fn listen(&self, machine: Handle) -> io::Result<Socket> {
        let name = file_name(machine.name());
        for number in (1..=NUMBERED).chain([std::process::id()]) {
            let name = if number == 1 { format!("{name}.sock") } else { format!("{name}-{number}.sock") };
            let path = self.path.join(name);
            match ListeningSocket::bind_for(Access::User, &path) {
                Ok(listener) => return Ok(Socket::new(listener, machine)),
                Err(error) if error.is_taken() => {}
                Err(error) => return Err(error.at(&path)),
            }
        }
        Err(io::Error::other(format!("{}: there are too many machines of one name", self.path.display())))
    }
}

/// The control socket of a machine. The file is removed when this is dropped.
pub struct Socket {
    listener: ListeningSocket,
    machine: Handle,
}

impl Socket {
    /// Opens a socket at a path that the user has chosen.
    pub fn at(path: &Path, machine: Handle) -> io::Result<Self> {
        let listener = ListeningSocket::bind_for(Access::User, path).map_err(|error| error.at(path))?;
        Ok(Self::new(listener, machine))
    }

    fn new(listener: ListeningSocket, machine: Handle) -> Self {
        log::debug!("{}: the control socket is {}", machine.name(), listener.path().display());
        Self { listener, machine }
    }

    /// Returns the machine that is reached by the socket.
    pub fn machine(&self) -> &Handle {
        &self.machine
    }

    /// Returns the next connection that waits.
    pub fn accept(&self) -> Option<UnixStream> {
        loop {
            match self.listener.accept() {
                Ok(stream) => return Some(stream),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => {
                    // For example, there are no file descriptors left. The client still waits.
                    limited::warn!("{}: a connection cannot be accepted: {error}", self.listener.path().display());
                    std::thread::sleep(RETRY);
                    return None;
                }
            }
        }
    }

    /// Returns the descriptor to poll for connections.
    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Returns the name of a machine as a part of a file's name: other characters than those of plain names are escaped as in a URL.
fn file_name(name: &str) -> String {
    let mut text = String::new();
    for (place, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => text.push(byte.into()),
            b'.' if place > 0 => text.push('.'),
            byte => text += &format!("%{byte:02X}"),
        }
        if text.len() >= MAX_NAME {
            break;
        }
    }
    if text.is_empty() { "%".into() } else { text }
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
