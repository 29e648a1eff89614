//! Control sockets as clients find them: their names, connections within a time, and the processes that listen.
//!
//! A connection to a process that hangs waits in the queue of its socket, also after its client has closed it. If the queue is
//! full, the host lets the next client wait, so each connection here has a time limit.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Time limit for a connection for which there must be room at once.
const NO_TIME: Duration = Duration::from_millis(1);
/// The flags of a socket that listens, in `/proc/net/unix`.
const LISTENS: &str = "00010000";

/// Connects to a socket.
///
/// # Errors
/// Returns the error of the host, [`ErrorKind::WouldBlock`] if the socket's queue is full until the time is over.
pub fn connect(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let socket: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // No time at all would mean no limit.
    set_socket_timeout(&socket, Timeout::Send, Some(limit.max(NO_TIME)))?;
    while let Err(error) = rustix::net::connect(&socket, &address) {
        if error != Errno::INTR {
            return Err(error.into());
        }
    }
    set_socket_timeout(&socket, Timeout::Send, None)?;
    Ok(socket.into())
}

/// The process that listens at a socket.
pub struct Listening {
    /// Its number.
    pub id: u32,
    handle: OwnedFd,
}

impl Listening {
    /// Finds the process that listens at a socket. It need not answer.
    ///
    /// # Errors
    /// Returns an error if nobody listens there, or if the process cannot be reached from here.
    pub fn at(path: &Path) -> io::Result<Self> {
        let found = listener(path)?;
        let handle = pidfd_open(found, PidfdFlags::empty())?;
        // If it still listens, the number has not come to another process in the meantime.
        if listener(path)? != found {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        Ok(Self { id: found.as_raw_pid().cast_unsigned(), handle })
    }

    /// Kills the process, which may have ended already.
    ///
    /// # Errors
    /// Returns an error if it is another user's.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.handle, Signal::KILL) {
            Err(Errno::SRCH) => Ok(()),
            other => other.map_err(Into::into),
        }
    }

    /// Waits for its end. Returns `false` if the time is over before.
    pub fn ends_within(&self, limit: Duration) -> bool {
        let mut fds = [PollFd::new(&self.handle, PollFlags::IN)];
        let limit = Timespec::try_from(limit).ok();
        poll(&mut fds, limit.as_ref()).is_ok() && !fds[0].revents().is_empty()
    }
}

/// Returns the number of the process that listens at a socket.
fn listener(path: &Path) -> io::Result<Pid> {
    match connect(path, NO_TIME) {
        Ok(stream) => Ok(socket_peercred(stream)?.pid),
        Err(full) if full.kind() == ErrorKind::WouldBlock => owner(path)?.ok_or(full),
        Err(error) => Err(error),
    }
}

/// Searches the processes of this user for the one that has the socket which listens at a path.
fn owner(path: &Path) -> io::Result<Option<Pid>> {
    let (all, end) = (fs::read_to_string("/proc/net/unix")?, format!(" {}", path.display()));
    let listens = |fields: &[&str]| fields.get(3) == Some(&LISTENS);
    let lines = all.lines().filter(|line| line.ends_with(&end));
    let mut sockets = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let Some(socket) = sockets.find(|fields| listens(fields)) else { return Ok(None) };
    let link = format!("socket:[{}]", socket.get(6).unwrap_or(&""));
    for process in fs::read_dir("/proc")?.flatten() {
        let number = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        // Those of other users have no files for us.
        let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
        if number.is_some() && links.any(|other| other.as_os_str() == link.as_str()) {
            return Ok(number);
        }
    }
    Ok(None)
}

/// Returns `true`, and removes the socket, if nobody listens on it.
pub fn is_stale(path: &Path, directory: &Path) -> bool {
    let refuses = || connect(path, NO_TIME).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    if !refuses() {
        return false;
    }
    // A machine that starts takes the same lock.
    if let Ok(lock) = File::open(directory)
        && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
        && refuses()
    {
        let _ = fs::remove_file(path);
    }
    true
}

/// Returns the name of the machine whose socket has this path.
pub fn name_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.as_bytes().strip_suffix(b".sock")?;
    let mut decoded = Vec::new();
    let mut rest = name.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' if rest.as_slice().is_empty() => {}
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(*digit).to_digit(16));
                decoded.push((digit()? << 4 | digit()?) as u8);
            }
            byte => decoded.push(*byte),
        }
    }
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_name_of_a_machine_is_decoded_from_its_sockets_file_name() {
        assert_eq!(name_of(Path::new("/run/viridian/guest-2.sock")), Some("guest-2".into()));
        assert_eq!(name_of(Path::new("/run/a%20b%2F%C3%BC.sock")), Some("a b/ü".into()));
        assert_eq!(name_of(Path::new("/run/%.sock")), Some(String::new()));
        for other in ["/run/guest", "/run/%2.sock", "/run/%zz.sock"] {
            assert_eq!(name_of(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn a_process_that_accepts_nobody_is_found_and_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        assert_eq!(Listening::at(&path).err().unwrap().kind(), ErrorKind::NotFound);
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(Listening::at(&path).unwrap().id, std::process::id());
        // Those who have gone still wait in the queue.
        let full = (0..1_000_000).find_map(|_| connect(&path, NO_TIME).err());
        assert_eq!(full.unwrap().kind(), ErrorKind::WouldBlock);
        assert_eq!(Listening::at(&path).unwrap().id, std::process::id());
        assert!(!is_stale(&path, folder.path()));
        drop(listener);
        assert_eq!(Listening::at(&path).err().unwrap().kind(), ErrorKind::ConnectionRefused);
        assert!(is_stale(&path, folder.path()) && !path.exists());
    }

    #[test]
    fn a_process_is_killed_and_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let handle = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let process = Listening { id: child.id(), handle };
        assert!(!process.ends_within(Duration::from_millis(1)));
        process.kill().unwrap();
        assert!(process.ends_within(Duration::from_secs(600)));
        child.wait().unwrap();
        process.kill().unwrap();
    }
}
