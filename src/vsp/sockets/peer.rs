//! The host's end of a connection: a Unix socket, or code of this process that answers what the guest sends.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use vm_memory::VolatileSlice;

use crate::memory::stream;
use crate::vmbus::vsp::{Port, ServiceError};

/// Number of bytes of replies that wait for the guest with which it is not answered any more, until it has read some.
const MAX_REPLIES: usize = 1 << 20;

/// Time for which replies that nobody waits for are kept for the next one.
const HOLD: Duration = Duration::from_millis(50);

/// Answers what a guest sends on a connection, on the thread of its channel: no other thread has to be woken for a reply. Dropped when the
/// connection is over. An answer may take its time: the machine pauses and ends without it. See [`Sockets::answer`](super::Sockets::answer).
pub trait Answerer: Send {
    /// Takes what the guest has sent, as far as it is complete and there is [room](Replies::has_room) for replies, and appends these. Returns
    /// how many bytes it has taken; the others come again, perhaps with more behind them. It bounds them itself, by an error.
    ///
    /// # Errors
    /// With an error, the connection is over once the replies before it are sent.
    fn answer(&mut self, sent: &[u8], replies: &mut Replies) -> io::Result<usize>;
}

/// Replies to a guest.
#[derive(Debug, Default)]
pub struct Replies {
    bytes: Vec<u8>,
    /// Number of bytes that the guest has got.
    sent: usize,
    /// A program in the guest waits for one of them.
    is_awaited: bool,
}

impl Replies {
    /// Appends bytes. If nobody in the guest waits for them, they come with the next ones that are awaited, or after a short time.
    pub fn add(&mut self, bytes: &[u8], is_awaited: bool) {
        self.bytes.extend_from_slice(bytes);
        self.is_awaited |= is_awaited;
    }

    /// Returns `true` if another request can be answered.
    pub fn has_room(&self) -> bool {
        self.waiting().len() < MAX_REPLIES
    }

    /// Returns what the guest has not got.
    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    fn take(&mut self, room: &[VolatileSlice<'_, ()>]) -> usize {
        let mut taken = 0;
        for slice in room {
            let count = slice.len().min(self.waiting().len());
            slice.copy_from(&self.waiting()[..count]);
            self.sent += count;
            taken += count;
        }
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            (self.sent, self.is_awaited) = (0, false);
        } else if self.sent >= MAX_REPLIES {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        taken
    }
}

/// The host's end.
pub enum Peer {
    /// A Unix socket.
    Socket(UnixStream),
    /// Code of this process.
    Local(Box<Local>),
}

/// Code of this process as the host's end.
pub struct Local {
    /// `None` once it is over.
    answerer: Option<Box<dyn Answerer>>,
    /// Data of the guest that the code has not taken.
    sent: Vec<u8>,
    replies: Replies,
    /// There was no room for more replies.
    is_full: bool,
}

impl From<Box<dyn Answerer>> for Peer {
    fn from(answerer: Box<dyn Answerer>) -> Self {
        Self::Local(Box::new(Local {
            answerer: Some(answerer),
            sent: Vec::new(),
            replies: Replies::default(),
            is_full: false,
        }))
    }
}

impl From<UnixStream> for Peer {
    fn from(socket: UnixStream) -> Self {
        Self::Socket(socket)
    }
}

impl Peer {
    /// Sends a text, as far as it is taken without waiting.
    ///
    /// # Errors
    /// Returns [`Errno::AGAIN`] if nothing is taken at present.
    pub fn send_text(&self, text: &[u8]) -> Result<usize, Errno> {
        match self {
            Self::Socket(socket) => send(socket, text, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            // Texts are for programs that connect by a path.
            Self::Local(_) => Ok(text.len()),
        }
    }

    /// Sends the data of the guest, as far as it is taken without waiting.
    ///
    /// # Errors
    /// As [`send_text`](Self::send_text).
    pub fn send(&mut self, port: &dyn Port, data: &[VolatileSlice<'_, ()>]) -> Result<usize, Errno> {
        match self {
            Self::Socket(socket) => stream::send(socket, data),
            Self::Local(local) => local.send(port, data),
        }
    }

    /// Receives data for the guest. 0 is the end of it.
    ///
    /// # Errors
    /// Returns [`Errno::AGAIN`] if there is nothing at present.
    pub fn receive(&mut self, port: &dyn Port, room: &[VolatileSlice<'_, ()>]) -> Result<usize, Errno> {
        match self {
            Self::Socket(socket) => stream::receive(socket, room),
            Self::Local(local) => local.receive(port, room),
        }
    }

    /// The guest sends nothing more.
    pub fn end(&mut self) {
        match self {
            // A peer that has hung up need not be told.
            Self::Socket(socket) => _ = shutdown(socket, Shutdown::Write),
            Self::Local(local) => local.answerer = None,
        }
    }

    /// Returns `true` if it neither takes nor has any more data.
    pub fn has_hung_up(&self) -> bool {
        let Self::Socket(socket) = self else { return self.is_over() };
        let mut polled = [PollFd::new(socket, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::HUP)
    }

    fn is_over(&self) -> bool {
        matches!(self, Self::Local(local) if local.answerer.is_none())
    }

    /// Returns the time after which replies that it has kept are to be sent, if it has kept some. The next call of
    /// [`receive`](Self::receive) returns them.
    pub fn keeps(&mut self) -> Option<Duration> {
        let Self::Local(local) = self else { return None };
        let keeps = !local.replies.waiting().is_empty();
        local.replies.is_awaited |= keeps;
        keeps.then_some(HOLD)
    }

    /// Wakes the channel's thread when the peer has data, takes data or hangs up. Code of this process only has something new if the guest
    /// has.
    ///
    /// # Errors
    /// Returns an error if the host cannot wait for it.
    pub fn wait(&self, port: &dyn Port, readable: bool, writable: bool) -> Result<(), ServiceError> {
        let Self::Socket(socket) = self else { return Ok(()) };
        let waits = port.wake_when(socket.as_fd(), readable, writable);
        waits.map_err(|error| ServiceError::Host(format!("a socket cannot be waited for: {error}")))
    }
}

impl Local {
    fn send(&mut self, port: &dyn Port, data: &[VolatileSlice<'_, ()>]) -> Result<usize, Errno> {
        if self.answerer.is_none() {
            return Err(Errno::PIPE);
        }
        if !self.replies.has_room() {
            return Err(Errno::AGAIN);
        }
        let before = self.sent.len();
        self.sent.resize(before + data.iter().map(VolatileSlice::len).sum::<usize>(), 0);
        let mut at = before;
        for slice in data {
            slice.copy_to(&mut self.sent[at..]);
            at += slice.len();
        }
        self.answer(port);
        Ok(at - before)
    }

    /// Passes the data that the guest has sent to the code, and drops what it has taken.
    fn answer(&mut self, port: &dyn Port) {
        let Some(answerer) = &mut self.answerer else { return };
        let mut result = Ok(0);
        port.aside(&mut || result = answerer.answer(&self.sent, &mut self.replies));
        match result {
            Ok(taken) => drop(self.sent.drain(..taken.min(self.sent.len()))),
            Err(error) => {
                log::debug!("a connection of the guest is over: {error}");
                self.answerer = None;
                self.sent = Vec::new();
            }
        }
        self.is_full = !self.replies.has_room();
    }

    fn receive(&mut self, port: &dyn Port, room: &[VolatileSlice<'_, ()>]) -> Result<usize, Errno> {
        match self.replies.waiting() {
            [] if self.answerer.is_none() => Ok(0),
            [] => Err(Errno::AGAIN),
            _ if !self.replies.is_awaited && self.answerer.is_some() => Err(Errno::AGAIN),
            _ => {
                let count = self.replies.take(room);
                if self.is_full && self.replies.has_room() {
                    self.answer(port);
                }
                Ok(count)
            }
        }
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
