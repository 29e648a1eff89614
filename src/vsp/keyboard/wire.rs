//! Messages of the synthetic keyboard, as plain data. They have no pipe header. (Linux:
//! `drivers/input/serio/hyperv-keyboard.c`.)

use crate::wire::{open_enum, wire};

open_enum! {
/// The type of a message.
MessageType: u32, "message type {}";
    /// The guest asks for a version.
    PROTOCOL_REQUEST = 1, "protocol request";
    /// The host accepts it or not.
    PROTOCOL_RESPONSE = 2, "protocol response";
    /// A key was pressed or released.
    EVENT = 3, "keystroke";
    /// The guest sets the keyboard's lights.
    LED_INDICATORS = 4, "LED indicators";
}

/// The only version: 1.0.
pub const VERSION: u32 = 1 << 16;

wire! { 8,
/// `PROTOCOL_REQUEST`
pub struct ProtocolRequest {
    /// The type.
    pub message_type: MessageType,
    /// Minor version, and the major version in the upper half.
    pub version: u32,
}}

wire! { 8,
/// `PROTOCOL_RESPONSE`
pub struct ProtocolResponse {
    /// The type.
    pub message_type: MessageType,
    /// 1 if the version is accepted, else 0.
    pub accepted: u32,
}}

wire! { 12,
/// `EVENT`
pub struct Keystroke {
    /// The type.
    pub message_type: MessageType,
    /// The scan code of set 1, without a prefix.
    pub code: u16,
    /// 0.
    pub reserved: u16,
    /// See [`Keystroke::BREAK`].
    pub flags: u32,
}}

impl Keystroke {
    /// In [`flags`](Self::flags): the key was released.
    pub const BREAK: u32 = 2;
    /// In [`flags`](Self::flags): `E0` precedes the code.
    pub const E0: u32 = 4;
    /// In [`flags`](Self::flags): `E1` precedes the code.
    pub const E1: u32 = 8;

    /// Creates the message.
    pub fn new(code: u8, flags: u32) -> Self {
        Self { message_type: MessageType::EVENT, code: code.into(), reserved: 0, flags }
    }
}
