//! A channel's rings.
//!
//! A ring is a page of control words followed by pages of data. One side writes packets and advances the write index,
//! the other reads them and advances the read index. Equal indexes mean an empty ring, so a ring is never filled
//! completely. A channel has two rings, one for each direction. The host's sides are [`IncomingRing`] and
//! [`OutgoingRing`], the guest's are in [`guest`].
//!
//! # Signals
//! Each side signals the other only if the other may be asleep (Linux: `drivers/hv/ring_buffer.c`):
//!
//! - After it advances the write index, the writer signals if the reader does not mask interrupts and had read
//!   everything before this packet.
//! - A writer without enough room stores the size that it waits for in the ring. After it advances the read index, the
//!   reader signals if this read freed enough room for that size.
//!
//! With both rules, one side stores its progress and then checks, with a full fence in between, while the other stores
//! what it waits for and then checks. At least one of them sees the other's store, so no signal is lost.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vm_memory::{GuestAddress, VolatileSlice};
use zerocopy::IntoBytes;

use super::packet::{PacketFooter, PacketHeader, PacketKind};
use crate::memory::PAGE_SIZE;
use crate::memory::buffer::GuestBuffer;

#[cfg(any(test, feature = "_internals"))]
pub mod guest;
mod incoming;
mod outgoing;

pub use incoming::IncomingRing;
pub(crate) use incoming::Span;
pub use outgoing::{Mark, OutgoingRing};

/// Bit of the feature word: the side that writes this ring stores the size that it waits for, and evaluates that of the
/// other ring.
const FEATURE_PENDING_SEND_SIZE: u32 = 1;

/// Packets start at multiples of this size.
const UNIT: u32 = 8;

const HEADER: u32 = size_of::<PacketHeader>() as u32;
const FOOTER: u32 = size_of::<PacketFooter>() as u32;

/// Observes the header of each packet in a ring, for traces.
#[derive(Clone)]
pub struct Tap(Arc<dyn Fn(&PacketHeader) + Send + Sync>);

impl Tap {
    /// Creates a tap that calls `see` with each header.
    pub fn new(see: impl Fn(&PacketHeader) + Send + Sync + 'static) -> Self {
        Self(Arc::new(see))
    }

    fn see(&self, header: &PacketHeader) {
        self.0(header);
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tap")
    }
}

/// Whether the other side must be signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a signal that is needed and not sent leaves the other side asleep"]
pub enum Signal {
    /// The other side may be asleep.
    Needed,
    /// The other side will check without a signal.
    NotNeeded,
}

impl Signal {
    /// Returns `true` if the signal must be sent.
    pub fn is_needed(self) -> bool {
        self == Self::Needed
    }
}

/// A corrupt ring. There is no recovery: the channel must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The pages are not a valid pair of rings.
    #[error(
        "a GPADL of {bytes} bytes at {address:#x}, split after {downstream_offset} pages, holds no two rings of whole pages"
    )]
    Geometry {
        /// Length of the GPADL's range.
        bytes: usize,
        /// Its address.
        address: u64,
        /// Start of the second ring, as set by the guest.
        downstream_offset: u32,
    },
    /// An index of the other side is invalid.
    #[error("the {name} index {value:#x} is invalid in a ring of {size:#x} bytes")]
    Index {
        /// The name of the index.
        name: &'static str,
        /// Its value.
        value: u32,
        /// Size of the ring's data area.
        size: u32,
    },
    /// A packet's header is inconsistent with itself or with the ring.
    #[error(
        "the packet at {offset:#x} has its payload at {payload_offset} of {length} bytes, with {available} in the ring"
    )]
    Packet {
        /// Position of the packet.
        offset: u32,
        /// Offset of its payload, as stated.
        payload_offset: u32,
        /// Its length, as stated.
        length: u32,
        /// Number of bytes written from its start on.
        available: u32,
    },
    /// The packet is too large to be written.
    #[error("a packet of {length} bytes fits neither a packet's header nor a ring of {size} bytes")]
    TooLong {
        /// Its length.
        length: usize,
        /// Size of the ring's data area.
        size: u32,
    },
}

/// The reason why a packet was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// There is not enough room at present.
    #[error("the ring has no room for {needed} bytes")]
    Full {
        /// The space that the packet needs in the ring, in bytes.
        needed: u32,
    },
    /// The packet can never be written.
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// The memory of one ring.
#[derive(Clone, Debug)]
pub struct RingMemory {
    control: GuestBuffer,
    data: GuestBuffer,
    size: u32,
}

impl RingMemory {
    /// Splits a GPADL's range into the guest-to-host ring and, from page `downstream_offset`, the host-to-guest ring.
    ///
    /// # Errors
    /// Returns an error unless the range consists of whole pages, at least two for each ring.
    pub fn pair(range: &GuestBuffer, downstream_offset: u32) -> Result<(Self, Self), RingError> {
        let address = range.segments(0, range.len()).ok().and_then(|mut segments| segments.next());
        let address = address.map_or(0, |(GuestAddress(address), _)| address);
        let wrong = RingError::Geometry { bytes: range.len(), address, downstream_offset };
        let split = (u64::from(downstream_offset) * PAGE_SIZE) as usize;
        let rest = range.len().checked_sub(split).ok_or(wrong)?;
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(wrong);
        }
        let upstream = Self::new(range, 0, split).ok_or(wrong)?;
        let downstream = Self::new(range, split, rest).ok_or(wrong)?;
        Ok((upstream, downstream))
    }

    /// Creates a ring of the pages in a part of `range`, whose start is page-aligned.
    fn new(range: &GuestBuffer, offset: usize, length: usize) -> Option<Self> {
        const PAGE: usize = PAGE_SIZE as usize;
        let size = length.checked_sub(PAGE)?;
        if size == 0 || !size.is_multiple_of(PAGE) {
            return None;
        }
        let control = range.part(offset, PAGE).ok()?;
        let data = range.part(offset + PAGE, size).ok()?;
        Some(Self { control, data, size: size.try_into().ok()? })
    }

    /// Returns the size of the data area. It can hold one byte less.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Returns the number of bytes that are written and not read, for those who look on. `None` if the guest's index is invalid.
    pub fn fill(&self) -> Option<u32> {
        let write = self.load_index(self.write_index(), "write").ok()?;
        let read = self.load_index(self.read_index(), "read").ok()?;
        Some(self.distance(read, write))
    }

    fn write_index(&self) -> &AtomicU32 {
        self.word(0)
    }

    fn read_index(&self) -> &AtomicU32 {
        self.word(4)
    }

    fn interrupt_mask(&self) -> &AtomicU32 {
        self.word(8)
    }

    fn pending_send_size(&self) -> &AtomicU32 {
        self.word(12)
    }

    fn features(&self) -> &AtomicU32 {
        self.word(64)
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU32 {
        self.control.word(offset).expect("the control page is one whole page")
    }

    /// Reads an index that the other side writes.
    #[inline]
    fn load_index(&self, index: &AtomicU32, name: &'static str) -> Result<u32, RingError> {
        let value = index.load(Ordering::Acquire);
        if value < self.size && value.is_multiple_of(UNIT) {
            Ok(value)
        } else {
            Err(RingError::Index { name, value, size: self.size })
        }
    }

    /// Returns the distance from `from` to `to`.
    #[inline]
    fn distance(&self, from: u32, to: u32) -> u32 {
        if to >= from { to - from } else { self.size - from + to }
    }

    /// Returns the position `length` bytes behind `at`, both less than the ring's size.
    #[inline]
    fn advance(&self, at: u32, length: u32) -> u32 {
        let to_end = self.size - at;
        if length < to_end { at + length } else { length - to_end }
    }

    #[inline]
    fn copy_out(&self, at: u32, bytes: &mut [u8]) {
        let (now, wrapped) = bytes.split_at_mut(bytes.len().min((self.size - at) as usize));
        self.data.read(at as usize, now).expect("the index is in the ring");
        if !wrapped.is_empty() {
            self.data.read(0, wrapped).expect("a packet is shorter than the ring");
        }
    }

    /// Returns a part of the data, from position `at`, as slices of guest memory.
    fn slices(&self, at: u32, length: u32) -> impl Iterator<Item = VolatileSlice<'_, ()>> {
        let (at, length) = (at as usize, length as usize);
        let to_end = length.min((self.size as usize).saturating_sub(at));
        // Both parts are in the ring, because a packet is shorter than it.
        let part = |at, length| self.data.slices(at, length).into_iter().flatten();
        part(at, to_end).chain(part(0, length - to_end))
    }

    #[inline]
    fn copy_in(&self, at: u32, bytes: &[u8]) {
        let (now, wrapped) = bytes.split_at(bytes.len().min((self.size - at) as usize));
        self.data.write(at as usize, now).expect("the index is in the ring");
        if !wrapped.is_empty() {
            self.data.write(0, wrapped).expect("a packet is shorter than the ring");
        }
    }

    /// Writes a packet for which there is room, and returns the position of the next.
    #[inline]
    fn put(&self, start: u32, header: &PacketHeader, packet: &NewPacket<'_>) -> u32 {
        let mut at = start;
        let mut put = |bytes: &[u8]| {
            self.copy_in(at, bytes);
            at = self.advance(at, bytes.len() as u32);
        };
        put(header.as_bytes());
        if !packet.extra.is_empty() {
            put(packet.extra);
        }
        packet.payload.iter().for_each(|piece| put(piece));
        self.put_end(start, at, packet.payload_length())
    }

    /// Writes what surrounds `length` bytes of data that are in the ring already: the header and `start` before them, and the end. Returns
    /// the position of the next packet.
    fn put_around(&self, at: u32, header: &PacketHeader, start: [u8; UNIT as usize], length: usize) -> u32 {
        self.copy_in(at, header.as_bytes());
        self.copy_in(self.advance(at, HEADER), &start);
        // The data is shorter than the ring.
        let end = self.advance(self.advance(at, HEADER + UNIT), length as u32);
        self.put_end(at, end, length)
    }

    /// Writes the end of a packet whose payload ends at position `at`, and returns the position of the next.
    #[inline]
    fn put_end(&self, start: u32, at: u32, payload: usize) -> u32 {
        // Up to seven bytes of padding, and the footer.
        let footer = PacketFooter { reserved: 0, packet_offset: start };
        let mut tail = [0; (UNIT - 1 + FOOTER) as usize];
        tail[(UNIT - 1) as usize..].copy_from_slice(footer.as_bytes());
        let padding = payload.wrapping_neg() % UNIT as usize;
        let tail = &tail[(UNIT - 1) as usize - padding..];
        self.copy_in(at, tail);
        self.advance(at, tail.len() as u32)
    }
}

/// A packet to write.
#[derive(Clone, Copy, Debug)]
pub struct NewPacket<'a> {
    /// The kind of the packet.
    pub kind: PacketKind,
    /// Whether the other side must send a completion.
    pub wants_completion: bool,
    /// The id to return in the completion, or the id of the completed packet.
    pub transaction_id: u64,
    /// The kind's further header, between header and payload; a multiple of eight bytes.
    pub extra: &'a [u8],
    /// The payload, in pieces. It is padded to a multiple of eight bytes.
    pub payload: &'a [&'a [u8]],
}

impl<'a> NewPacket<'a> {
    /// Creates a packet that contains its payload, and needs no completion.
    pub fn in_band(transaction_id: u64, payload: &'a [&'a [u8]]) -> Self {
        Self { kind: PacketKind::IN_BAND, wants_completion: false, transaction_id, extra: &[], payload }
    }

    /// Creates the completion of the packet with `transaction_id`.
    pub fn completion(transaction_id: u64, payload: &'a [&'a [u8]]) -> Self {
        Self { kind: PacketKind::COMPLETION, ..Self::in_band(transaction_id, payload) }
    }

    /// Returns the number of bytes that a packet with a payload of this size, and no further header, takes in a ring.
    pub fn space(payload: usize) -> u32 {
        let length = payload.next_multiple_of(UNIT as usize).saturating_add((HEADER + FOOTER) as usize);
        u32::try_from(length).unwrap_or(u32::MAX)
    }

    fn payload_length(&self) -> usize {
        self.payload.iter().map(|piece| piece.len()).sum()
    }

    /// Returns its header, and the number of bytes that it takes in a ring of `size` bytes.
    #[inline]
    fn layout(&self, size: u32) -> Result<(PacketHeader, u32), RingError> {
        self.layout_of(self.payload_length(), size)
    }

    /// Does the same for a payload of another length.
    #[inline]
    fn layout_of(&self, payload: usize, size: u32) -> Result<(PacketHeader, u32), RingError> {
        let payload_offset = HEADER as usize + self.extra.len();
        let length = (payload_offset + payload).next_multiple_of(UNIT as usize);
        let too_long = RingError::TooLong { length, size };
        let length8 = u16::try_from(length / UNIT as usize).map_err(|_| too_long)?;
        let needed = length as u32 + FOOTER;
        if needed >= size || !self.extra.len().is_multiple_of(UNIT as usize) {
            return Err(too_long);
        }
        let header = PacketHeader {
            kind: self.kind,
            // The payload starts at or before the end, which is in range.
            payload_offset8: (payload_offset / UNIT as usize) as u16,
            length8,
            flags: if self.wants_completion { PacketHeader::COMPLETION_REQUESTED } else { 0 },
            transaction_id: self.transaction_id,
        };
        Ok((header, needed))
    }
}

/// A packet that was copied out of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Its header, checked against its length.
    pub header: PacketHeader,
    /// The kind's further header, between header and payload.
    pub extra: &'a [u8],
    /// The payload, including the padding.
    pub payload: &'a [u8],
}

#[cfg(test)]
#[path = "stress_tests.rs"]
mod stress_tests;
#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
