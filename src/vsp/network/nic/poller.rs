//! The thread that wakes an adapter's channels when frames wait in their queues: handlers sleep on their channel's eventfd alone.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::Lane;

/// The token of the eventfd that ends the thread. Queues have the numbers of their lanes.
const STOP: u64 = u64::MAX;

/// Runs until it is dropped.
pub(super) struct Poller {
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Poller {
    /// Watches the queues of the first `sources` lanes. None if no frame will ever come out of them.
    ///
    /// # Errors
    /// The host has no thread or no descriptors for it.
    pub fn start(name: &str, lanes: Arc<[Lane]>, sources: usize) -> io::Result<Option<Self>> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut watched = 0;
        for (number, lane) in lanes.iter().enumerate().take(sources) {
            if let Some(readiness) = lane.queue().readiness() {
                // Once for each frame or batch of them: whoever is woken fetches all.
                epoll::add(&epoll, readiness, EventData::new_u64(number as u64), EventFlags::IN | EventFlags::ET)?;
                watched += 1;
            }
        }
        if watched == 0 {
            return Ok(None);
        }
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &stop, EventData::new_u64(STOP), EventFlags::IN)?;
        let thread = thread::Builder::new().name(name.to_string()).spawn(move || run(&epoll, &lanes))?;
        Ok(Some(Self { stop, thread: Some(thread) }))
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        // An eventfd that nobody else writes has room.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            log::error!("the thread of a network adapter panicked");
        }
    }
}

fn run(epoll: &OwnedFd, lanes: &[Lane]) {
    const BATCH: usize = 64;
    let mut events: Vec<Event> = Vec::with_capacity(BATCH);
    loop {
        events.clear();
        match epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return log::error!("a network adapter hears of no more frames: {error}"),
        }
        for event in &events {
            let number = event.data.u64();
            if number == STOP {
                return;
            }
            // The primary channel looks after the queues of channels that are not open.
            let lane = lanes.get(number as usize).filter(|lane| lane.is_open());
            lane.or_else(|| lanes.first()).inspect(|lane| lane.wake());
        }
    }
}
