//! The messages that wait for one slot.

use std::collections::VecDeque;

use super::slot::{MessagePage, Placed};
use crate::hyperv::message::{Message, MessageType};
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::types::SintIndex;
use crate::memory::GuestMemory;

/// Messages that may wait for one slot. The TLFS gives a port sixteen buffers; four ports may share a SINT.
pub const MAX_WAITING: usize = 64;

/// Messages in the order in which they were posted, bounded by [`MAX_WAITING`].
///
/// The kernel engine, whose SynIC registers are KVM's, uses it without a [`super::Synic`] around.
#[derive(Debug, Default)]
pub struct MessageQueue {
    waiting: VecDeque<Message>,
    /// A message found no room, and its sender has not heard of any since.
    turned_away: bool,
}

impl MessageQueue {
    /// Returns how many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns `true` if none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Has a message wait.
    ///
    /// # Errors
    /// [`HvStatus::INSUFFICIENT_BUFFERS`] where as many wait as may.
    pub fn push(&mut self, message: Message) -> HvResult<()> {
        if self.waiting.len() >= MAX_WAITING {
            self.turned_away = true;
            return Err(HvStatus::INSUFFICIENT_BUFFERS);
        }
        self.waiting.push_back(message);
        Ok(())
    }

    /// Drops what waits and has this type.
    pub fn withdraw(&mut self, message_type: MessageType) {
        self.waiting.retain(|message| message.header.message_type != message_type);
    }

    /// Returns `true` if there is room again where a message was turned away. Said once.
    pub fn take_room(&mut self) -> bool {
        let room = self.turned_away && self.waiting.len() < MAX_WAITING;
        self.turned_away &= !room;
        room
    }

    /// Puts the first message into its slot, if there is one and the slot is free. Returns `true` if it did: then interrupt the VP.
    ///
    /// `more` says that something waits behind the queue, so that MessagePending must be set in any case.
    pub fn deliver(&mut self, memory: &GuestMemory, page: MessagePage, sint: SintIndex, more: bool) -> bool {
        let more = more || self.waiting.len() > 1;
        let placed =
            self.waiting.front().is_some_and(|message| page.place(memory, sint, message, more) == Placed::InSlot);
        if placed {
            self.waiting.pop_front();
        }
        placed
    }
}
