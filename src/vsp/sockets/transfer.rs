//! A state machine of the data and the ends that are under way on one connection, in both directions.
//!
//! The *peer* is the host's end: a Unix socket. Data of the guest waits here until the peer takes it; when [`STAGE`] bytes
//! wait, no more packets are read, so the guest's ring fills and the guest waits. Data of the peer does not wait here: it is
//! read only when the ring has room.
//!
//! Each direction ends on its own. A connection is over when both have ended, when the peer has hung up and its data is
//! delivered, or when the guest has ended its data and nothing has moved for too long: a guest does not say whether it still reads.

use std::time::Duration;

use super::wire::{self, Malformed};

/// Packets of the guest are read while fewer bytes wait for the peer.
pub const STAGE: usize = 32 << 10;

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
    /// Data for the peer, of which the first bytes are taken already.
    staged: Vec<u8>,
    taken: usize,
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
    /// Starts a connection, with a text of the host for the peer.
    pub fn new(text: Vec<u8>) -> Self {
        Self { staged: text, ..Self::default() }
    }

    /// Returns `true` if another packet of the guest may be [received](Self::receive).
    pub fn takes_packets(&self) -> bool {
        self.pending().len() < STAGE
    }

    /// Takes the payload of a packet of the guest.
    ///
    /// # Errors
    /// Returns an error if the packet is malformed. The connection must be ended.
    pub fn receive(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let data = wire::data(payload)?;
        if data.is_empty() {
            self.guest_ends = self.guest_ends.saturating_add(1);
            return Ok(());
        }
        if self.guest_ends > 0 {
            return Err(Malformed::AfterEnd);
        }
        self.from_guest += data.len() as u64;
        if !self.peer_deaf {
            self.staged.extend_from_slice(data);
        }
        Ok(())
    }

    /// Returns data for the peer.
    pub fn pending(&self) -> &[u8] {
        &self.staged[self.taken..]
    }

    /// Records that the peer has taken that many bytes of [`pending`](Self::pending).
    pub fn peer_took(&mut self, count: usize) {
        self.taken = self.staged.len().min(self.taken + count);
        if self.taken == self.staged.len() {
            self.staged.clear();
            self.taken = 0;
        } else if self.taken >= STAGE {
            self.staged.drain(..self.taken);
            self.taken = 0;
        }
    }

    /// Records that the peer takes no more data.
    pub fn peer_is_deaf(&mut self) {
        self.peer_deaf = true;
        self.staged.clear();
        self.taken = 0;
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
        self.peer_ended && !self.peer_gone && self.pending().is_empty()
    }

    /// Returns what is to be done next.
    pub fn next(&self) -> Option<Next> {
        let guest_done = self.guest_ends > 0 && self.pending().is_empty();
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
