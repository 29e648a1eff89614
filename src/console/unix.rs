//! A console on a Unix stream socket that accepts one client at a time; others wait in the queue.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ConsoleError;
use super::backend::{Backend, Typed};

/// Delay before the next attempt if a client could not be accepted.
const RETRY: Duration = Duration::from_millis(100);

struct Client {
    stream: UnixStream,
    /// The client sends nothing more.
    sent_all: bool,
    /// The client reads nothing more. What it sent before is still passed to the guest.
    reads_no_more: bool,
}

pub(super) struct UnixBackend {
    listener: UnixListener,
    client: Option<Client>,
    path: PathBuf,
    /// Device and inode of the socket file, which is removed at the end.
    file: (u64, u64),
}

impl UnixBackend {
    /// Listens at `path`. Replaces a stale socket file of a killed process, but not one with a listener.
    pub fn open(path: &Path) -> Result<Self, ConsoleError> {
        let failed = |source: io::Error| {
            let advice = match source.kind() {
                ErrorKind::AddrInUse => "something is there already that is not a socket: name another path",
                ErrorKind::NotFound | ErrorKind::NotADirectory => {
                    "create the directory that the socket is to be in first"
                }
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "name a path where you may write",
                ErrorKind::InvalidInput => "name a shorter path: a socket's has at most 107 bytes",
                _ => "name another path",
            };
            ConsoleError::Open { path: path.into(), source, advice }
        };
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && is_socket(path) => {
                // If two machines find the same stale file at the same time, one can still remove the other's.
                if !is_stale(path) {
                    return Err(ConsoleError::SocketInUse { path: path.into() });
                }
                std::fs::remove_file(path).and_then(|()| UnixListener::bind(path)).map_err(failed)?
            }
            other => other.map_err(failed)?,
        };
        listener.set_nonblocking(true).map_err(failed)?;
        let metadata = std::fs::symlink_metadata(path).map_err(failed)?;
        Ok(Self { listener, client: None, path: path.into(), file: (metadata.dev(), metadata.ino()) })
    }

    /// Disconnects a client that neither sends nor reads.
    fn dismiss(&mut self) {
        self.client.take_if(|client| client.reads_no_more && client.sent_all);
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

fn is_stale(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

impl Backend for UnixBackend {
    fn source(&self) -> Option<BorrowedFd<'_>> {
        self.client.as_ref().filter(|client| !client.sent_all).map(|client| client.stream.as_fd())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Typed {
        let Some(client) = &mut self.client else { return Typed::Bytes(0) };
        match client.stream.read(buffer) {
            Ok(count) if count > 0 => return Typed::Bytes(count),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            _ => client.sent_all = true,
        }
        self.dismiss();
        Typed::Bytes(0)
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        self.client.as_ref().filter(|client| !client.reads_no_more).map(|client| client.stream.as_fd())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(client) = &mut self.client else { return Err(ErrorKind::WouldBlock.into()) };
        match client.stream.write(bytes) {
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                // The client has left, which is not an error.
                self.hang_up();
                Err(ErrorKind::WouldBlock.into())
            }
            other => other,
        }
    }

    fn has_visitors(&self) -> bool {
        true
    }

    fn hang_up(&mut self) {
        if let Some(client) = &mut self.client {
            client.reads_no_more = true;
        }
        self.dismiss();
    }

    fn door(&self) -> Option<BorrowedFd<'_>> {
        self.client.is_none().then(|| self.listener.as_fd())
    }

    fn open_door(&mut self) {
        match self.listener.accept().and_then(|(stream, _)| stream.set_nonblocking(true).map(|()| stream)) {
            Ok(stream) => self.client = Some(Client { stream, sent_all: false, reads_no_more: false }),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // For example, there are no file descriptors left. The client is still in the queue: try again, with a
            // delay.
            Err(_) => std::thread::sleep(RETRY),
        }
    }

    fn explain(&self, _error: &io::Error) -> (String, &'static str) {
        (self.path.display().to_string(), "connect again")
    }
}

impl Drop for UnixBackend {
    fn drop(&mut self) {
        let ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.file);
        if ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
#[path = "unix_tests.rs"]
mod tests;
