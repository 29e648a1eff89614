//! The files of control sockets.
//!
//! A socket is found by its name, so names are unique in a directory. A process that is killed leaves its file behind. The next
//! one that wants the name removes it: a file whose socket nobody listens on refuses connections. A lock on the directory keeps two
//! processes from doing that at the same time.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

use crate::fleet::Handle;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

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
        let lock = File::open(path).map_err(|error| at(path, &error))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| at(path, &error.into()))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Opens the socket of a machine.
    pub fn listen(&self, machine: Handle) -> io::Result<Socket> {
        let name = file_name(machine.name());
        for number in (1..=NUMBERED).chain([std::process::id()]) {
            let name = if number == 1 { format!("{name}.sock") } else { format!("{name}-{number}.sock") };
            let path = self.path.join(name);
            match listen_at(&path) {
                Ok(listener) => return Socket::new(path, listener, machine),
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                Err(error) => return Err(at(&path, &error)),
            }
        }
        Err(at(&self.path, &io::Error::other("there are too many machines of one name")))
    }
}

/// The control socket of a machine. The file is removed when this is dropped.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
    machine: Handle,
}

impl Socket {
    /// Opens a socket at a path that the user has chosen.
    pub fn at(path: &Path, machine: Handle) -> io::Result<Self> {
        let listener = listen_at(path).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => at(path, &io::Error::other("another process listens there; name another path")),
            _ => at(path, &error),
        })?;
        Self::new(path.to_owned(), listener, machine)
    }

    fn new(path: PathBuf, listener: UnixListener, machine: Handle) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(&path).map_err(|error| at(&path, &error))?;
        log::debug!("{}: the control socket is {}", machine.name(), path.display());
        Ok(Self { listener, path, file: (metadata.dev(), metadata.ino()), machine })
    }

    /// Returns the machine that is reached by the socket.
    pub fn machine(&self) -> &Handle {
        &self.machine
    }

    /// Returns the next connection that waits.
    pub fn accept(&self) -> Option<UnixStream> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => return Some(stream),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => {
                    // For example, there are no file descriptors left. The client still waits.
                    log::debug!("{}: a connection cannot be accepted: {error}", self.path.display());
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

impl Drop for Socket {
    fn drop(&mut self) {
        let metadata = fs::symlink_metadata(&self.path);
        if metadata.is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.file) {
            let _ = fs::remove_file(&self.path);
        }
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

/// Listens at a path. A file that a killed process has left is replaced.
///
/// # Errors
/// Returns `AddrInUse` if somebody listens there, or if something else is there.
fn listen_at(path: &Path) -> io::Result<UnixListener> {
    match bind_at(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_stale(path) => {
            fs::remove_file(path)?;
            bind_at(path)
        }
        other => other,
    }
}

fn bind_at(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The file gets the mode of the socket when it is bound, so there is no moment at which others can connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Returns `true` if a socket's file is there on which nobody listens.
fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    let remedy = match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::InvalidFilename => {
            "; a socket's path has at most 107 bytes: name a shorter one"
        }
        ErrorKind::NotFound => "; create the directory first",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "; name a path where you may write",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{}: {error}{remedy}", path.display()))
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
