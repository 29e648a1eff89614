//! The connection to a viewer.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The connection to a viewer.
pub enum Connection {
    /// On a TCP port.
    Tcp(TcpStream),
    /// On a Unix socket.
    Unix(UnixStream),
    /// By the control socket, whose clients need no password.
    Control(UnixStream),
}

impl Connection {
    /// Sets how long a read and a write wait.
    ///
    /// # Errors
    /// Returns the error of the host.
    pub fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(read).and_then(|()| stream.set_write_timeout(write)),
            Self::Unix(stream) | Self::Control(stream) => {
                stream.set_read_timeout(read).and_then(|()| stream.set_write_timeout(write))
            }
        }
    }

    /// Ends it, for both threads of the viewer.
    pub fn close(&self) {
        // It may be closed already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) | Self::Control(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

/// Both threads of a viewer use the connection at the same time.
impl Read for &Connection {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Tcp(stream) => (&*stream).read(bytes),
            Connection::Unix(stream) | Connection::Control(stream) => (&*stream).read(bytes),
        }
    }
}

impl Write for &Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Connection::Tcp(stream) => (&*stream).write(bytes),
            Connection::Unix(stream) | Connection::Control(stream) => (&*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
