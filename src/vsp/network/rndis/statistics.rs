//! The counters of an adapter.

use std::sync::atomic::{AtomicU64, Ordering};

use zerocopy::IntoBytes;

use super::oid::Oid;
use super::wire::ObjectHeader;
use crate::net::mac::MacAddress;

/// Frames and bytes of one kind.
#[derive(Debug, Default)]
pub struct Traffic {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Traffic {
    fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The counters of one direction.
#[derive(Debug, Default)]
pub struct Direction {
    directed: Traffic,
    multicast: Traffic,
    broadcast: Traffic,
    errors: AtomicU64,
    dropped: AtomicU64,
}

impl Direction {
    /// Counts a transferred frame.
    pub fn count(&self, frame: &[u8]) {
        let traffic = match MacAddress::destination(frame) {
            Some(MacAddress::BROADCAST) => &self.broadcast,
            Some(address) if address.is_group() => &self.multicast,
            _ => &self.directed,
        };
        traffic.frames.fetch_add(1, Ordering::Relaxed);
        traffic.bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
    }

    /// Counts an invalid frame.
    pub fn count_error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts frames that were dropped for lack of room.
    pub fn count_dropped(&self, frames: u64) {
        self.dropped.fetch_add(frames, Ordering::Relaxed);
    }

    /// Returns the number of transferred frames.
    pub fn frames(&self) -> u64 {
        self.directed.frames() + self.multicast.frames() + self.broadcast.frames()
    }

    /// Returns the number of transferred bytes.
    pub fn bytes(&self) -> u64 {
        self.directed.bytes() + self.multicast.bytes() + self.broadcast.bytes()
    }

    /// Returns the number of invalid frames.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Returns the number of frames that were dropped for lack of room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The counters of one adapter, which all of its channels share.
#[derive(Debug, Default)]
pub struct Statistics {
    /// From the guest.
    pub transmit: Direction,
    /// To the guest.
    pub receive: Direction,
}

/// `NDIS_STATISTICS_FLAGS_VALID_*` of all implemented counters.
const COUNTED: u32 = 0x003f_87ff;

impl Statistics {
    /// Returns the value of a counter, if `oid` is one.
    pub fn counter(&self, oid: Oid) -> Option<u64> {
        let Self { transmit, receive } = self;
        Some(match oid {
            Oid::GEN_XMIT_OK => transmit.frames(),
            Oid::GEN_RCV_OK => receive.frames(),
            Oid::GEN_XMIT_ERROR => transmit.errors(),
            Oid::GEN_RCV_ERROR => receive.errors(),
            Oid::GEN_RCV_NO_BUFFER | Oid::GEN_RCV_DISCARDS => receive.dropped(),
            Oid::GEN_XMIT_DISCARDS => transmit.dropped(),
            Oid::GEN_BYTES_XMIT => transmit.bytes(),
            Oid::GEN_BYTES_RCV => receive.bytes(),
            Oid::GEN_DIRECTED_BYTES_XMIT => transmit.directed.bytes(),
            Oid::GEN_DIRECTED_FRAMES_XMIT => transmit.directed.frames(),
            Oid::GEN_MULTICAST_BYTES_XMIT => transmit.multicast.bytes(),
            Oid::GEN_MULTICAST_FRAMES_XMIT => transmit.multicast.frames(),
            Oid::GEN_BROADCAST_BYTES_XMIT => transmit.broadcast.bytes(),
            Oid::GEN_BROADCAST_FRAMES_XMIT => transmit.broadcast.frames(),
            Oid::GEN_DIRECTED_BYTES_RCV => receive.directed.bytes(),
            Oid::GEN_DIRECTED_FRAMES_RCV => receive.directed.frames(),
            Oid::GEN_MULTICAST_BYTES_RCV => receive.multicast.bytes(),
            Oid::GEN_MULTICAST_FRAMES_RCV => receive.multicast.frames(),
            Oid::GEN_BROADCAST_BYTES_RCV => receive.broadcast.bytes(),
            Oid::GEN_BROADCAST_FRAMES_RCV => receive.broadcast.frames(),
            Oid::GEN_RCV_CRC_ERROR
            | Oid::GEN_TRANSMIT_QUEUE_LENGTH
            | Oid::ETHERNET_RCV_ERROR_ALIGNMENT
            | Oid::ETHERNET_XMIT_ONE_COLLISION
            | Oid::ETHERNET_XMIT_MORE_COLLISIONS => 0,
            _ => return None,
        })
    }

    /// Returns `NDIS_STATISTICS_INFO`: all counters in one structure.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { transmit, receive } = self;
        let counters = [
            receive.dropped(),
            receive.errors(),
            receive.bytes(),
            receive.directed.frames(),
            receive.multicast.frames(),
            receive.broadcast.frames(),
            transmit.bytes(),
            transmit.directed.frames(),
            transmit.multicast.frames(),
            transmit.broadcast.frames(),
            transmit.errors(),
            transmit.dropped(),
            receive.directed.bytes(),
            receive.multicast.bytes(),
            receive.broadcast.bytes(),
            transmit.directed.bytes(),
            transmit.multicast.bytes(),
            transmit.broadcast.bytes(),
        ];
        let size = (size_of::<ObjectHeader>() + size_of::<u32>() + size_of_val(&counters)) as u16;
        let header = ObjectHeader { object_type: ObjectHeader::DEFAULT, revision: 1, size };
        [header.as_bytes(), COUNTED.as_bytes(), counters.as_bytes()].concat()
    }
}
