//! The host's side of the guest-to-host ring.

use std::sync::atomic::{Ordering, fence};

use vm_memory::VolatileSlice;
use zerocopy::{FromBytes, IntoBytes};

use super::{FEATURE_PENDING_SEND_SIZE, FOOTER, HEADER, Packet, RingError, RingMemory, Signal, Tap};
use crate::vmbus::packet::{PacketHeader, PacketKind};

/// The host's side of the guest-to-host ring.
///
/// ```text
/// ring.mask();
/// loop {
///     while let Some(packet) = ring.receive(&mut buffer)? { … }
///     if ring.publish().is_needed() { /* signal the guest */ }
///     if !ring.unmask()? { break; /* and sleep until the guest signals */ }
///     ring.mask();
/// }
/// ```
#[derive(Debug)]
pub struct IncomingRing {
    memory: RingMemory,
    /// Position of the next packet. It is private: the read index in the ring, which the guest can change, is not used.
    read: u32,
    /// End of the packets whose space the guest may have back. It is behind `read` while packets are used in place.
    done: u32,
    /// The read index that the guest knows.
    published: u32,
    /// The write index when it was last read.
    write: u32,
    tap: Option<Tap>,
}

impl IncomingRing {
    /// Starts with the ring's present indexes.
    ///
    /// # Errors
    /// Returns an error if an index is invalid.
    pub(crate) fn new(memory: RingMemory) -> Result<Self, RingError> {
        let read = memory.load_index(memory.read_index(), "read")?;
        let write = memory.load_index(memory.write_index(), "write")?;
        Ok(Self { memory, read, done: read, published: read, write, tap: None })
    }

    /// Calls `tap` with the header of each packet that is read.
    pub(crate) fn tap(&mut self, tap: Tap) {
        self.tap = Some(tap);
    }

    /// Returns the next packet without copying it. It stays in the ring until [`release`](Self::release) and then
    /// [`publish`](Self::publish), or until a later packet is [received](Self::receive).
    ///
    /// # Errors
    /// Returns an error if an index or a packet is invalid.
    #[inline]
    pub(crate) fn next_packet(&mut self) -> Result<Option<IncomingPacket<'_>>, RingError> {
        if self.read == self.write {
            self.write = self.memory.load_index(self.memory.write_index(), "write")?;
            if self.read == self.write {
                return Ok(None);
            }
        }
        let offset = self.read;
        let available = self.memory.distance(offset, self.write);
        let mut header = [0; HEADER as usize];
        if available >= HEADER {
            self.memory.copy_out(offset, &mut header);
        }
        let header: PacketHeader = zerocopy::transmute!(header);
        let (length, payload_offset) = (header.length(), header.payload_offset());
        if payload_offset < HEADER || length < payload_offset || available < length + FOOTER {
            return Err(RingError::Packet { offset, payload_offset, length, available });
        }
        self.read = self.memory.advance(offset, length + FOOTER);
        if let Some(tap) = &self.tap {
            tap.see(&header);
        }
        Ok(Some(IncomingPacket { memory: &self.memory, header, offset }))
    }

    /// Copies the next packet into `buffer`, which grows to the longest packet; the ring's size limits that.
    ///
    /// # Errors
    /// Returns an error if an index or a packet is invalid.
    #[inline]
    pub fn receive<'b>(&mut self, buffer: &'b mut Vec<u8>) -> Result<Option<Packet<'b>>, RingError> {
        let Some(packet) = self.next_packet()? else {
            return Ok(None);
        };
        let length = (packet.header.length() - HEADER) as usize;
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        let bytes = &mut buffer[..length];
        packet.memory.copy_out(packet.memory.advance(packet.offset, HEADER), bytes);
        let header = packet.header;
        self.done = self.read;
        let (extra, payload) = bytes.split_at((header.payload_offset() - HEADER) as usize);
        Ok(Some(Packet { header, extra, payload }))
    }

    /// Returns a part of a packet that is still in the ring, as slices of guest memory.
    pub(crate) fn slices(&self, span: Span) -> impl Iterator<Item = VolatileSlice<'_, ()>> {
        self.memory.slices(span.at, span.length)
    }

    /// Releases the packet of `span` and all packets before it. The next [`publish`](Self::publish) returns their space to the guest.
    pub(crate) fn release(&mut self, span: Span) {
        self.done = span.end;
    }

    /// Returns the space of the packets that were received or released to the guest.
    #[inline]
    pub fn publish(&mut self) -> Signal {
        if self.done == self.published {
            return Signal::NotNeeded;
        }
        let freed = self.memory.distance(self.published, self.done);
        self.memory.read_index().store(self.done, Ordering::Release);
        self.published = self.done;
        if !self.guest_minds_room() {
            return Signal::NotNeeded;
        }
        fence(Ordering::SeqCst);
        let pending = self.memory.pending_send_size().load(Ordering::Acquire);
        if pending == 0 {
            return Signal::NotNeeded;
        }
        // An invalid index is detected when the next packet is read.
        let Ok(write) = self.memory.load_index(self.memory.write_index(), "write") else {
            return Signal::NotNeeded;
        };
        let room = self.memory.size() - self.memory.distance(self.done, write);
        // If there was no room before, the guest has written since, so it does not wait for this room.
        let was_short = room.checked_sub(freed).is_some_and(|before| before <= pending);
        if room > pending && was_short { Signal::Needed } else { Signal::NotNeeded }
    }

    /// Tells the guest not to signal, because the host is awake and will read everything.
    #[inline]
    pub fn mask(&mut self) {
        self.memory.interrupt_mask().store(1, Ordering::Relaxed);
    }

    /// Lets the guest signal again. Returns `true` if packets arrived before this took effect, so that the host must
    /// continue to read. Call [`publish`](Self::publish) first: a guest that sees unread packets does not signal.
    ///
    /// # Errors
    /// Returns an error if the write index is invalid.
    #[inline]
    pub fn unmask(&mut self) -> Result<bool, RingError> {
        debug_assert_eq!(self.read, self.published, "publish before you unmask");
        self.memory.interrupt_mask().store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.write = self.memory.load_index(self.memory.write_index(), "write")?;
        Ok(self.read != self.write)
    }

    /// Returns `true` if the guest evaluates the size that an [`OutgoingRing`](super::OutgoingRing) waits for.
    /// Otherwise, the host must poll for room.
    #[inline]
    pub fn guest_minds_room(&self) -> bool {
        self.memory.features().load(Ordering::Relaxed) & FEATURE_PENDING_SEND_SIZE != 0
    }
}

/// A packet that is still in the ring. The guest can change it at any time, so read each byte only once.
#[derive(Clone, Copy, Debug)]
pub struct IncomingPacket<'a> {
    memory: &'a RingMemory,
    header: PacketHeader,
    offset: u32,
}

impl<'a> IncomingPacket<'a> {
    /// Returns the kind of the packet.
    pub fn kind(&self) -> PacketKind {
        self.header.kind
    }

    /// Returns the number of bytes of payload.
    pub fn payload_length(&self) -> usize {
        (self.header.length() - self.header.payload_offset()) as usize
    }

    /// Copies the bytes between header and payload.
    #[cfg(test)]
    pub fn extra(&self) -> Vec<u8> {
        let mut bytes = vec![0; (self.header.payload_offset() - HEADER) as usize];
        self.memory.copy_out(self.memory.advance(self.offset, HEADER), &mut bytes);
        bytes
    }

    /// Copies payload from byte `offset`. Returns `false`, and copies nothing, if the payload is too short.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> bool {
        let inside = offset.checked_add(bytes.len()).is_some_and(|end| end <= self.payload_length());
        if inside {
            let from = self.header.payload_offset() + offset as u32;
            self.memory.copy_out(self.memory.advance(self.offset, from), bytes);
        }
        inside
    }

    /// Copies a value from byte `offset` of the payload, if the payload is long enough.
    pub fn read_value<T: FromBytes + IntoBytes>(&self, offset: usize) -> Option<T> {
        let mut value = T::new_zeroed();
        self.read(offset, value.as_mut_bytes()).then_some(value)
    }

    /// Returns the place of `length` bytes from byte `offset` of the payload, if the payload is long enough.
    pub fn span(&self, offset: usize, length: usize) -> Option<Span> {
        let inside = offset.checked_add(length).is_some_and(|end| end <= self.payload_length());
        inside.then(|| Span {
            at: self.memory.advance(self.offset, self.header.payload_offset() + offset as u32),
            length: length as u32,
            end: self.memory.advance(self.offset, self.header.length() + FOOTER),
        })
    }
}

/// A part of the payload of a packet that is still in an [`IncomingRing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    at: u32,
    length: u32,
    /// Position of the next packet.
    end: u32,
}

impl Span {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.length as usize
    }
}
