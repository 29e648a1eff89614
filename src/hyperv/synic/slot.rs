//! A message slot and an event-flag array in guest memory, shared with a running guest.
//!
//! A slot is free while its message type is zero. The hypervisor fills a free slot and writes the type last. The guest
//! takes the message, writes zero to the type, and *then* reads MessagePending. If the hypervisor finds the slot busy,
//! it sets MessagePending and *then* checks the type again. So at least one of the two sees the other's write, and no
//! message is left waiting (`HV_MESSAGE`).
//!
//! The content of these pages is not trusted: the host only ever checks whether a field is zero.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering, fence};

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileMemory};
use zerocopy::IntoBytes;

use crate::hyperv::message::{MESSAGE_SIZE, Message};
use crate::hyperv::types::SintIndex;
use crate::memory::GuestMemory;

/// Event flags per SINT (`HV_EVENT_FLAGS_COUNT`).
pub const EVENT_FLAGS: u16 = 2048;

const FLAGS_OFFSET: u64 = 5;
const MESSAGE_PENDING: u8 = 1;

/// The result of placing a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// The message is in the slot.
    InSlot,
    /// The slot is busy. MessagePending is set, so the guest will write EOM when it has emptied the slot.
    Busy,
}

/// A VP's page of message slots, by its GPA.
#[derive(Clone, Copy, Debug)]
pub struct MessagePage(pub u64);

impl MessagePage {
    fn slot(self, sint: SintIndex) -> u64 {
        self.0 + (sint.index() * MESSAGE_SIZE) as u64
    }

    /// Places `message` into the slot of `sint` if it is free. `more`: others wait behind it.
    ///
    /// The caller is the only writer, because it holds the VP's lock.
    pub fn place(self, memory: &GuestMemory, sint: SintIndex, message: &Message, more: bool) -> Placed {
        let slot = self.slot(sint);
        if !is_free(memory, slot) {
            set_pending(memory, slot);
            fence(Ordering::SeqCst);
            if !is_free(memory, slot) {
                return Placed::Busy;
            }
        }
        let mut content = *message;
        content.header.flags = if more { MESSAGE_PENDING } else { 0 };
        let bytes = content.as_bytes();
        // The page was checked when its register was written, and RAM is never removed.
        let _ = memory.write_slice(&bytes[4..], GuestAddress(slot + 4));
        let _ = memory.store(message.header.message_type.0, GuestAddress(slot), Ordering::Release);
        Placed::InSlot
    }
}

fn is_free(memory: &GuestMemory, slot: u64) -> bool {
    memory.load::<u32>(GuestAddress(slot), Ordering::SeqCst).is_ok_and(|message_type| message_type == 0)
}

fn set_pending(memory: &GuestMemory, slot: u64) {
    if let Ok(slice) = memory.get_slice(GuestAddress(slot + FLAGS_OFFSET), 1)
        && let Ok(flags) = slice.get_atomic_ref::<AtomicU8>(0)
    {
        flags.fetch_or(MESSAGE_PENDING, Ordering::SeqCst);
    }
}

/// A VP's page of event flags, by its GPA.
#[derive(Clone, Copy, Debug)]
pub struct EventFlagsPage(pub u64);

impl EventFlagsPage {
    /// Sets a flag atomically, and returns `true` if it was clear.
    pub fn set(self, memory: &GuestMemory, sint: SintIndex, flag: u16) -> bool {
        debug_assert!(flag < EVENT_FLAGS);
        let word = self.0 + (sint.index() * MESSAGE_SIZE) as u64 + u64::from(flag / 32) * 4;
        let mask = 1 << (flag % 32);
        let Ok(slice) = memory.get_slice(GuestAddress(word), 4) else { return false };
        slice.get_atomic_ref::<AtomicU32>(0).is_ok_and(|flags| flags.fetch_or(mask, Ordering::SeqCst) & mask == 0)
    }
}

#[cfg(test)]
#[path = "slot_tests.rs"]
mod tests;
