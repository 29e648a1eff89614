//! A file descriptor that was given to us, read and written without ever blocking.
//!
//! `O_NONBLOCK` belongs to the open file, which we share with whoever gave it: our parent's shell would find its
//! terminal non-blocking. So we open the file once more through /proc. Where that cannot be done (a socket, no
//! permission, no /proc) we ask poll first and move no more than a pipe takes at once.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};

/// POSIX's PIPE_BUF on Linux: a pipe that polls writable takes that many bytes at once.
const AT_ONCE: usize = 4096;

/// Our own handle to a file that somebody else has open too.
pub(crate) struct Endpoint {
    fd: OwnedFd,
    asks_first: bool,
}

impl Endpoint {
    /// A handle for reading.
    pub fn for_reading(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Self::new(fd, OFlags::RDONLY)
    }

    /// A handle for writing.
    pub fn for_writing(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Self::new(fd, OFlags::WRONLY)
    }

    /// A handle to a file that nobody else has open, with `O_NONBLOCK` set.
    pub fn of_own(fd: OwnedFd) -> Self {
        Self { fd, asks_first: false }
    }

    fn new(fd: BorrowedFd<'_>, access: OFlags) -> io::Result<Self> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode);
        if matches!(kind, FileType::Fifo | FileType::CharacterDevice) {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            if let Ok(fd) = rustix::fs::open(path, flags, Mode::empty()) {
                return Ok(Self { fd, asks_first: false });
            }
        }
        let fd = rustix::io::fcntl_dupfd_cloexec(fd, 3)?;
        Ok(Self { fd, asks_first: kind != FileType::RegularFile })
    }

    /// Reads what is there. `WouldBlock` when nothing is, 0 at the end.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.asks_first && !self.is_ready(PollFlags::IN)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(rustix::io::read(&self.fd, buffer)?)
    }

    /// Writes as much as goes. `WouldBlock` when nothing does.
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
