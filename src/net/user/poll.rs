//! Readiness of many sockets, a timer and a wake-up, combined in one descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

use crate::host::descriptors::Wake;
use crate::host::event::EventFd;

/// Tokens of what is not a socket.
const TIMER: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

/// The readiness of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// As given to [`Poll::add`].
    pub token: u64,
    /// There is something to read, an end, or an error.
    pub readable: bool,
    /// There is room to write, or an error.
    pub writable: bool,
}

/// The set of sockets; see the module's description.
#[derive(Debug)]
pub struct Poll {
    epoll: OwnedFd,
    timer: OwnedFd,
    wake: EventFd,
}

impl Poll {
    /// Creates an empty set.
    ///
    /// # Errors
    /// Returns an error if the host has no descriptors left.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let wake = EventFd::new()?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Self { epoll, timer, wake })
    }

    /// Watches a socket until it is closed. Its readiness is reported once per change.
    ///
    /// # Errors
    /// Returns the error of the host.
    pub fn add(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let events = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token), events)?)
    }

    /// Returns the changes since the last call.
    pub fn ready(&self) -> Vec<Ready> {
        const BATCH: usize = 256;
        let mut events: Vec<Event> = Vec::with_capacity(BATCH);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let buffer = rustix::buffer::spare_capacity(&mut events);
        if epoll::wait(&self.epoll, buffer, Some(&at_once)).is_err() {
            return Vec::new();
        }
        let mut ready = Vec::with_capacity(events.len());
        for event in events {
            let (token, flags) = (event.data.u64(), event.flags);
            let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            match token {
                TIMER => drop(rustix::io::read(&self.timer, &mut [0_u8; 8])),
                WAKE => drop(self.wake.take()),
                _ => ready.push(Ready {
                    token,
                    readable: failed || flags.intersects(EventFlags::IN | EventFlags::RDHUP),
                    writable: failed || flags.contains(EventFlags::OUT),
                }),
            }
        }
        ready
    }

    /// Makes the descriptor readable after this time, or never.
    pub fn set_timer(&self, after: Option<Duration>) {
        // A time of zero would disable the timer.
        let after = after.map(|after| after.max(Duration::from_nanos(1)));
        let value =
            after.and_then(|after| Timespec::try_from(after).ok()).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value: value });
    }

    /// Makes the descriptor readable.
    pub fn wake(&self) {
        self.wake.signal();
    }
}

impl Wake for Poll {
    fn wake(&self) {
        Self::wake(self);
    }
}

impl AsFd for Poll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
