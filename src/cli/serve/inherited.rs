//! Socket activation: sockets at which systemd listens, and which it passes to the service (sd_listen_fds(3)).
//!
//! systemd owns them: their files stay when the service ends, so no client is refused while it starts again.
#![allow(unsafe_code)]

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

/// The first descriptor that is passed.
const FIRST: RawFd = 3;
/// Maximum number of sockets.
const MAX_SOCKETS: i32 = 64;
/// The variables, which are not for processes that the service starts.
pub const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// A socket that listens.
pub enum Inherited {
    /// A Unix socket.
    Unix(UnixListener),
    /// A TCP port.
    Tcp(TcpListener),
}

/// Returns the sockets that this process has been given. There are none if it was not started by its sockets.
///
/// # Errors
/// Returns an error, with a remedy for the unit, if one of them is of another kind.
pub fn take() -> io::Result<Vec<Inherited>> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<i32>().ok();
    // The variables may have been meant for another process, which has started this one.
    let is_ours = number("LISTEN_PID").is_some_and(|id| u32::try_from(id) == Ok(std::process::id()));
    let count = if is_ours { number("LISTEN_FDS").unwrap_or_default() } else { 0 };
    if !(0..=MAX_SOCKETS).contains(&count) {
        return Err(wrong(&format!("LISTEN_FDS is {count}, and at most {MAX_SOCKETS} sockets can be passed")));
    }
    (FIRST..FIRST + count).map(|number| open(number).and_then(|socket| sorted(number, socket))).collect()
}

/// Returns a descriptor of this process as one of its own. The given one is closed in processes that it starts.
fn open(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with these commands takes no pointer, and accepts a descriptor that is not open.
    let copy = unsafe {
        libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0)
    };
    if copy < 0 {
        return Err(wrong(&format!("descriptor {number} is not open")));
    }
    // SAFETY: the descriptor was made here, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

fn sorted(number: RawFd, socket: OwnedFd) -> io::Result<Inherited> {
    let listens = socket_type(&socket) == Ok(SocketType::STREAM) && socket_acceptconn(&socket) == Ok(true);
    let found = match socket_domain(&socket) {
        Ok(AddressFamily::UNIX) if listens => Inherited::Unix(socket.into()),
        Ok(AddressFamily::INET | AddressFamily::INET6) if listens => Inherited::Tcp(socket.into()),
        _ => {
            let text = format!(
                "descriptor {number} is not a stream socket that listens; the socket unit needs ListenStream=, with a path or an \
                 address, and Accept=no"
            );
            return Err(wrong(&text));
        }
    };
    match &found {
        Inherited::Unix(listener) => listener.set_nonblocking(true)?,
        Inherited::Tcp(listener) => listener.set_nonblocking(true)?,
    }
    Ok(found)
}

fn wrong(problem: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, format!("sockets of the service manager: {problem}"))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn only_stream_sockets_that_listen_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(folder.path().join("a")).unwrap();
        let (tcp, datagram) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let (connected, _other) = UnixStream::pair().unwrap();
        let sort = |number: RawFd| sorted(number, open(number)?);
        assert!(matches!(sort(unix.as_raw_fd()), Ok(Inherited::Unix(_))));
        assert!(matches!(sort(tcp.as_raw_fd()), Ok(Inherited::Tcp(_))));
        let file = std::fs::File::open("/dev/null").unwrap();
        for other in [datagram.as_raw_fd(), connected.as_raw_fd(), file.as_raw_fd()] {
            let error = sort(other).err().unwrap().to_string();
            assert!(error.contains("ListenStream="), "{error}");
        }
        assert!(sort(1 << 20).err().unwrap().to_string().ends_with("is not open"));
        assert!(take().unwrap().is_empty(), "the variables are not set in tests");
    }
}
