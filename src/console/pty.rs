//! A console on its own pseudo-terminal, whose other end can be opened and closed by users.
//!
//! Linux reports when the last user of the slave has closed it (the master hangs up), but not when the next one opens
//! it. inotify does, so nothing has to poll.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::ConsoleError;
use super::backend::{Backend, Typed};

pub(super) struct PtyBackend {
    master: OwnedFd,
    /// Reports when the slave is opened.
    opened: OwnedFd,
    path: PathBuf,
    /// The slave has a reader.
    visited: bool,
    /// Input from before the last user left may be unread.
    typing: bool,
}

impl PtyBackend {
    /// Creates a new pseudo-terminal in raw mode.
    pub fn open() -> Result<Self, ConsoleError> {
        Self::try_open().map_err(ConsoleError::Pty)
    }

    fn try_open() -> io::Result<Self> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        rustix::fs::fcntl_setfl(&master, OFlags::NONBLOCK)?;
        let path = PathBuf::from(OsString::from_vec(rustix::pty::ptsname(&master, Vec::new())?.into_bytes()));
        // The slave's settings, set through the master: they exist as long as the master.
        let mut settings = tcgetattr(&master)?;
        settings.make_raw();
        tcsetattr(&master, OptionalActions::Now, &settings)?;
        // A slave that was never opened does not count as hung up.
        drop(rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?);
        let opened = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&opened, &path, WatchFlags::OPEN)?;
        Ok(Self { master, opened, path, visited: false, typing: false })
    }

    /// Returns the path of the slave.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn has_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(&self.master, PollFlags::empty())];
        let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        fds[0].revents().contains(PollFlags::HUP)
    }
}

impl Backend for PtyBackend {
    fn source(&self) -> Option<BorrowedFd<'_>> {
        self.typing.then(|| self.master.as_fd())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Typed {
        match rustix::io::read(&self.master, buffer) {
            Ok(count) if count > 0 => return Typed::Bytes(count),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // EIO on a master means that the slave is closed and everything is read.
            _ => (self.visited, self.typing) = (false, false),
        }
        Typed::Bytes(0)
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        self.visited.then(|| self.master.as_fd())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The master accepts bytes for a closed slave, and they are lost.
        if self.has_hung_up() {
            self.visited = false;
            return Err(ErrorKind::WouldBlock.into());
        }
        match rustix::io::write(&self.master, bytes) {
            // A slave without enough room is not an error, either.
            Ok(0) => Err(ErrorKind::WouldBlock.into()),
            other => Ok(other?),
        }
    }

    fn has_visitors(&self) -> bool {
        true
    }

    fn hang_up(&mut self) {
        self.visited = false;
    }

    fn door(&self) -> Option<BorrowedFd<'_>> {
        (!self.visited).then(|| self.opened.as_fd())
    }

    fn open_door(&mut self) {
        let mut buffer = [MaybeUninit::uninit(); 512];
        let mut events = inotify::Reader::new(&self.opened, &mut buffer);
        while events.next().is_ok() {}
        (self.visited, self.typing) = (!self.has_hung_up(), true);
    }

    fn explain(&self, _error: &io::Error) -> (String, &'static str) {
        (self.path.display().to_string(), "open it again")
    }
}

#[cfg(test)]
#[path = "pty_tests.rs"]
mod tests;
