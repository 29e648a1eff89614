//! The host's end of the host-to-guest ring.

use std::sync::atomic::{Ordering, fence};

use super::{FEATURE_PENDING_SEND_SIZE, NewPacket, RingError, RingMemory, Signal, Tap, WriteError};

/// A place between two packets of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(u64);

/// The host's end of the host-to-guest ring.
///
/// Packets are written one by one and shown to the guest together by [`publish`](Self::publish).
#[derive(Debug)]
pub struct OutgoingRing {
    memory: RingMemory,
    /// Where the next packet goes.
    write: u32,
    /// The write index that the guest knows.
    published: u32,
    /// The read index when we last looked.
    read: u32,
    /// Bytes written since the ring was taken up.
    written: u64,
    /// Whether we left a size that we wait for.
    waiting: bool,
    tap: Option<Tap>,
}

impl OutgoingRing {
    /// Takes up the ring where its indexes stand.
    ///
    /// # Errors
    /// An index that points nowhere.
    pub fn new(memory: RingMemory) -> Result<Self, RingError> {
        let read = memory.load_index(memory.read_index(), "read")?;
        let write = memory.load_index(memory.write_index(), "write")?;
        memory.pending_send_size().store(0, Ordering::Relaxed);
        memory.features().fetch_or(FEATURE_PENDING_SEND_SIZE, Ordering::Release);
        Ok(Self { memory, write, published: write, read, written: 0, waiting: false, tap: None })
    }

    /// Has the header of each packet that is written shown to `tap`.
    pub fn tap(&mut self, tap: Tap) {
        self.tap = Some(tap);
    }

    /// Writes a packet that the guest will see with the next [`publish`](Self::publish).
    ///
    /// # Errors
    /// No room now ([`wait_for_room`](Self::wait_for_room)), or never.
    #[inline]
    pub fn write(&mut self, packet: &NewPacket<'_>) -> Result<(), WriteError> {
        let (header, needed) = packet.layout(self.memory.size())?;
        if !self.has_room(needed)? {
            return Err(WriteError::Full { needed });
        }
        if self.waiting {
            self.waiting = false;
            self.memory.pending_send_size().store(0, Ordering::Relaxed);
        }
        self.write = self.memory.put(self.write, &header, packet);
        self.written += u64::from(needed);
        if let Some(tap) = &self.tap {
            tap.see(&header);
        }
        Ok(())
    }

    /// Shows the guest what was written.
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
        // Whatever the guest put there: only `before` means that it saw nothing to do.
        let read = self.memory.read_index().load(Ordering::Relaxed);
        if read == before { Signal::Needed } else { Signal::NotNeeded }
    }

    /// Asks the guest to signal once there is room for `needed` bytes ([`WriteError::Full`] says how many).
    /// Publishes first: a guest that sees no packets makes no room. Returns `true` when there is room already.
    ///
    /// A guest that does not [mind](super::IncomingRing::guest_minds_room) the request never signals.
    ///
    /// # Errors
    /// A read index that points nowhere.
    pub fn wait_for_room(&mut self, needed: u32) -> Result<(bool, Signal), RingError> {
        let signal = self.publish();
        self.waiting = true;
        self.memory.pending_send_size().store(needed, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        Ok((self.has_room(needed)?, signal))
    }

    /// Returns `true` if a packet fits that takes `needed` bytes ([`NewPacket::space`]).
    ///
    /// # Errors
    /// A read index that points nowhere.
    #[inline]
    pub fn has_room(&mut self, needed: u32) -> Result<bool, RingError> {
        if self.room() <= needed {
            self.read = self.memory.load_index(self.memory.read_index(), "read")?;
        }
        Ok(self.room() > needed)
    }

    /// Returns where the next packet goes.
    pub fn mark(&self) -> Mark {
        Mark(self.written)
    }

    /// Returns `true` if the guest has read all that was written before `mark`.
    ///
    /// # Errors
    /// A read index that points nowhere.
    pub fn is_read(&mut self, mark: Mark) -> Result<bool, RingError> {
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

    /// Returns what [`wait_for_room`](Self::wait_for_room) takes for the guest to signal when it has read everything.
    pub fn all_room(&self) -> u32 {
        self.memory.size() - 1
    }

    #[inline]
    fn room(&self) -> u32 {
        self.memory.size() - self.memory.distance(self.read, self.write)
    }
}
