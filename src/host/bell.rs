//! What a channel's thread sleeps on.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use vmm_sys_util::eventfd::EventFd;

use crate::host::event::into_descriptor;

/// An eventfd, and with it whatever else a device wants to be woken by.
///
/// Most devices have nothing else; then a sleep is one system call on the eventfd alone. Others get an epoll that has the eventfd in it.
#[derive(Debug)]
pub(crate) struct Bell {
    eventfd: EventFd,
    watch: OnceLock<Watch>,
}

/// An epoll, and the eventfd under the descriptor that the epoll knows it by.
#[derive(Debug)]
struct Watch {
    epoll: OwnedFd,
    eventfd: OwnedFd,
}

impl Bell {
    /// One that nobody has rung.
    ///
    /// # Errors
    /// The host has no descriptor for it.
    pub fn new() -> io::Result<Self> {
        Ok(Self { eventfd: EventFd::new(libc::EFD_CLOEXEC)?, watch: OnceLock::new() })
    }

    /// Wakes whoever sleeps, or is about to.
    pub fn ring(&self) {
        // Fails, or waits, only where 2^64 - 1 calls have not been heard.
        let _ = self.eventfd.write(1);
    }

    /// A copy of the eventfd, which rings when it is written.
    ///
    /// # Errors
    /// The host has no descriptor for it.
    pub fn eventfd(&self) -> io::Result<EventFd> {
        self.eventfd.try_clone()
    }

    /// Rings once `source` is readable, if it is not already; once, until this is called again.
    ///
    /// The source must not be duplicated: when it is closed, it is forgotten.
    ///
    /// # Errors
    /// The host has no memory or no descriptors for it, or `source` is nothing that one can wait for.
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
        // Each write is an edge, so it need not be read.
        let edges = EventFlags::IN | EventFlags::ET;
        epoll::add(&watch.epoll, &watch.eventfd, EventData::new_u64(0), edges)?;
        let watch = self.watch.get_or_init(|| watch);
        // Who sleeps on the eventfd alone has to know.
        self.ring();
        Ok(&watch.epoll)
    }

    /// Sleeps until it rings. A ring may be heard twice, and many as one.
    ///
    /// # Errors
    /// None that a descriptor which is open gives, but for an interruption by a signal.
    pub fn wait(&self) -> io::Result<()> {
        let Some(watch) = self.watch.get() else { return self.eventfd.read().map(drop) };
        // What has happened is found out by looking: that something has is enough.
        let mut room = [const { MaybeUninit::uninit() }; 8];
        epoll::wait(&watch.epoll, &mut room, None)?;
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
