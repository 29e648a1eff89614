//! A state machine of the data and the ends that are under way on one connection, in both directions.
//!
//! The *peer* is the host's end: a Unix socket. Data of the guest waits in the guest's ring until the peer takes it, so the ring
//! fills and the guest waits: see [`Waiting`](super::waiting::Waiting). Data of the peer is read only when its ring has room. So
//! neither is here, only their numbers are.
//!
//! Each direction ends on its own. A connection is over when both have ended, when the peer has hung up and its data is
//! delivered, or when the guest has ended its data and nothing has moved for too long: a guest does not say whether it still reads.

use std::time::Duration;

use super::wire::Malformed;

/// The time for which data may stay unread in the guest's ring after the guest has ended its data.
pub const UNREAD_PATIENCE: Duration = Duration::from_secs(60);

/// The time for which the peer may be silent after the guest has ended its data.
pub const SILENT_PATIENCE: Duration = Duration::from_secs(600);

/// The same two, after the guest has ended its data twice. Linux does that when a socket is shut down and then closed. It then
/// waits 8 seconds.
pub const CLOSED_PATIENCE: Duration = Duration::from_secs(8);

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Tell the peer that no more data comes, then call [`Transfer::peer_told`].
    TellPeer,
    /// Send the guest a packet without data, then call [`Transfer::guest_told`].
    TellGuest,
    /// Remove the channel.
    Over,
}

/// The state of a connection.
#[derive(Debug, Default)]
pub struct Transfer {
    /// Number of bytes that wait for the peer.
    waiting: usize,
    /// The number of times that the guest has ended its data.
    guest_ends: u32,
    peer_told: bool,
    peer_ended: bool,
    guest_told: bool,
    /// The peer takes no more data. What the guest sends is dropped.
    peer_deaf: bool,
    peer_gone: bool,
    from_guest: u64,
    to_guest: u64,
    /// The last time at which something moved.
    moved: Duration,
}

impl Transfer {
    /// Starts a connection, with a text of the host for the peer that has `text` bytes.
    pub fn new(text: usize) -> Self {
        Self { waiting: text, ..Self::default() }
    }

    /// Takes a packet of the guest with `size` bytes of data. Returns `true` if it waits for the peer, if only behind others.
    ///
    /// # Errors
    /// Returns an error if the guest had ended its data. The connection must be ended.
    pub fn receive(&mut self, size: usize) -> Result<bool, Malformed> {
        if size == 0 {
            self.guest_ends = self.guest_ends.saturating_add(1);
            return Ok(!self.peer_deaf);
        }
        if self.guest_ends > 0 {
            return Err(Malformed::AfterEnd);
        }
        self.from_guest += size as u64;
        if !self.peer_deaf {
            self.waiting += size;
        }
        Ok(!self.peer_deaf)
    }

    /// Returns the number of bytes that wait for the peer.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Records that the peer has taken that many bytes of those that wait.
    pub fn peer_took(&mut self, count: usize) {
        self.waiting = self.waiting.saturating_sub(count);
    }

    /// Records that the peer takes no more data. What waits for it must be dropped.
    pub fn peer_is_deaf(&mut self) {
        self.peer_deaf = true;
        self.waiting = 0;
    }

    /// Returns `true` if data of the peer is wanted, for which the ring has room.
    pub fn wants_data(&self) -> bool {
        !self.peer_ended
    }

    /// Records that data of the peer was sent to the guest.
    pub fn sent(&mut self, count: usize) {
        self.to_guest += count as u64;
    }

    /// Records that the peer sends nothing more.
    pub fn peer_ended(&mut self) {
        self.peer_ended = true;
    }

    /// Records that the peer has hung up: it takes no more data. What it sent before may still be read.
    pub fn peer_is_gone(&mut self) {
        self.peer_gone = true;
        self.peer_is_deaf();
    }

    /// Returns `true` if the peer can still hang up, and nothing else is expected of it.
    pub fn awaits_hang_up(&self) -> bool {
        self.peer_ended && !self.peer_gone && self.waiting == 0
    }

    /// Returns what is to be done next.
    pub fn next(&self) -> Option<Next> {
        let guest_done = self.guest_ends > 0 && self.waiting == 0;
        if guest_done && !self.peer_told {
            Some(Next::TellPeer)
        } else if self.peer_ended && !self.guest_told {
            Some(Next::TellGuest)
        } else if self.guest_told && (guest_done || self.peer_gone) {
            Some(Next::Over)
        } else {
            None
        }
    }

    /// Completes [`Next::TellPeer`].
    pub fn peer_told(&mut self) {
        self.peer_told = true;
    }

    /// Completes [`Next::TellGuest`].
    pub fn guest_told(&mut self) {
        self.guest_told = true;
    }

    /// Records that something has moved at this time.
    pub fn moved(&mut self, now: Duration) {
        self.moved = now;
    }

    /// Returns the time at which the connection is over even if neither side ends it.
    ///
    /// `unread`: the guest has not read everything in its ring.
    pub fn deadline(&self, unread: bool) -> Option<Duration> {
        let patience = match (self.guest_ends, unread) {
            (0, _) => return None,
            (1, true) => UNREAD_PATIENCE,
            (1, false) => SILENT_PATIENCE,
            _ => CLOSED_PATIENCE,
        };
        Some(self.moved + patience)
    }

    /// Returns the number of bytes of data that the guest has sent and that it was sent.
    pub fn counts(&self) -> (u64, u64) {
        (self.from_guest, self.to_guest)
    }

    /// Returns the state in words.
    pub fn state(&self) -> &'static str {
        match (self.guest_ends > 0, self.peer_ended) {
            (false, false) => "open",
            (true, false) => "ended by the guest",
            (false, true) => "ended by the host",
            (true, true) => "ending",
        }
    }
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
