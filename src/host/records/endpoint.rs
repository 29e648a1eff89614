//! An inherited file descriptor that is read and written without blocking.
//!
//! `O_NONBLOCK` belongs to the open file, which is shared with the parent: the shell would find its terminal
//! non-blocking. So the file is opened again through /proc. If that fails (a socket, no permission, no /proc), poll is
//! called first, and no more is transferred than a pipe accepts at once.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};

/// PIPE_BUF on Linux: a pipe that polls writable accepts this many bytes at once.
const AT_ONCE: usize = 4096;

/// A separate handle to a file that another process may also have open.
pub(crate) struct Endpoint {
    fd: Descriptor,
    asks_first: bool,
}

enum Descriptor {
    Own(OwnedFd),
    StandardError(io::Stderr),
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) => fd.as_fd(),
            Self::StandardError(error) => error.as_fd(),
        }
    }
}

impl Endpoint {
    /// Creates a handle for reading.
    pub fn for_reading(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Self::new(fd, OFlags::RDONLY)
    }

    /// Creates a handle for writing.
    pub fn for_writing(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Self::new(fd, OFlags::WRONLY)
    }

    /// Creates a handle to a file that no other process has open, with `O_NONBLOCK` set.
    pub fn of_own(fd: OwnedFd) -> Self {
        Self { fd: Descriptor::Own(fd), asks_first: false }
    }

    /// Creates a handle to standard error. If the process has no descriptor left, it is standard error itself: just then there is
    /// something to say.
    pub fn of_standard_error() -> Self {
        let shared = || Self { fd: Descriptor::StandardError(io::stderr()), asks_first: true };
        Self::for_writing(io::stderr().as_fd()).unwrap_or_else(|_| shared())
    }

    fn new(fd: BorrowedFd<'_>, access: OFlags) -> io::Result<Self> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode);
        if matches!(kind, FileType::Fifo | FileType::CharacterDevice) {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            if let Ok(fd) = rustix::fs::open(path, flags, Mode::empty()) {
                return Ok(Self::of_own(fd));
            }
        }
        let fd = rustix::io::fcntl_dupfd_cloexec(fd, 3)?;
        Ok(Self { fd: Descriptor::Own(fd), asks_first: kind != FileType::RegularFile })
    }

    /// Reads available bytes. Returns `WouldBlock` if there are none, and 0 at the end.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.asks_first && !self.is_ready(PollFlags::IN)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(rustix::io::read(&self.fd, buffer)?)
    }

    /// Writes as much as possible. Returns `WouldBlock` if nothing can be written.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if !self.asks_first {
            return Ok(rustix::io::write(&self.fd, bytes)?);
        }
        if !self.is_ready(PollFlags::OUT)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(rustix::io::write(&self.fd, &bytes[..bytes.len().min(AT_ONCE)])?)
    }

    fn is_ready(&self, flags: PollFlags) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.fd, flags)];
        Ok(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0)
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
