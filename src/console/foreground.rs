//! A terminal that is raw while this process is in its foreground.
//!
//! The owner polls it beside its other descriptors. A job of a shell can be stopped, go to the background and return: see
//! [`super::jobs`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::termios::isatty;

use super::jobs::{GLANCE, JobControl};
use super::terminal::{NotRaw, RawMode, is_in_foreground};

pub use super::terminal::Interrupt;

/// Job control of a program that reads a terminal key by key.
///
/// The terminal is raw while this process is in its foreground. It is restored when this is dropped, at a stop and at a panic.
/// Poll this for input, call [`heed`](Self::heed) when it is readable, and read the terminal only after [`may_read`](Self::may_read).
pub struct Foreground {
    terminal: OwnedFd,
    interrupt: Interrupt,
    /// `None` while another process group is in the terminal's foreground: reading the terminal would stop this process.
    raw: Option<RawMode>,
    jobs: JobControl,
}

impl Foreground {
    /// Switches `input` to raw mode if this process is in its foreground. Returns `None` if it is not a terminal.
    ///
    /// # Errors
    /// Returns an error if the process has no descriptors left.
    pub fn of(input: BorrowedFd<'_>, interrupt: Interrupt) -> io::Result<Option<Self>> {
        if !isatty(input) {
            return Ok(None);
        }
        // First, because a stop right after the terminal has become raw must be noticed, too.
        let jobs = JobControl::listen()?;
        match RawMode::enter(input, interrupt) {
            Err(NotRaw::NotATerminal) => Ok(None),
            raw => {
                let terminal = rustix::io::fcntl_dupfd_cloexec(input, 3)?;
                Ok(Some(Self { terminal, interrupt, raw: raw.ok(), jobs }))
            }
        }
    }

    /// Returns `true` if the terminal is raw: this process was in the foreground when it last looked.
    pub fn is_raw(&self) -> bool {
        self.raw.is_some()
    }

    /// Returns `true` if reading the terminal does not stop this process.
    pub fn may_read(&mut self) -> bool {
        if !is_in_foreground(self.terminal.as_fd()) {
            self.raw = None;
        }
        self.raw.is_some()
    }

    /// If a stop was requested, restores the terminal and stops the process. Returns when the process continues, as
    /// [`look`](Self::look) does.
    pub fn heed(&mut self) -> bool {
        self.jobs.heed();
        self.look()
    }

    /// Checks whether this process is in the foreground, and if so makes the terminal raw. Returns `false` if the terminal is gone.
    pub fn look(&mut self) -> bool {
        // A shell may have changed its settings.
        self.raw = None;
        match RawMode::enter(self.terminal.as_fd(), self.interrupt) {
            Ok(raw) => self.raw = Some(raw),
            Err(NotRaw::InBackground) => {}
            Err(NotRaw::NotATerminal) => return false,
        }
        true
    }

    /// Returns the time after which to [look](Self::look) again. The kernel does not report that a job which never stopped is
    /// in the foreground now.
    pub fn next_look(&self) -> Option<Duration> {
        self.raw.is_none().then_some(GLANCE)
    }
}

/// Readable after a stop was requested, and after each continuation.
impl AsFd for Foreground {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.jobs.as_fd()
    }
}
