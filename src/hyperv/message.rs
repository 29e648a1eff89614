//! The memory layout of SynIC messages (TLFS, "SynIC Messages"; `HV_MESSAGE`, `HV_TIMER_MESSAGE_PAYLOAD`).

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::types::TimerIndex;
use crate::wire::{open_enum, wire};

/// `HV_MESSAGE_SIZE`: the size of a slot of the SIM page.
pub const MESSAGE_SIZE: usize = 256;
/// `HV_MESSAGE_MAX_PAYLOAD_BYTE_COUNT`.
pub const MAX_PAYLOAD: usize = 240;

open_enum! {
/// `HV_MESSAGE_TYPE`. Unknown values are kept; zero marks an empty slot.
MessageType: u32, "type {:#x}";
    /// The slot is empty.
    NONE = 0, "HvMessageTypeNone";
    /// The type of the messages that VMBus sends. The TLFS has no name for it.
    CHANNEL = 1, "type 0x1";
    /// A synthetic timer has expired.
    TIMER_EXPIRED = 0x8000_0010, "HvMessageTimerExpired";
}

impl MessageType {
    /// Returns `true` if the type is reserved for the hypervisor, so that no guest may send it.
    pub const fn is_hypervisor(self) -> bool {
        self.0 & 0x8000_0000 != 0
    }
}

wire! { 16,
/// `HV_MESSAGE_HEADER`.
pub struct MessageHeader {
    /// The type of the message. It is written last, so that a guest that sees it sees the whole message.
    pub message_type: MessageType,
    /// Length of the payload in bytes.
    pub payload_size: u8,
    /// `HV_MESSAGE_FLAGS`: bit 0 is MessagePending.
    pub flags: u8,
    /// Must be zero.
    pub reserved: u16,
    /// The port for posted messages, zero for timers.
    pub origination_id: u64,
}}

/// `HV_MESSAGE`: the content of a slot.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Message {
    /// Its type, size and sender.
    pub header: MessageHeader,
    /// The payload, of which [`MessageHeader::payload_size`] bytes are valid.
    pub payload: [u8; MAX_PAYLOAD],
}
const _: () = assert!(size_of::<Message>() == MESSAGE_SIZE);

impl Message {
    /// Creates a message with this payload, or `None` if the payload is longer than 240 bytes.
    pub fn new(message_type: MessageType, origination_id: u64, payload: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_PAYLOAD];
        bytes.get_mut(..payload.len())?.copy_from_slice(payload);
        let header =
            MessageHeader { message_type, payload_size: payload.len() as u8, flags: 0, reserved: 0, origination_id };
        Some(Self { header, payload: bytes })
    }

    /// Returns the message of an expired timer.
    pub fn timer_expired(timer: TimerIndex, expiration_time: u64, delivery_time: u64) -> Self {
        let content =
            TimerMessagePayload { timer_index: timer.get().into(), reserved: 0, expiration_time, delivery_time };
        let mut payload = [0; MAX_PAYLOAD];
        payload[..size_of::<TimerMessagePayload>()].copy_from_slice(content.as_bytes());
        let header = MessageHeader {
            message_type: MessageType::TIMER_EXPIRED,
            payload_size: size_of::<TimerMessagePayload>() as u8,
            flags: 0,
            reserved: 0,
            origination_id: 0,
        };
        Self { header, payload }
    }

    /// Returns the valid bytes of the payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload[..usize::from(self.header.payload_size).min(MAX_PAYLOAD)]
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("header", &self.header).field("payload", &self.payload()).finish()
    }
}

wire! { 24,
/// `HV_TIMER_MESSAGE_PAYLOAD`.
pub struct TimerMessagePayload {
    /// The number of the timer.
    pub timer_index: u32,
    /// Zero.
    pub reserved: u32,
    /// The time when the timer was due, in reference time.
    pub expiration_time: u64,
    /// The time when the message was placed into its slot.
    pub delivery_time: u64,
}}
