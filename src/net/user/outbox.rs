//! Frames that wait for the guest to fetch them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::net::frame::{ETHERNET_HEADER, FrameBuffer, Offload};
use crate::net::mac::MacAddress;
use crate::net::offload::headers::{IpVersion, ether_type};

use super::super::ports::Ports;
use super::address::Network;
use super::share::Guest;

/// How much may wait, beyond which flows hold back: some segments of the greatest length.
const FULL: usize = 512 << 10;

/// How much may wait at all. Answers to the guest's own frames may go so far; then they are dropped.
const OVERFULL: usize = 1 << 20;

/// What a frame costs beside its bytes.
const FRAME_COST: usize = 512;

/// Buffers that are kept to be used again.
const SPARE: usize = 64;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Outbox {
    frames: VecDeque<FrameBuffer>,
    spare: Vec<FrameBuffer>,
    cost: usize,
    dropped: u64,
    /// Whether the frame that was added last is still there.
    has_last: bool,
    ports: Arc<Ports>,
    identification: u32,
}

impl Outbox {
    /// Nothing waits yet. `ports` says what guests take, and identifications of packets begin with that number.
    pub fn new(ports: Arc<Ports>, identification: u32) -> Self {
        Self { ports, identification, ..Self::default() }
    }

    /// Returns the longest IP packet that a guest takes.
    pub fn mtu(&self, guest: Guest) -> u16 {
        self.ports.mtu(guest.port)
    }

    /// Returns a number for the fragments of one packet, which few had before.
    pub fn next_identification(&mut self) -> u32 {
        self.identification = self.identification.wrapping_add(1);
        self.identification
    }

    /// Returns `true` if so many frames with so many bytes fit.
    pub fn has_room(&self, frames: usize, bytes: usize) -> bool {
        self.cost + bytes + frames * (ETHERNET_HEADER + FRAME_COST) <= OVERFULL
    }

    /// Returns `true` if flows should hold back.
    pub fn is_full(&self) -> bool {
        self.cost >= FULL
    }

    /// Returns `true` if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Frames that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Counts a datagram that did not get so far as to be a frame.
    pub fn count_dropped(&mut self) {
        self.dropped += 1;
    }

    /// Adds a frame from the router with a payload of `length` bytes, zero until `fill` has filled them in.
    pub fn add<R>(&mut self, to: MacAddress, ether_type: u16, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.offload = Offload::default();
        let bytes = &mut buffer.bytes;
        bytes.clear();
        bytes.extend_from_slice(&to.0);
        bytes.extend_from_slice(&Network::ROUTER.0);
        bytes.extend_from_slice(&ether_type.to_be_bytes());
        bytes.resize(ETHERNET_HEADER + length, 0);
        let result = fill(&mut bytes[ETHERNET_HEADER..]);
        let cost = bytes.len() + FRAME_COST;
        if self.cost + cost > OVERFULL {
            self.dropped += 1;
            self.has_last = false;
            self.keep(buffer);
        } else {
            self.cost += cost;
            self.has_last = true;
            self.frames.push_back(buffer);
        }
        result
    }

    /// Adds a frame with an IP packet.
    pub fn add_ip<R>(
        &mut self,
        to: MacAddress,
        version: IpVersion,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        let kind = if version == IpVersion::V4 { ether_type::IPV4 } else { ether_type::IPV6 };
        self.add(to, kind, length, fill)
    }

    /// Returns the frame that was added last, for its offload to be set. Returns `None` if it was dropped.
    pub fn last(&mut self) -> Option<&mut FrameBuffer> {
        self.frames.back_mut().filter(|_| self.has_last)
    }

    /// Takes the next frame; what is in `frame` is lost.
    pub fn fetch(&mut self, frame: &mut FrameBuffer) -> bool {
        let Some(next) = self.frames.pop_front() else { return false };
        self.cost -= next.bytes.len() + FRAME_COST;
        let old = std::mem::replace(frame, next);
        self.keep(old);
        true
    }

    fn keep(&mut self, buffer: FrameBuffer) {
        if self.spare.len() < SPARE {
            self.spare.push(buffer);
        }
    }
}
