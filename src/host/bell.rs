//! Wakes a channel's thread.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use super::event::EventFd;

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
    eventfd: EventFd,
}

impl Bell {
    /// Creates a bell that has not been rung.
    ///
    /// # Errors
    /// Returns an error if the host lacks a descriptor.
    pub fn new() -> io::Result<Self> {
        Ok(Self { eventfd: EventFd::blocking()?, watch: OnceLock::new() })
    }

    /// Wakes the thread that waits, or the next one that will.
    pub fn ring(&self) {
        self.eventfd.signal();
    }

    /// Returns a second descriptor of the eventfd. Signalling it rings the bell.
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
        self.ring_when(source, true, false)
    }

    /// Rings once `source` is readable or writable, as far as that is wanted, or once its other side has hung up: at once if that
    /// is so already, and only once per call. Replaces what was wanted of `source` before.
    ///
    /// # Errors
    /// As [`ring_on`](Self::ring_on).
    pub fn ring_when(&self, source: BorrowedFd<'_>, readable: bool, writable: bool) -> io::Result<()> {
        let epoll = self.epoll()?;
        let (token, mut once) = (EventData::new_u64(0), EventFlags::ONESHOT);
        once.set(EventFlags::IN, readable);
        once.set(EventFlags::OUT, writable);
        match epoll::modify(epoll, source, token, once) {
            Err(Errno::NOENT) => Ok(epoll::add(epoll, source, token, once)?),
            result => Ok(result?),
        }
    }

    fn epoll(&self) -> io::Result<&OwnedFd> {
        if let Some(watch) = self.watch.get() {
            return Ok(&watch.epoll);
        }
        let watch = Watch { epoll: epoll::create(CreateFlags::CLOEXEC)?, eventfd: self.eventfd()? };
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
        let Some(watch) = self.watch.get() else {
            if time.is_some() && !self.eventfd.is_signalled_within(time)? {
                return Ok(());
            }
            return self.eventfd.wait();
        };
        // A time that is too long for the kernel is as good as none.
        let limit = time.and_then(|time| Timespec::try_from(time).ok());
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
            None => self.eventfd().expect("a descriptor").into(),
        }
    }
}

#[cfg(test)]
#[path = "bell_tests.rs"]
mod tests;
