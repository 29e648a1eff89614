//! The guest's side of both rings, for tests, benchmarks and loopbacks.
//!
//! It follows the rules of Linux's `drivers/hv/ring_buffer.c` and shares only the ring's memory with the host's side:
//! if the two disagree, tests fail. Like Linux, the sender publishes every packet separately and keeps no state outside
//! of the ring.

use std::sync::atomic::{Ordering, fence};

use zerocopy::{FromBytes, IntoBytes};

use super::{FEATURE_PENDING_SEND_SIZE, FOOTER, HEADER, NewPacket, Packet, RingMemory, Signal, WriteError};
use crate::vmbus::packet::PacketHeader;

/// The guest's side of the guest-to-host ring.
#[derive(Debug)]
pub struct GuestSender {
    memory: RingMemory,
}

/// The guest's side of the host-to-guest ring.
#[derive(Debug)]
pub struct GuestReceiver {
    memory: RingMemory,
    read: u32,
}

fn reset(memory: &RingMemory) {
    for word in [memory.write_index(), memory.read_index(), memory.interrupt_mask(), memory.pending_send_size()] {
        word.store(0, Ordering::Relaxed);
    }
    memory.features().store(FEATURE_PENDING_SEND_SIZE, Ordering::Release);
}

impl GuestSender {
    /// Empties the ring, as the guest does before it opens the channel.
    pub fn new(memory: RingMemory) -> Self {
        reset(&memory);
        Self { memory }
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// Returns an error if the ring is full, or too small for the packet.
    #[inline]
    pub fn send(&mut self, packet: &NewPacket<'_>) -> Result<Signal, WriteError> {
        let (header, needed) = packet.layout(self.memory.size())?;
        let before = self.memory.write_index().load(Ordering::Relaxed);
        if self.room() <= needed {
            return Err(WriteError::Full { needed });
        }
        let after = self.memory.put(before, &header, packet);
        self.memory.write_index().store(after, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.memory.interrupt_mask().load(Ordering::Acquire) != 0 {
            return Ok(Signal::NotNeeded);
        }
        let was_empty = self.memory.read_index().load(Ordering::Relaxed) == before;
        Ok(if was_empty { Signal::Needed } else { Signal::NotNeeded })
    }

    /// Asks the host to signal when `needed` bytes fit; 0 undoes this. Returns `true` if they already fit.
    pub fn set_pending(&mut self, needed: u32) -> bool {
        self.memory.pending_send_size().store(needed, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.room() > needed
    }

    /// Emulates an old guest, which does not evaluate the size that the host waits for.
    #[cfg(test)]
    pub fn mind_no_room(&mut self) {
        self.memory.features().store(0, Ordering::SeqCst);
    }

    fn room(&self) -> u32 {
        let read = self.memory.read_index().load(Ordering::Acquire);
        let write = self.memory.write_index().load(Ordering::Relaxed);
        if write >= read { self.memory.size() - (write - read) } else { read - write }
    }
}

impl GuestReceiver {
    /// Empties the ring, as the guest does before it opens the channel.
    pub fn new(memory: RingMemory) -> Self {
        reset(&memory);
        Self { memory, read: 0 }
    }

    /// Copies the next packet into `buffer`.
    #[inline]
    pub fn receive<'b>(&mut self, buffer: &'b mut Vec<u8>) -> Option<Packet<'b>> {
        let write = self.memory.write_index().load(Ordering::Acquire);
        if write == self.read {
            return None;
        }
        let mut bytes = [0; HEADER as usize];
        self.memory.copy_out(self.read, &mut bytes);
        let header = PacketHeader::read_from_bytes(bytes.as_bytes()).ok()?;
        let length = (header.length() - HEADER) as usize;
        buffer.resize(length.max(buffer.len()), 0);
        let bytes = &mut buffer[..length];
        self.memory.copy_out((self.read + HEADER) % self.memory.size(), bytes);
        self.read = (self.read + header.length() + FOOTER) % self.memory.size();
        let (extra, payload) = bytes.split_at((header.payload_offset() - HEADER) as usize);
        Some(Packet { header, extra, payload })
    }

    /// Returns the space of the packets that were read to the host.
    pub fn close(&mut self) -> Signal {
        let start = self.memory.read_index().load(Ordering::Relaxed);
        self.memory.read_index().store(self.read, Ordering::Release);
        if self.memory.features().load(Ordering::Relaxed) & FEATURE_PENDING_SEND_SIZE == 0 {
            return Signal::NotNeeded;
        }
        fence(Ordering::SeqCst);
        let pending = self.memory.pending_send_size().load(Ordering::Acquire);
        if pending == 0 {
            return Signal::NotNeeded;
        }
        let write = self.memory.write_index().load(Ordering::Acquire);
        let size = self.memory.size();
        let room = if write >= self.read { size - (write - self.read) } else { self.read - write };
        let freed = if self.read >= start { self.read - start } else { size - start + self.read };
        // The arithmetic wraps, as in Linux, if the host has written since and so does not wait.
        if room.wrapping_sub(freed) <= pending && room > pending { Signal::Needed } else { Signal::NotNeeded }
    }

    /// Masks interrupts while the guest reads.
    pub fn begin_read(&mut self) {
        self.memory.interrupt_mask().store(1, Ordering::SeqCst);
    }

    /// Unmasks interrupts. Returns `true` if there is more to read.
    pub fn end_read(&mut self) -> bool {
        self.memory.interrupt_mask().store(0, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.memory.write_index().load(Ordering::Acquire) != self.read
    }
}
