//! The queue of frames for the guest.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::net::frame::{ETHERNET_HEADER, FrameBuffer, Offload};
use crate::net::mac::MacAddress;
use crate::net::offload::headers::{IpVersion, ether_type};

use super::super::ports::Ports;
use super::address::Network;
use super::share::Guest;

/// Size at which flows stop adding frames: some segments of maximum length.
const FULL: usize = 512 << 10;

/// Maximum size. Replies to the guest's own frames are dropped beyond it.
const OVERFULL: usize = 1 << 20;

/// Memory overhead of a frame.
const FRAME_COST: usize = 512;

/// Maximum number of buffers that are kept for reuse.
const SPARE: usize = 64;

/// Frames that wait for the guest.
#[derive(Debug, Default)]
pub struct Outbox {
    frames: VecDeque<FrameBuffer>,
    spare: Vec<FrameBuffer>,
    cost: usize,
    dropped: u64,
    /// `false` if the last added frame was dropped.
    has_last: bool,
    ports: Arc<Ports>,
    identification: u32,
}

impl Outbox {
    /// Creates an empty queue. `ports` has the guests' MTUs; identifications of packets start with `identification`.
    pub fn new(ports: Arc<Ports>, identification: u32) -> Self {
        Self { ports, identification, ..Self::default() }
    }

    /// Returns the size of the largest IP packet that a guest accepts.
    pub fn mtu(&self, guest: Guest) -> u16 {
        self.ports.mtu(guest.port)
    }

    /// Returns an identification for the fragments of one packet. It has not been used recently.
    pub fn next_identification(&mut self) -> u32 {
        self.identification = self.identification.wrapping_add(1);
        self.identification
    }

    /// Returns `true` if there is room for this number of frames and bytes.
    pub fn has_room(&self, frames: usize, bytes: usize) -> bool {
        self.cost + bytes + frames * (ETHERNET_HEADER + FRAME_COST) <= OVERFULL
    }

    /// Returns `true` if flows must stop adding frames.
    pub fn is_full(&self) -> bool {
        self.cost >= FULL
    }

    /// Returns `true` if no frame waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Returns the number of dropped frames.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Counts a datagram that was dropped before it became a frame.
    pub fn count_dropped(&mut self) {
        self.dropped += 1;
    }

    /// Adds a frame from the router with a payload of `length` bytes, which are zero until `fill` fills them in.
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

    /// Returns the last added frame, so that its offload can be set, or `None` if it was dropped.
    pub fn last(&mut self) -> Option<&mut FrameBuffer> {
        self.frames.back_mut().filter(|_| self.has_last)
    }

    /// Moves the next frame into `frame`, whose content is lost.
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
