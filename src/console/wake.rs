//! Wakes a thread from its poll.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::host::event::EventFd;

/// An eventfd that a thread polls, among other descriptors.
pub(super) struct Waker(EventFd);

impl Waker {
    pub fn new() -> io::Result<Self> {
        EventFd::new().map(Self)
    }

    /// Makes the thread's current or next poll return.
    pub fn wake(&self) {
        self.0.signal();
    }

    /// Clears all previous wakes.
    pub fn clear(&self) {
        self.0.take();
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
