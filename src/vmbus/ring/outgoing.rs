//! The host's side of the host-to-guest ring.

use std::sync::atomic::{Ordering, fence};

use smallvec::SmallVec;
use vm_memory::VolatileSlice;

use super::{FEATURE_PENDING_SEND_SIZE, HEADER, NewPacket, RingError, RingMemory, Signal, Tap, UNIT, WriteError};

/// Maximum number of packets that one call of [`OutgoingRing::fill`] writes: more than 16 KiB packets fit into the largest ring of Linux.
const MAX_FILLED: u32 = 16;

/// A position between two packets of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(u64);

/// The host's side of the host-to-guest ring.
///
/// Packets are written one by one, and made visible to the guest together by [`publish`](Self::publish).
#[derive(Debug)]
pub struct OutgoingRing {
    memory: RingMemory,
    /// Position of the next packet.
    write: u32,
    /// The write index that the guest knows.
    published: u32,
    /// The read index when it was last read.
    read: u32,
    /// Bytes written since the ring was created.
    written: u64,
    /// Whether a size that the host waits for is stored in the ring.
    waiting: bool,
    tap: Option<Tap>,
}

impl OutgoingRing {
    /// Starts with the ring's present indexes.
    ///
    /// # Errors
    /// Returns an error if an index is invalid.
    pub(crate) fn new(memory: RingMemory) -> Result<Self, RingError> {
        let read = memory.load_index(memory.read_index(), "read")?;
        let write = memory.load_index(memory.write_index(), "write")?;
        memory.pending_send_size().store(0, Ordering::Relaxed);
        memory.features().fetch_or(FEATURE_PENDING_SEND_SIZE, Ordering::Release);
        Ok(Self { memory, write, published: write, read, written: 0, waiting: false, tap: None })
    }

    /// Calls `tap` with the header of each packet that is written.
    pub(crate) fn tap(&mut self, tap: Tap) {
        self.tap = Some(tap);
    }

    /// Writes a packet, which the guest sees after the next [`publish`](Self::publish).
    ///
    /// # Errors
    /// Returns an error if there is no room now (see [`wait_for_room`](Self::wait_for_room)), or if the packet is too
    /// large.
    #[inline]
    pub fn write(&mut self, packet: &NewPacket<'_>) -> Result<(), WriteError> {
        let (header, needed) = packet.layout(self.memory.size())?;
        if !self.has_room(needed)? {
            return Err(WriteError::Full { needed });
        }
        self.stop_waiting();
        self.write = self.memory.put(self.write, &header, packet);
        self.written += u64::from(needed);
        if let Some(tap) = &self.tap {
            tap.see(&header);
        }
        Ok(())
    }

    /// Writes in-band packets whose data `fill` puts directly into the ring: it gets the memory for the data of several packets, and
    /// returns the number of bytes that it has put there, from the first on. Each packet has up to `longest` bytes of data, a multiple of
    /// eight, behind a start of eight bytes that `start` returns for their number. Returns the number of bytes, and `None` if there is no
    /// room for a packet with `longest` bytes (see [`wait_for_room`](Self::wait_for_room)).
    ///
    /// # Errors
    /// Returns an error if the ring is corrupt or too small, or the error of `fill`. Then nothing is written.
    pub(crate) fn fill<E: From<RingError>>(
        &mut self,
        longest: usize,
        start: impl Fn(usize) -> [u8; 8],
        fill: impl FnOnce(&[VolatileSlice<'_, ()>]) -> Result<usize, E>,
    ) -> Result<Option<usize>, E> {
        debug_assert!(longest.is_multiple_of(UNIT as usize), "all packets but the last end where the next begins");
        const START: usize = UNIT as usize;
        let (packet, size) = (NewPacket::in_band(0, &[]), self.memory.size());
        let (_, space) = packet.layout_of(START + longest, size)?;
        if !self.has_room(space)? {
            return Ok(None);
        }
        let count = ((self.room() - 1) / space).min(MAX_FILLED);
        let data = |number| self.memory.advance(self.write, number * space + HEADER + START as u32);
        let pieces = (0..count).flat_map(|number| self.memory.slices(data(number), longest as u32));
        let filled = fill(&pieces.collect::<SmallVec<[_; 2 * MAX_FILLED as usize]>>())?.min(count as usize * longest);
        let mut left = filled;
        while left > 0 {
            let length = left.min(longest);
            let (header, needed) = packet.layout_of(START + length, size)?;
            self.stop_waiting();
            self.write = self.memory.put_around(self.write, &header, start(length), length);
            self.written += u64::from(needed);
            if let Some(tap) = &self.tap {
                tap.see(&header);
            }
            left -= length;
        }
        Ok(Some(filled))
    }

    fn stop_waiting(&mut self) {
        if self.waiting {
            self.waiting = false;
            self.memory.pending_send_size().store(0, Ordering::Relaxed);
        }
    }

    /// Makes the written packets visible to the guest.
    #[inline]
    pub fn publish(&mut self) -> Signal {
        let before = self.published;
        if self.write == before {
            return Signal::NotNeeded;
        }
        self.memory.write_index().store(self.write, Ordering::Release);
        self.published = self.write;
        fence(Ordering::SeqCst);
        if self.memory.interrupt_mask().load(Ordering::Acquire) != 0 {
            return Signal::NotNeeded;
        }
        // The guest may have changed this value. Only if it equals `before` has the guest seen nothing to do.
        let read = self.memory.read_index().load(Ordering::Relaxed);
        if read == before { Signal::Needed } else { Signal::NotNeeded }
    }

    /// Asks the guest to signal once there is room for `needed` bytes (see [`WriteError::Full`]). Publishes first,
    /// because a guest that sees no packets frees no room. Returns `true` if there is already room.
    ///
    /// A guest that does not [evaluate](super::IncomingRing::guest_minds_room) the request never signals.
    ///
    /// # Errors
    /// Returns an error if the read index is invalid.
    pub fn wait_for_room(&mut self, needed: u32) -> Result<(bool, Signal), RingError> {
        let signal = self.publish();
        self.waiting = true;
        self.memory.pending_send_size().store(needed, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        Ok((self.has_room(needed)?, signal))
    }

    /// Returns `true` if there is room for a packet that takes `needed` bytes ([`NewPacket::space`]).
    ///
    /// # Errors
    /// Returns an error if the read index is invalid.
    #[inline]
    pub fn has_room(&mut self, needed: u32) -> Result<bool, RingError> {
        if self.room() <= needed {
            self.read = self.memory.load_index(self.memory.read_index(), "read")?;
        }
        Ok(self.room() > needed)
    }

    /// Returns the position of the next packet.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.written)
    }

    /// Returns `true` if the guest has read everything before `mark`.
    ///
    /// # Errors
    /// Returns an error if the read index is invalid.
    pub(crate) fn is_read(&mut self, mark: Mark) -> Result<bool, RingError> {
        let is_read = |ring: &Self| {
            let unread = ring.memory.distance(ring.read, ring.write);
            ring.written.saturating_sub(unread.into()) >= mark.0
        };
        if is_read(self) {
            return Ok(true);
        }
        self.read = self.memory.load_index(self.memory.read_index(), "read")?;
        Ok(is_read(self))
    }

    /// Returns the argument of [`wait_for_room`](Self::wait_for_room) with which the guest signals when it has read
    /// everything.
    pub(crate) fn all_room(&self) -> u32 {
        self.memory.size() - 1
    }

    #[inline]
    fn room(&self) -> u32 {
        self.memory.size() - self.memory.distance(self.read, self.write)
    }
}
