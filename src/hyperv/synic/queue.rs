//! The queue of messages that wait for one slot.

use std::collections::VecDeque;

use super::slot::{MessagePage, Placed};
use crate::hyperv::message::{Message, MessageType};
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::types::SintIndex;
use crate::memory::GuestMemory;

/// Maximum number of messages that wait for one slot. The TLFS gives a port sixteen buffers; four ports can share a
/// SINT.
pub const MAX_WAITING: usize = 64;

/// Messages in the order of posting, at most [`MAX_WAITING`].
///
/// The kernel engine uses it without a [`super::Synic`], because KVM has the SynIC registers.
#[derive(Debug, Default)]
pub struct MessageQueue {
    waiting: VecDeque<Message>,
    /// A message was refused for lack of room, and its sender has not been notified since.
    turned_away: bool,
}

impl MessageQueue {
    /// Returns the number of waiting messages.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns `true` if no message waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a message.
    ///
    /// # Errors
    /// Returns [`HvStatus::INSUFFICIENT_BUFFERS`] if the queue is full.
    pub fn push(&mut self, message: Message) -> HvResult<()> {
        if self.waiting.len() >= MAX_WAITING {
            self.turned_away = true;
            return Err(HvStatus::INSUFFICIENT_BUFFERS);
        }
        self.waiting.push_back(message);
        Ok(())
    }

    /// Drops waiting messages of this type.
    pub fn withdraw(&mut self, message_type: MessageType) {
        self.waiting.retain(|message| message.header.message_type != message_type);
    }

    /// Returns `true`, once, if there is room again after a message was refused.
    pub fn take_room(&mut self) -> bool {
        let room = self.turned_away && self.waiting.len() < MAX_WAITING;
        self.turned_away &= !room;
        room
    }

    /// Places the first message into its slot, if there is one and the slot is free. Returns `true` if it did, so that
    /// the VP must be interrupted.
    ///
    /// `more`: something waits behind the queue, so MessagePending must be set in any case.
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
