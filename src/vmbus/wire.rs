//! The control messages of VMBus 2.4 to 5.3, as the payload of SynIC messages.
//!
//! A message is a [`MessageHeader`] and one of the bodies below. There is no published specification. Names and layout
//! follow Linux's `include/linux/hyperv.h` (`struct vmbus_channel_*`) and OpenVMM's `vmbus_core`. Multi-byte fields are
//! little-endian, like this host.
//!
//! The headers of packets in a channel are in [`packet`](super::packet).

use std::fmt;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::ids::{ChannelId, ConnectionId, GpadlId, Version, VpIndex};
use crate::wire::guid::Guid;
use crate::wire::{open_enum, wire};

/// Maximum length of a message: the payload of a SynIC message (TLFS, `HV_MESSAGE_PAYLOAD_BYTE_COUNT`).
pub const MAX_MESSAGE: usize = crate::hyperv::message::MAX_PAYLOAD;

open_enum! {
/// The type of a message. Unknown types are kept.
MessageType: u32, "message type {}";
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

open_enum! {
/// An NTSTATUS: 0 is success.
Status: u32, "failure {:#x}";
    /// Success.
    SUCCESS = 0, "success";
    /// The request failed.
    UNSUCCESSFUL = 0xc000_0001, "STATUS_UNSUCCESSFUL";
    /// There is no listener.
    CONNECTION_REFUSED = 0xc000_0236, "STATUS_CONNECTION_REFUSED";
}

wire! { 8,
/// The start of every message.
pub struct MessageHeader {
    /// The type of the body.
    pub message_type: MessageType,
    /// 0.
    pub reserved: u32,
}}

wire! { 32,
/// `INITIATE_CONTACT`: the guest requests a version and sets the target of replies. Linux tries versions from the
/// newest down.
pub struct InitiateContact {
    /// The requested version.
    pub version: Version,
    /// The VP whose SynIC receives the host's messages, from version 3.0.
    pub target_vp: VpIndex,
    /// See [`InitiateContact::target`]. Up to version 4.1, this is the GPA of the interrupt page, which dedicated
    /// interrupts have replaced.
    pub interrupt_page_or_target: [u8; 8],
    /// GPA of the page with which a host can defer signals. This host does not use it.
    pub parent_to_child_monitor_page: u64,
    /// GPA of the page with which a guest can defer signals, if an offer allows it. This host's offers do not.
    pub child_to_parent_monitor_page: u64,
}}

wire! { 8,
/// From version 5.0, in place of the interrupt page: the SINT and VTL that receive the host's messages.
pub struct MessageTarget {
    /// The SINT, from version 5.0. Linux uses 2.
    pub sint: u8,
    /// The virtual trust level, from version 5.1.
    pub vtl: u8,
    /// 0.
    pub reserved: [u8; 2],
    /// From version 6.0, so 0 here.
    pub feature_flags: u32,
}}

impl InitiateContact {
    /// Returns [`interrupt_page_or_target`](Self::interrupt_page_or_target) as interpreted from version 5.0.
    pub fn target(&self) -> MessageTarget {
        zerocopy::transmute!(self.interrupt_page_or_target)
    }
}

wire! { 8,
/// `VERSION_RESPONSE`: tells the guest whether the requested version is supported.
pub struct VersionResponse {
    /// 1 if it is supported.
    pub supported: u8,
    /// 0 if the connection is established. Otherwise it failed although the version is supported.
    pub connection_state: u8,
    /// 0.
    pub reserved: u16,
    /// From version 5.0, the connection to which the guest posts its messages from now on; before that, the version.
    pub connection_id: u32,
}}

wire! { 188,
/// `OFFERCHANNEL`: a device, or one more channel of it, can be opened.
pub struct OfferChannel {
    /// The kind of device: see [`interface`](crate::wire::guid::interface).
    pub interface: Guid,
    /// The instance.
    pub instance: Guid,
    /// 0.
    pub reserved: [u32; 4],
    /// See [`offer_flags`].
    pub flags: u16,
    /// The MMIO space that the device needs, in MiB.
    pub mmio_megabytes: u16,
    /// Data of the device; for pipes, it starts with the pipe's mode.
    pub user_defined: UserDefined,
    /// 0 for the primary channel.
    pub subchannel_index: u16,
    /// Additional MMIO space that the device can use, in MiB.
    pub mmio_megabytes_optional: u16,
    /// The channel's id, until the guest releases it.
    pub channel: ChannelId,
    /// The monitored-notification slot.
    pub monitor_id: u8,
    /// Whether `monitor_id` is valid.
    pub monitor_allocated: u8,
    /// 1: signals use only `connection`, without a bit in the interrupt page.
    pub is_dedicated_interrupt: u16,
    /// The connection on which the guest signals the host.
    pub connection: ConnectionId,
}}

/// Bits of `OfferChannel::flags`.
pub mod offer_flags {
    /// The device is shown to user space.
    pub const ENUMERATE_DEVICE_INTERFACE: u16 = 1;
    /// The channel is a pipe: each packet's payload has a pipe header.
    pub const NAMED_PIPE_MODE: u16 = 0x10;
    /// The channel is an hvsocket connection.
    pub const TLNPI_PROVIDER: u16 = 0x2000;
}

/// Data for the driver; its meaning depends on the device.
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
/// `RESCIND_CHANNELOFFER`, `CLOSECHANNEL` and `RELID_RELEASED`: the channel that the message is about.
pub struct ChannelReference {
    /// The channel.
    pub channel: ChannelId,
}}

wire! { 140,
/// `OPENCHANNEL`: the guest provides the rings' pages and asks to open the channel.
pub struct OpenChannel {
    /// The channel.
    pub channel: ChannelId,
    /// Chosen by the guest; returned in [`OpenResult::open_id`].
    pub open_id: u32,
    /// The pages of both rings, guest-to-host first.
    pub ring_gpadl: GpadlId,
    /// The VP that the host interrupts, or [`OpenChannel::NO_INTERRUPTS`].
    pub target_vp: VpIndex,
    /// First page of the host-to-guest ring, in pages from the start of the GPADL.
    pub downstream_offset: u32,
    /// Data of the driver.
    pub user_defined: UserDefined,
}}

impl OpenChannel {
    /// In [`target_vp`](Self::target_vp): the guest polls.
    pub const NO_INTERRUPTS: VpIndex = VpIndex(u32::MAX);
}

wire! { 12,
/// `OPENCHANNEL_RESULT`.
pub struct OpenResult {
    /// The channel.
    pub channel: ChannelId,
    /// As in [`OpenChannel::open_id`].
    pub open_id: u32,
    /// The result.
    pub status: Status,
}}

wire! { 12,
/// `GPADL_HEADER`: the first message about a GPADL. As many of its ranges follow as fit.
pub struct GpadlHeader {
    /// The channel that the GPADL belongs to.
    pub channel: ChannelId,
    /// Chosen by the guest.
    pub gpadl: GpadlId,
    /// Length of the ranges, in bytes, over all messages.
    pub range_bytes: u16,
    /// Number of ranges.
    pub range_count: u16,
}}

wire! { 8,
/// `GPADL_BODY`: more of the ranges.
pub struct GpadlBody {
    /// The number of the body; Linux leaves it 0.
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
    /// The result.
    pub status: Status,
}}

wire! { 8,
/// `GPADL_TEARDOWN`: the guest asks to release its pages.
pub struct GpadlTeardown {
    /// The channel that the GPADL belongs to.
    pub channel: ChannelId,
    /// The GPADL.
    pub gpadl: GpadlId,
}}

wire! { 4,
/// `GPADL_TORNDOWN`: the host no longer uses the pages.
pub struct GpadlTorndown {
    /// The GPADL.
    pub gpadl: GpadlId,
}}

wire! { 32,
/// `TL_CONNECT_REQUEST`: the guest connects an hvsocket to a service of the host. From version 5.2 a silo id may follow.
pub struct TlConnectRequest {
    /// The endpoint of the guest.
    pub endpoint: Guid,
    /// The service of the host.
    pub service: Guid,
}}

wire! { 36,
/// `TL_CONNECT_RESULT`: sent from version 4.1 if the connection fails.
pub struct TlConnectResult {
    /// As in the request.
    pub endpoint: Guid,
    /// As in the request.
    pub service: Guid,
    /// The reason.
    pub status: Status,
}}

wire! { 8,
/// `MODIFYCHANNEL`: the guest moves the channel's interrupts to another VP.
pub struct ModifyChannel {
    /// The channel.
    pub channel: ChannelId,
    /// The new VP.
    pub target_vp: VpIndex,
}}

wire! { 8,
/// `MODIFYCHANNEL_RESPONSE`, from version 5.3: the old VP gets no more interrupts.
pub struct ModifyChannelResponse {
    /// The channel.
    pub channel: ChannelId,
    /// The result.
    pub status: Status,
}}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
