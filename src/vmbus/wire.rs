//! The control messages of VMBus 2.4 to 5.3, as they lie in a SynIC message's payload.
//!
//! A message is a [`MessageHeader`] and one of the bodies below. The protocol was never published as a
//! document; names and layout follow Linux's `include/linux/hyperv.h` (`struct vmbus_channel_*`) and
//! OpenVMM's `vmbus_core`. Multi-byte fields are little-endian, as this host is.
//!
//! The headers of the packets inside a channel are in [`packet`](super::packet).

use std::fmt;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::ids::{ChannelId, ConnectionId, GpadlId, Version, VpIndex};
use crate::wire::guid::Guid;

/// The most bytes that a message has: the payload of a SynIC message (TLFS, `HV_MESSAGE_PAYLOAD_BYTE_COUNT`).
pub const MAX_MESSAGE: usize = crate::hyperv::message::MAX_PAYLOAD;

/// An open enum of message types: an unknown number stays what it is.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct MessageType(pub u32);

macro_rules! message_types {
    ($($constant:ident = $value:literal;)*) => {
        #[allow(missing_docs, reason = "the names are the protocol's own; the bodies are documented")]
        impl MessageType {
            $(pub const $constant: Self = Self($value);)*

            /// Returns the protocol's name of the type, if it has one.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$constant => Some(stringify!($constant)),)*
                    _ => None,
                }
            }
        }
    };
}

message_types! {
    OFFERCHANNEL = 1;
    RESCIND_CHANNELOFFER = 2;
    REQUESTOFFERS = 3;
    ALLOFFERS_DELIVERED = 4;
    OPENCHANNEL = 5;
    OPENCHANNEL_RESULT = 6;
    CLOSECHANNEL = 7;
    GPADL_HEADER = 8;
    GPADL_BODY = 9;
    GPADL_CREATED = 10;
    GPADL_TEARDOWN = 11;
    GPADL_TORNDOWN = 12;
    RELID_RELEASED = 13;
    INITIATE_CONTACT = 14;
    VERSION_RESPONSE = 15;
    UNLOAD = 16;
    UNLOAD_RESPONSE = 17;
    TL_CONNECT_REQUEST = 21;
    MODIFYCHANNEL = 22;
    TL_CONNECT_RESULT = 23;
    MODIFYCHANNEL_RESPONSE = 24;
}

impl fmt::Debug for MessageType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "message type {}", self.0),
        }
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// An NTSTATUS: 0 is success.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Status(pub u32);

impl Status {
    /// It was done.
    pub const SUCCESS: Self = Self(0);
    /// It was not done (`STATUS_UNSUCCESSFUL`).
    pub const UNSUCCESSFUL: Self = Self(0xc000_0001);
    /// Nobody listens there (`STATUS_CONNECTION_REFUSED`).
    pub const CONNECTION_REFUSED: Self = Self(0xc000_0236);
}

impl fmt::Debug for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SUCCESS => formatter.write_str("success"),
            Self(status) => write!(formatter, "failure {status:#x}"),
        }
    }
}

macro_rules! wire {
    ($size:literal, $(#[$doc:meta])* pub struct $name:ident { $($body:tt)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $($body)* }
        const _: () = assert!(size_of::<$name>() == $size);
    };
}

wire! { 8,
/// What every message starts with.
pub struct MessageHeader {
    /// What follows.
    pub message_type: MessageType,
    /// 0.
    pub reserved: u32,
}}

wire! { 32,
/// `INITIATE_CONTACT`: the guest asks for a version and says where answers are to go. Linux tries versions from the newest down.
pub struct InitiateContact {
    /// The version that the guest would speak.
    pub version: Version,
    /// The VP whose SynIC gets the host's messages, from version 3.0.
    pub target_vp: VpIndex,
    /// See [`InitiateContact::target`]; up to version 4.1 the GPA of the interrupt page, which dedicated interrupts have replaced.
    pub interrupt_page_or_target: [u8; 8],
    /// GPA of the page by which the host would defer signals. This host never does.
    pub parent_to_child_monitor_page: u64,
    /// GPA of the page by which the guest would defer signals, if an offer told it to. No offer of this host does.
    pub child_to_parent_monitor_page: u64,
}}

wire! { 8,
/// From version 5.0, in the place of the interrupt page: which SINT and VTL get the host's messages.
pub struct MessageTarget {
    /// The SINT, of version 5.0. Linux asks for 2.
    pub sint: u8,
    /// The virtual trust level, of version 5.1.
    pub vtl: u8,
    /// 0.
    pub reserved: [u8; 2],
    /// Of version 6.0, so 0 here.
    pub feature_flags: u32,
}}

impl InitiateContact {
    /// Returns what [`interrupt_page_or_target`](Self::interrupt_page_or_target) says from version 5.0.
    pub fn target(&self) -> MessageTarget {
        zerocopy::transmute!(self.interrupt_page_or_target)
    }
}

wire! { 8,
/// `VERSION_RESPONSE`: whether the version asked for is spoken.
pub struct VersionResponse {
    /// 1 if so.
    pub supported: u8,
    /// 0 if the connection stands; otherwise it failed although the version is right.
    pub connection_state: u8,
    /// 0.
    pub reserved: u16,
    /// From version 5.0 where the guest has to post its messages from now on; before that, the version.
    pub connection_id: u32,
}}

wire! { 188,
/// `OFFERCHANNEL`: a device, or one more channel of it, can be opened.
pub struct OfferChannel {
    /// What kind of device it is: see [`interface`](crate::wire::guid::interface).
    pub interface: Guid,
    /// Which one of its kind.
    pub instance: Guid,
    /// 0.
    pub reserved: [u32; 4],
    /// See [`offer_flags`].
    pub flags: u16,
    /// The MMIO space that the device wants, in MiB.
    pub mmio_megabytes: u16,
    /// The device's own; for pipes, the pipe's mode comes first.
    pub user_defined: UserDefined,
    /// 0 for the primary channel.
    pub subchannel_index: u16,
    /// MMIO space that the device could use on top, in MiB.
    pub mmio_megabytes_optional: u16,
    /// The channel's id from now on, until the guest releases it.
    pub channel: ChannelId,
    /// The monitored-notification slot.
    pub monitor_id: u8,
    /// Whether `monitor_id` counts.
    pub monitor_allocated: u8,
    /// 1: signals go by `connection` alone, without a bit in the interrupt page.
    pub is_dedicated_interrupt: u16,
    /// Where the guest signals the host.
    pub connection: ConnectionId,
}}

/// Bits of [`OfferChannel::flags`].
pub mod offer_flags {
    /// The device is to be shown to user space.
    pub const ENUMERATE_DEVICE_INTERFACE: u16 = 1;
    /// The channel is a pipe: each packet's payload has a pipe header of its own.
    pub const NAMED_PIPE_MODE: u16 = 0x10;
    /// The channel is an hvsocket connection.
    pub const TLNPI_PROVIDER: u16 = 0x2000;
}

/// Bytes that a device and its driver agree about.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct UserDefined(pub [u8; 120]);

impl Default for UserDefined {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

impl fmt::Debug for UserDefined {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.0.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self.0[..used].iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

wire! { 4,
/// `RESCIND_CHANNELOFFER`, `CLOSECHANNEL` and `RELID_RELEASED`: which channel it is about.
pub struct ChannelReference {
    /// The channel.
    pub channel: ChannelId,
}}

wire! { 140,
/// `OPENCHANNEL`: the guest offers the rings' pages and asks for the channel to be opened.
pub struct OpenChannel {
    /// The channel.
    pub channel: ChannelId,
    /// Chosen by the guest; comes back in [`OpenResult::open_id`].
    pub open_id: u32,
    /// The pages of both rings, guest to host first.
    pub ring_gpadl: GpadlId,
    /// The VP that the host interrupts, or [`OpenChannel::NO_INTERRUPTS`].
    pub target_vp: VpIndex,
    /// First page of the host-to-guest ring, in pages from the start of the GPADL.
    pub downstream_offset: u32,
    /// The driver's own.
    pub user_defined: UserDefined,
}}

impl OpenChannel {
    /// In [`target_vp`](Self::target_vp): the guest looks by itself.
    pub const NO_INTERRUPTS: VpIndex = VpIndex(u32::MAX);
}

wire! { 12,
/// `OPENCHANNEL_RESULT`.
pub struct OpenResult {
    /// The channel.
    pub channel: ChannelId,
    /// As in [`OpenChannel::open_id`].
    pub open_id: u32,
    /// Whether it is open now.
    pub status: Status,
}}

wire! { 12,
/// `GPADL_HEADER`: the first of the messages that describe a GPADL. As many of its ranges follow as fit.
pub struct GpadlHeader {
    /// The channel that the GPADL belongs to.
    pub channel: ChannelId,
    /// Chosen by the guest.
    pub gpadl: GpadlId,
    /// Length of the ranges, in bytes, over all messages.
    pub range_bytes: u16,
    /// How many ranges there are.
    pub range_count: u16,
}}

wire! { 8,
/// `GPADL_BODY`: more of the ranges.
pub struct GpadlBody {
    /// Which one of the bodies this is; Linux leaves it 0.
    pub message_number: u32,
    /// As in the header.
    pub gpadl: GpadlId,
}}

wire! { 12,
/// `GPADL_CREATED`.
pub struct GpadlCreated {
    /// As in the header.
    pub channel: ChannelId,
    /// As in the header.
    pub gpadl: GpadlId,
    /// Whether the host knows it now.
    pub status: Status,
}}

wire! { 8,
/// `GPADL_TEARDOWN`: the guest wants its pages back.
pub struct GpadlTeardown {
    /// The channel that the GPADL belongs to.
    pub channel: ChannelId,
    /// Which one.
    pub gpadl: GpadlId,
}}

wire! { 4,
/// `GPADL_TORNDOWN`: the host uses the pages no more.
pub struct GpadlTorndown {
    /// Which one.
    pub gpadl: GpadlId,
}}

wire! { 32,
/// `TL_CONNECT_REQUEST`: the guest connects an hvsocket to a service of the host. From version 5.2 a silo id may follow.
pub struct TlConnectRequest {
    /// The guest's end.
    pub endpoint: Guid,
    /// The host's service.
    pub service: Guid,
}}

wire! { 36,
/// `TL_CONNECT_RESULT`: sent, from version 4.1, where no offer comes.
pub struct TlConnectResult {
    /// As in the request.
    pub endpoint: Guid,
    /// As in the request.
    pub service: Guid,
    /// Why not.
    pub status: Status,
}}

wire! { 8,
/// `MODIFYCHANNEL`: the guest wants the channel's interrupts on another VP.
pub struct ModifyChannel {
    /// The channel.
    pub channel: ChannelId,
    /// Where to.
    pub target_vp: VpIndex,
}}

wire! { 8,
/// `MODIFYCHANNEL_RESPONSE`, of version 5.3: the old VP gets no more interrupts.
pub struct ModifyChannelResponse {
    /// The channel.
    pub channel: ChannelId,
    /// Whether it was done.
    pub status: Status,
}}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
