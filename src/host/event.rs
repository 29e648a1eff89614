//! Eventfds: a counter in the kernel that one side signals and the other one waits for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmm_sys_util::eventfd::{self, EFD_CLOEXEC, EFD_NONBLOCK};

/// An eventfd, the only kind here. Its descriptor is readable while it is signalled, and the kernel can signal it (ioeventfd, io_uring) or wait
/// for it (irqfd).
#[derive(Debug)]
pub struct EventFd(eventfd::EventFd);

impl EventFd {
    /// Creates one that is not signalled, for a thread that polls it among other descriptors.
    ///
    /// # Errors
    /// Returns an error if the host lacks a descriptor.
    pub fn new() -> io::Result<Self> {
        eventfd::EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map(Self)
    }

    /// Creates one that is not signalled, for a thread that [waits](Self::wait) for nothing else. That is one system call.
    ///
    /// # Errors
    /// Returns an error if the host lacks a descriptor.
    pub fn blocking() -> io::Result<Self> {
        eventfd::EventFd::new(EFD_CLOEXEC).map(Self)
    }

    /// Signals it.
    pub fn signal(&self) {
        // Fails or blocks only at the counter's limit, after 2^64 - 1 signals that nobody took.
        let _ = self.0.write(1);
    }

    /// Takes all signals, and returns their number. A [blocking](Self::blocking) one blocks if there are none.
    pub fn take(&self) -> u64 {
        self.0.read().unwrap_or(0)
    }

    /// Waits until a [blocking](Self::blocking) eventfd is signalled, and takes all signals.
    ///
    /// # Errors
    /// Returns an error if a signal handler interrupted the wait.
    pub fn wait(&self) -> io::Result<()> {
        self.0.read().map(drop)
    }

    /// Returns `true` if it is signalled now or within this time. Takes no signals.
    ///
    /// # Errors
    /// Returns an error if a signal handler interrupted the wait.
    pub fn is_signalled_within(&self, most: Option<Duration>) -> io::Result<bool> {
        // A time that is too long for the kernel has no end either.
        let time = most.and_then(|most| Timespec::try_from(most).ok());
        Ok(poll(&mut [PollFd::new(&self.as_fd(), PollFlags::IN)], time.as_ref())? > 0)
    }

    /// Returns a second descriptor of the same eventfd.
    ///
    /// # Errors
    /// Returns an error if the host lacks a descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Returns it as KVM's system calls want it.
    pub fn as_eventfd(&self) -> &eventfd::EventFd {
        &self.0
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open for as long as `self` is.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

impl From<EventFd> for OwnedFd {
    fn from(event: EventFd) -> Self {
        // SAFETY: the descriptor is open, and `event`, its only owner, has just released it.
        unsafe { Self::from_raw_fd(event.0.into_raw_fd()) }
    }
}

/// The descriptor must be an eventfd's.
impl From<OwnedFd> for EventFd {
    fn from(descriptor: OwnedFd) -> Self {
        // SAFETY: the descriptor is open, and `descriptor`, its only owner, has just released it.
        Self(unsafe { eventfd::EventFd::from_raw_fd(descriptor.into_raw_fd()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_counted_until_they_are_taken() {
        let event = EventFd::new().expect("an eventfd");
        let other = EventFd::from(OwnedFd::from(event.try_clone().expect("a copy")));
        let nothing = Some(Duration::ZERO);
        assert_eq!((event.take(), event.is_signalled_within(nothing).expect("a poll")), (0, false));
        event.signal();
        other.signal();
        assert!(event.is_signalled_within(None).expect("a poll"));
        assert_eq!((other.take(), event.take()), (2, 0));
        let blocking = EventFd::blocking().expect("an eventfd");
        blocking.signal();
        blocking.wait().expect("a signal");
        assert!(!blocking.is_signalled_within(nothing).expect("a poll"));
    }
}
