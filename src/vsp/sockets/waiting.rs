//! Data of the guest that waits for the peer: it stays in the guest's ring, and goes to the peer from there.

use std::collections::VecDeque;

use smallvec::SmallVec;
use vm_memory::VolatileSlice;

use crate::vmbus::ring::{IncomingRing, Span};

/// Maximum number of packets that wait. The smallest packets with data have 40 bytes: the largest ring of Linux is full before.
const MAX_PACKETS: usize = 8192;

/// Maximum number of packets whose data is sent together. As many full packets are in the largest ring of Linux.
const MAX_TOGETHER: usize = 64;

/// The slices of guest memory that have data for the peer.
pub type Slices<'a> = SmallVec<[VolatileSlice<'a, ()>; 2 * MAX_TOGETHER]>;

/// The queue to the peer: a text of the host, then the data of packets in the guest's ring.
#[derive(Debug, Default)]
pub struct Waiting {
    text: Vec<u8>,
    packets: VecDeque<Span>,
    /// Number of bytes that the peer has taken of the text, or after that, of the first packet.
    taken: usize,
}

impl Waiting {
    /// Creates it with a text.
    pub fn new(text: Vec<u8>) -> Self {
        Self { text, ..Self::default() }
    }

    /// Returns `true` if the data of another packet can [wait](Self::add).
    pub fn has_room(&self) -> bool {
        self.packets.len() < MAX_PACKETS
    }

    /// Adds the data of the guest's last packet. The packet stays in the ring until the peer has taken its data.
    pub fn add(&mut self, data: Span) {
        self.packets.push_back(data);
    }

    /// Returns what the peer has not taken of the text, which comes before all other data.
    pub fn text(&self) -> Option<&[u8]> {
        (!self.text.is_empty()).then(|| &self.text[self.taken..])
    }

    /// Returns the data of the first packets that the peer has not taken.
    pub fn slices<'a>(&self, ring: &'a IncomingRing) -> Slices<'a> {
        let mut slices: Slices<'a> =
            self.packets.iter().take(MAX_TOGETHER).flat_map(|data| ring.slices(*data)).collect();
        let mut taken = self.taken;
        while let Some(first) = slices.first_mut() {
            match first.offset(taken) {
                Ok(rest) if !rest.is_empty() => {
                    *first = rest;
                    break;
                }
                _ => taken = taken.saturating_sub(slices.remove(0).len()),
            }
        }
        slices
    }

    /// Records that the peer has taken `count` bytes, of the [text](Self::text) if there is one, else of the packets, and releases the
    /// packets that it has taken completely.
    pub fn peer_took(&mut self, count: usize, ring: &mut IncomingRing) {
        self.taken += count;
        if !self.text.is_empty() {
            if self.taken >= self.text.len() {
                (self.text, self.taken) = (Vec::new(), 0);
            }
            return;
        }
        while let Some(first) = self.packets.front().filter(|first| first.len() <= self.taken) {
            self.taken -= first.len();
            ring.release(*first);
            self.packets.pop_front();
        }
    }

    /// Drops everything, because the peer takes no more data.
    pub fn clear(&mut self, ring: &mut IncomingRing) {
        if let Some(last) = self.packets.back() {
            ring.release(*last);
        }
        *self = Self::default();
    }
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
