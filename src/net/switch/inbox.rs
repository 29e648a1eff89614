//! The frames that wait at a port of a switch.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use super::MAX_PORTS;
use crate::host::event::EventFd;
use crate::host::lock::Mutex;
use crate::net::frame::{Frame, FrameBuffer};

/// Maximum size of a port's inbox, including [`FRAME_COST`].
const INBOX: usize = 4 << 20;

/// Memory overhead of a frame.
const FRAME_COST: usize = 256;

/// The frames that wait at a port.
#[derive(Debug, Default)]
struct Waiting {
    /// By the port that they come from.
    from: [Source; MAX_PORTS],
    cost: usize,
    /// The next source.
    turn: usize,
}

#[derive(Debug, Default)]
struct Source {
    frames: VecDeque<FrameBuffer>,
    cost: usize,
}

const fn cost(length: usize) -> usize {
    length + FRAME_COST
}

impl Waiting {
    /// Adds a frame. Returns the number of frames that were dropped, which may include this one.
    fn push(&mut self, source: usize, frame: Frame<'_>) -> u64 {
        let wanted = cost(frame.bytes.len());
        let mut dropped = 0;
        while self.cost + wanted > INBOX {
            // Includes the new frame, so that the source with the most cannot add more.
            let load = |port: &usize| self.from[*port].cost + if *port == source { wanted } else { 0 };
            let longest = (0..MAX_PORTS).max_by_key(load).unwrap_or(source);
            dropped += 1;
            match self.from[longest].frames.pop_back_if(|_| longest != source) {
                Some(victim) => self.uncount(longest, victim.bytes.len()),
                None => return dropped,
            }
        }
        let mut buffer = FrameBuffer::default();
        buffer.set(frame);
        self.from[source].frames.push_back(buffer);
        self.from[source].cost += wanted;
        self.cost += wanted;
        dropped
    }

    fn uncount(&mut self, port: usize, length: usize) {
        self.from[port].cost -= cost(length);
        self.cost -= cost(length);
    }

    fn pop(&mut self) -> Option<(usize, FrameBuffer)> {
        if self.cost == 0 {
            return None;
        }
        for step in 1..=MAX_PORTS {
            let port = (self.turn + step) % MAX_PORTS;
            if let Some(frame) = self.from[port].frames.pop_front() {
                self.turn = port;
                self.uncount(port, frame.bytes.len());
                return Some((port, frame));
            }
        }
        None
    }
}

/// A port's inbox.
#[derive(Debug)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    ready: EventFd,
    dropped: AtomicU64,
}

impl Inbox {
    pub(super) fn new() -> io::Result<Self> {
        let ready = EventFd::new()?;
        Ok(Self { waiting: Mutex::default(), ready, dropped: AtomicU64::new(0) })
    }

    /// Returns a descriptor that is readable when a frame waits.
    pub(super) fn readiness(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Adds a frame from port `source`, or drops it or another one.
    pub(super) fn push(&self, source: usize, frame: Frame<'_>) {
        let mut waiting = self.waiting.lock();
        let was_empty = waiting.cost == 0;
        let dropped = waiting.push(source, frame);
        if was_empty && waiting.cost > 0 {
            self.ready.signal();
        }
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
    }

    /// Returns the next frame, in rotation over the sources, and its source.
    pub(super) fn pop(&self) -> Option<(usize, FrameBuffer)> {
        let mut waiting = self.waiting.lock();
        let frame = waiting.pop();
        if frame.is_none() {
            self.ready.take();
        }
        frame
    }
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
