//! A console on a Unix stream socket that accepts one client at a time; others wait in the queue.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::ConsoleError;
use super::backend::{Backend, Typed};
use crate::host::unix_socket::{BindError, ListeningSocket};

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
    listener: ListeningSocket,
    client: Option<Client>,
}

impl UnixBackend {
    /// Listens at `path`. Replaces a stale socket file of a killed process, but not one with a listener.
    pub fn open(path: &Path) -> Result<Self, ConsoleError> {
        let listener = ListeningSocket::bind(path).map_err(|error| match error {
            BindError::InUse => ConsoleError::SocketInUse { path: path.into() },
            BindError::Refused(source, advice) => ConsoleError::Open { path: path.into(), source, advice },
        })?;
        Ok(Self { listener, client: None })
    }

    /// Disconnects a client that neither sends nor reads.
    fn dismiss(&mut self) {
        self.client.take_if(|client| client.reads_no_more && client.sent_all);
    }
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
        match self.listener.accept().and_then(|stream| stream.set_nonblocking(true).map(|()| stream)) {
            Ok(stream) => self.client = Some(Client { stream, sent_all: false, reads_no_more: false }),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // For example, there are no file descriptors left. The client is still in the queue: try again, with a
            // delay.
            Err(_) => std::thread::sleep(RETRY),
        }
    }

    fn explain(&self, _error: &io::Error) -> (String, &'static str) {
        (self.listener.path().display().to_string(), "connect again")
    }
}

#[cfg(test)]
#[path = "unix_tests.rs"]
mod tests;
