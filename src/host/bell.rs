//! Wakes a channel's thread.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use vmm_sys_util::eventfd::EventFd;

use crate::host::event::into_descriptor;

/// A bell: an eventfd that wakes a channel's thread, together with other descriptors that a device adds.
///
/// Most devices add none; then waiting is one system call on the eventfd. Otherwise it uses an epoll that contains the
/// eventfd.
#[derive(Debug)]
pub(crate) struct Bell {
    eventfd: EventFd,
    watch: OnceLock<Watch>,
}

/// An epoll, and the eventfd's descriptor that is registered in it.
#[derive(Debug)]
struct Watch {
    epoll: OwnedFd,
    eventfd: OwnedFd,
}

impl Bell {
    /// Creates a bell that has not been rung.
    ///
    /// # Errors
    /// Returns an error if the host lacks a descriptor.
    pub fn new() -> io::Result<Self> {
        Ok(Self { eventfd: EventFd::new(libc::EFD_CLOEXEC)?, watch: OnceLock::new() })
    }

    /// Wakes the thread that waits, or the next one that will.
    pub fn ring(&self) {
        // Fails or blocks only after 2^64 - 1 calls without a wait.
        let _ = self.eventfd.write(1);
    }

    /// Returns a copy of the eventfd. Writing to it rings the bell.
    ///
    /// # Errors
    /// Returns an error if the host lacks a descriptor.
    pub fn eventfd(&self) -> io::Result<EventFd> {
        self.eventfd.try_clone()
    }

    /// Rings once `source` is readable: at once if it already is, and only once per call.
    ///
    /// The source must not be duplicated. It is removed when it is closed.
    ///
    /// # Errors
    /// Returns an error if the host lacks memory or descriptors, or if `source` cannot be polled.
    pub fn ring_on(&self, source: BorrowedFd<'_>) -> io::Result<()> {
        let epoll = self.epoll()?;
        let (token, once) = (EventData::new_u64(0), EventFlags::IN | EventFlags::ONESHOT);
        match epoll::modify(epoll, source, token, once) {
            Err(Errno::NOENT) => Ok(epoll::add(epoll, source, token, once)?),
            result => Ok(result?),
        }
    }

    fn epoll(&self) -> io::Result<&OwnedFd> {
        if let Some(watch) = self.watch.get() {
            return Ok(&watch.epoll);
        }
        let watch = Watch { epoll: epoll::create(CreateFlags::CLOEXEC)?, eventfd: into_descriptor(self.eventfd()?) };
        // Each write is an edge, so the eventfd need not be read.
        let edges = EventFlags::IN | EventFlags::ET;
        epoll::add(&watch.epoll, &watch.eventfd, EventData::new_u64(0), edges)?;
        let watch = self.watch.get_or_init(|| watch);
        // Wakes a thread that waits on the eventfd alone.
        self.ring();
        Ok(&watch.epoll)
    }

    /// Waits until the bell rings, or at most for `time`. A wake-up may be repeated, and several may be combined.
    ///
    /// # Errors
    /// Returns an error only if the wait was interrupted by a signal.
    pub fn wait(&self, time: Option<Duration>) -> io::Result<()> {
        // A time that is too long for the kernel is as good as none.
        let limit = time.and_then(|time| Timespec::try_from(time).ok());
        let Some(watch) = self.watch.get() else {
            if let Some(limit) = &limit {
                // SAFETY: the descriptor is the eventfd's, which lives as long as `self`.
                let eventfd = unsafe { BorrowedFd::borrow_raw(self.eventfd.as_raw_fd()) };
                if poll(&mut [PollFd::from_borrowed_fd(eventfd, PollFlags::IN)], Some(limit))? == 0 {
                    return Ok(());
                }
            }
            return self.eventfd.read().map(drop);
        };
        // The caller checks what has happened, so the events themselves are not needed.
        let mut room = [const { MaybeUninit::uninit() }; 8];
        epoll::wait(&watch.epoll, &mut room, limit.as_ref())?;
        Ok(())
    }

    /// Readable when [`wait`](Self::wait) would return at once.
    #[cfg(test)]
    pub fn readiness(&self) -> OwnedFd {
        match self.watch.get() {
            Some(watch) => watch.epoll.try_clone().expect("a descriptor"),
            None => into_descriptor(self.eventfd().expect("a descriptor")),
        }
    }
}

#[cfg(test)]
#[path = "bell_tests.rs"]
mod tests;
