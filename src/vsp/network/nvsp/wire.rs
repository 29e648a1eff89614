//! NVSP's messages as the payload of packets. Names and layouts follow Linux's `drivers/net/hyperv/hyperv_net.h`.

use std::fmt;
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::vmbus::ids::GpadlId;
use crate::vsp::network::{held_as_text, open_enum, wire};

open_enum! {
/// The type of a message. Unknown types are kept. Version 1 begins at 100, 2 at 109, 4 at 128, 5 at 131, 6 at 135.
MessageType: u32, "message type {}";
    INIT = 1;
    INIT_COMPLETE = 2;
    SEND_NDIS_VERSION = 100;
    SEND_RECEIVE_BUFFER = 101;
    SEND_RECEIVE_BUFFER_COMPLETE = 102;
    REVOKE_RECEIVE_BUFFER = 103;
    SEND_SEND_BUFFER = 104;
    SEND_SEND_BUFFER_COMPLETE = 105;
    REVOKE_SEND_BUFFER = 106;
    SEND_RNDIS_PACKET = 107;
    SEND_RNDIS_PACKET_COMPLETE = 108;
    SEND_NDIS_CONFIG = 125;
    SEND_VF_ASSOCIATION = 128;
    SWITCH_DATA_PATH = 129;
    OID_QUERY_EX = 131;
    OID_QUERY_EX_COMPLETE = 132;
    SUBCHANNEL = 133;
    SEND_INDIRECTION_TABLE = 134;
    PD_API = 135;
    PD_POST_BATCH = 136;
}

open_enum! {
/// The status of a request. Unknown values are kept.
Status: u32, "status {}";
    NONE = 0;
    SUCCESS = 1;
    FAIL = 2;
    PROTOCOL_TOO_NEW = 3;
    PROTOCOL_TOO_OLD = 4;
    INVALID_RNDIS_PACKET = 5;
    BUSY = 6;
    PROTOCOL_UNSUPPORTED = 7;
}

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Windows Server 2008.
    V1,
    /// Windows Server 2008 R2: the driver announces MTU and capabilities.
    V2,
    /// Windows Server 2012.
    V4,
    /// Windows Server 2012 R2: subchannels and receive-side scaling.
    V5,
    /// Windows Server 2016.
    V6,
    /// Windows Server 2019: coalesced segments.
    V6_1,
}

impl Version {
    /// All versions, oldest first. There is no version 3.
    pub const ALL: [Self; 6] = [Self::V1, Self::V2, Self::V4, Self::V5, Self::V6, Self::V6_1];
    /// The newest version.
    pub const NEWEST: Self = Self::V6_1;

    /// Returns the version's number in [`Init`].
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::V1 => 2,
            Self::V2 => 0x3_0002,
            Self::V4 => 0x4_0000,
            Self::V5 => 0x5_0000,
            Self::V6 => 0x6_0000,
            Self::V6_1 => 0x6_0001,
        }
    }

    /// Returns the version with this number in [`Init`].
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.number() == number)
    }

    /// Returns the minimum length of the host's messages: drivers copy that many bytes.
    pub(crate) fn message_length(self) -> usize {
        if self < Self::V6_1 { 28 } else { 40 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::V1 => "1",
            Self::V2 => "2",
            Self::V4 => "4",
            Self::V5 => "5",
            Self::V6 => "6",
            Self::V6_1 => "6.1",
        })
    }
}

/// The text is not a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an NVSP version; give one of 1, 2, 4, 5, 6, 6.1")]
pub struct UnknownVersion(String);

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        Self::ALL
            .into_iter()
            .find(|version| version.to_string() == text)
            .ok_or_else(|| UnknownVersion(text.to_string()))
    }
}

held_as_text!(Version);

wire! { 8,
/// `INIT`: the guest requests a version. Linux tries one after the other, newest first.
pub struct Init {
    /// The oldest acceptable version.
    pub minimum: u32,
    /// The newest acceptable version.
    pub maximum: u32,
}}

wire! { 12,
/// `INIT_COMPLETE`.
pub struct InitComplete {
    /// The version, evaluated only by version 1.
    pub version: u32,
    /// Maximum number of pieces in a packet.
    pub maximum_pieces: u32,
    /// Whether the version is supported.
    pub status: Status,
}}

wire! { 8,
/// `SEND_NDIS_VERSION`: the NDIS version of the driver.
pub struct NdisVersion {
    /// 6.
    pub major: u32,
    /// 1, 30 and so on.
    pub minor: u32,
}}

wire! { 8,
/// `SEND_RECEIVE_BUFFER` and `SEND_SEND_BUFFER`: the guest shares memory.
pub struct SendBuffer {
    /// The memory.
    pub gpadl: GpadlId,
    /// The guest's id for it, which transfer-pages packets contain.
    pub id: u16,
    /// 0.
    pub reserved: u16,
}}

wire! { 24,
/// `SEND_RECEIVE_BUFFER_COMPLETE`: the division of the receive buffer. Hosts always use one division.
pub struct ReceiveBufferComplete {
    /// Whether the buffer is accepted.
    pub status: Status,
    /// 1.
    pub division_count: u32,
    /// Start of the division.
    pub offset: u32,
    /// Size of a section in bytes.
    pub section_size: u32,
    /// Number of sections.
    pub section_count: u32,
    /// End of the division.
    pub end_offset: u32,
}}

wire! { 8,
/// `SEND_SEND_BUFFER_COMPLETE`.
pub struct SendBufferComplete {
    /// Whether the buffer is accepted.
    pub status: Status,
    /// Size of the sections into which the guest divides it.
    pub section_size: u32,
}}

wire! { 4,
/// `REVOKE_RECEIVE_BUFFER` and `REVOKE_SEND_BUFFER`: the guest revokes the memory.
pub struct RevokeBuffer {
    /// The id from [`SendBuffer`].
    pub id: u16,
    /// 0.
    pub reserved: u16,
}}

wire! { 12,
/// `SEND_RNDIS_PACKET`: contains RNDIS messages, from either side.
pub struct SendRndisPacket {
    /// 0: data, 1: control.
    pub channel_type: u32,
    /// The section of the send buffer in which the messages begin, or [`NO_SECTION`](Self::NO_SECTION).
    pub section: u32,
    /// Number of bytes in it.
    pub section_length: u32,
}}

impl SendRndisPacket {
    /// No section: all messages are in other memory.
    pub const NO_SECTION: u32 = u32::MAX;
    /// In [`channel_type`](Self::channel_type): frames.
    pub const DATA: u32 = 0;
    /// In [`channel_type`](Self::channel_type): control messages for the adapter.
    pub const CONTROL: u32 = 1;
}

wire! { 4,
/// `SEND_RNDIS_PACKET_COMPLETE`: the other side may reuse the memory.
pub struct SendRndisPacketComplete {
    /// Whether the messages were valid.
    pub status: Status,
}}

wire! { 16,
/// `SEND_NDIS_CONFIG`: the configuration of the driver.
pub struct NdisConfig {
    /// Length of the longest frame: the MTU plus an Ethernet header.
    pub frame_length: u32,
    /// 0.
    pub reserved: u32,
    /// Capability bits; not aligned like a 64-bit number.
    pub capabilities: [u32; 2],
}}

impl NdisConfig {
    /// VLAN tags are in the per-packet information.
    pub const VLAN: u32 = 1 << 3;
    /// The driver reassembles coalesced segments.
    pub const COALESCING: u32 = 1 << 7;
}

wire! { 8,
/// `SEND_VF_ASSOCIATION`: whether there is a virtual function. This host has none.
pub struct VfAssociation {
    /// 1 if there is one.
    pub allocated: u32,
    /// Its serial number.
    pub serial: u32,
}}

wire! { 4,
/// `SWITCH_DATA_PATH`: the guest selects another path for frames.
pub struct SwitchDataPath {
    /// 0: this channel, 1: the virtual function.
    pub active: u32,
}}

wire! { 8,
/// `SUBCHANNEL`, in both directions: the guest requests subchannels, and the host replies with their number.
pub struct Subchannel {
    /// From the guest: 1 (allocate); from the host: a [`Status`].
    pub operation_or_status: u32,
    /// Number of subchannels.
    pub count: u32,
}}

wire! { 8,
/// `SEND_INDIRECTION_TABLE`: the channels on which the guest should send. The table follows at the offset.
pub struct IndirectionTable {
    /// Number of entries: 16.
    pub count: u32,
    /// Offset of the entries from the message's start.
    pub offset: u32,
}}

wire! { 8,
/// `OID_QUERY_EX_COMPLETE`.
pub struct OidQueryComplete {
    /// An NDIS status.
    pub status: u32,
    /// Length of the information.
    pub length: u32,
}}

wire! { 8,
/// The start of the reply to `PD_API` (PacketDirect, which this host does not support).
pub struct PacketDirectComplete {
    /// As in the request.
    pub operation: u32,
    /// A [`Status`].
    pub status: Status,
}}

/// Number of entries of the send indirection table.
pub const SEND_TABLE: usize = 16;

/// Offset of the table. Drivers before NVSP 6.1 ignore the message's offset and use this one, because some hosts sent a
/// wrong offset.
pub const SEND_TABLE_OFFSET: usize = 40;

/// Prepends the type to a body, and pads with zeros to `length`.
pub fn message(message_type: MessageType, body: &(impl IntoBytes + Immutable), length: usize) -> Vec<u8> {
    let mut bytes = [message_type.as_bytes(), body.as_bytes()].concat();
    if bytes.len() < length {
        bytes.resize(length, 0);
    }
    bytes
}

/// Splits the type from a message.
pub fn split(payload: &[u8]) -> Option<(MessageType, &[u8])> {
    MessageType::read_from_prefix(payload).ok()
}

/// Returns a `SEND_INDIRECTION_TABLE` that distributes over `channels` channels.
pub fn indirection_table(channels: u32) -> Vec<u8> {
    let body = IndirectionTable { count: SEND_TABLE as u32, offset: SEND_TABLE_OFFSET as u32 };
    let mut bytes = message(MessageType::SEND_INDIRECTION_TABLE, &body, SEND_TABLE_OFFSET);
    for entry in 0..SEND_TABLE as u32 {
        bytes.extend_from_slice(&(entry % channels.max(1)).to_le_bytes());
    }
    bytes
}
