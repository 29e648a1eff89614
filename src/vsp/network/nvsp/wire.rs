//! NVSP's messages as they lie in a packet's payload. Names and layouts follow Linux's `drivers/net/hyperv/hyperv_net.h`.

use std::fmt;
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::vmbus::ids::GpadlId;
use crate::vsp::network::{held_as_text, open_enum, wire};

open_enum! {
/// An open enum of message types. Version 1 begins at 100, 2 at 109, 4 at 128, 5 at 131, 6 at 135.
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
/// An open enum of statuses.
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
    /// All of them, oldest first. There never was a version 3.
    pub const ALL: [Self; 6] = [Self::V1, Self::V2, Self::V4, Self::V5, Self::V6, Self::V6_1];
    /// The newest one.
    pub const NEWEST: Self = Self::V6_1;

    /// Returns the version as it stands in [`Init`].
    pub fn number(self) -> u32 {
        match self {
            Self::V1 => 2,
            Self::V2 => 0x3_0002,
            Self::V4 => 0x4_0000,
            Self::V5 => 0x5_0000,
            Self::V6 => 0x6_0000,
            Self::V6_1 => 0x6_0001,
        }
    }

    /// Returns the version that stands for a number in [`Init`].
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.number() == number)
    }

    /// Returns how long every message is that the host sends, at least: drivers copy so much.
    pub fn message_length(self) -> usize {
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

/// A text that names no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no NVSP version; give one of 1, 2, 4, 5, 6, 6.1")]
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
/// `INIT`: the guest asks for a version. Linux asks for one after the other, newest first.
pub struct Init {
    /// The oldest version that would do.
    pub minimum: u32,
    /// The newest.
    pub maximum: u32,
}}

wire! { 12,
/// `INIT_COMPLETE`.
pub struct InitComplete {
    /// The version. Only version 1 still looks at it.
    pub version: u32,
    /// How many pieces a packet may have.
    pub maximum_pieces: u32,
    /// Whether the version is spoken.
    pub status: Status,
}}

wire! { 8,
/// `SEND_NDIS_VERSION`: which NDIS the driver is written for.
pub struct NdisVersion {
    /// 6.
    pub major: u32,
    /// 1, 30 and so on.
    pub minor: u32,
}}

wire! { 8,
/// `SEND_RECEIVE_BUFFER` and `SEND_SEND_BUFFER`: the guest gives memory.
pub struct SendBuffer {
    /// The memory.
    pub gpadl: GpadlId,
    /// The guest's name for it, which transfer-pages packets carry.
    pub id: u16,
    /// 0.
    pub reserved: u16,
}}

wire! { 24,
/// `SEND_RECEIVE_BUFFER_COMPLETE`: how the host divides the receive buffer. No host ever made more than one division.
pub struct ReceiveBufferComplete {
    /// Whether the host takes it.
    pub status: Status,
    /// 1.
    pub division_count: u32,
    /// Where the division starts.
    pub offset: u32,
    /// The size of a section.
    pub section_size: u32,
    /// How many sections there are.
    pub section_count: u32,
    /// Where the division ends.
    pub end_offset: u32,
}}

wire! { 8,
/// `SEND_SEND_BUFFER_COMPLETE`.
pub struct SendBufferComplete {
    /// Whether the host takes it.
    pub status: Status,
    /// The size of the sections into which the guest is to divide it.
    pub section_size: u32,
}}

wire! { 4,
/// `REVOKE_RECEIVE_BUFFER` and `REVOKE_SEND_BUFFER`: the guest wants its memory back.
pub struct RevokeBuffer {
    /// As it was given.
    pub id: u16,
    /// 0.
    pub reserved: u16,
}}

wire! { 12,
/// `SEND_RNDIS_PACKET`: there are RNDIS messages, from either side.
pub struct SendRndisPacket {
    /// 0: data, 1: control.
    pub channel_type: u32,
    /// Which section of the send buffer the messages begin in, or [`NO_SECTION`](Self::NO_SECTION).
    pub section: u32,
    /// How much of it they use.
    pub section_length: u32,
}}

impl SendRndisPacket {
    /// All of the messages are elsewhere.
    pub const NO_SECTION: u32 = u32::MAX;
    /// In [`channel_type`](Self::channel_type): frames.
    pub const DATA: u32 = 0;
    /// In [`channel_type`](Self::channel_type): the adapter is meant.
    pub const CONTROL: u32 = 1;
}

wire! { 4,
/// `SEND_RNDIS_PACKET_COMPLETE`: the other side may use the memory again.
pub struct SendRndisPacketComplete {
    /// Whether the messages made sense.
    pub status: Status,
}}

wire! { 16,
/// `SEND_NDIS_CONFIG`: what the driver is set up for.
pub struct NdisConfig {
    /// The longest frame, which is the MTU and an Ethernet header.
    pub frame_length: u32,
    /// 0.
    pub reserved: u32,
    /// See the constants; not aligned as one number would be.
    pub capabilities: [u32; 2],
}}

impl NdisConfig {
    /// In the first word of [`capabilities`](Self::capabilities): a virtual function may take over.
    pub const VIRTUAL_FUNCTION: u32 = 1 << 2;
    /// VLAN tags travel beside the frame.
    pub const VLAN: u32 = 1 << 3;
    /// The driver puts coalesced segments together.
    pub const COALESCING: u32 = 1 << 7;
}

wire! { 8,
/// `SEND_VF_ASSOCIATION`: whether there is a virtual function that may take over. This host has none.
pub struct VfAssociation {
    /// 1 if so.
    pub allocated: u32,
    /// Which one.
    pub serial: u32,
}}

wire! { 4,
/// `SWITCH_DATA_PATH`: the guest wants frames to go another way.
pub struct SwitchDataPath {
    /// 0: this channel, 1: the virtual function.
    pub active: u32,
}}

wire! { 8,
/// `SUBCHANNEL`, both ways: the guest asks for subchannels, the host says how many there will be.
pub struct Subchannel {
    /// 1 (allocate) from the guest; a [`Status`] from the host.
    pub operation_or_status: u32,
    /// How many.
    pub count: u32,
}}

wire! { 8,
/// `SEND_INDIRECTION_TABLE`: the host says which channels to send on. The table follows at the offset.
pub struct IndirectionTable {
    /// How many entries there are: 16.
    pub count: u32,
    /// Where they start, from the message's start.
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
/// The start of the answer to `PD_API` (PacketDirect, which this host does not have).
pub struct PacketDirectComplete {
    /// As in the request.
    pub operation: u32,
    /// A [`Status`].
    pub status: Status,
}}

/// How many entries the send indirection table has.
pub const SEND_TABLE: usize = 16;

/// Where it starts. Drivers before NVSP 6.1 look there whatever the message says, to mend a mistake of some hosts.
pub const SEND_TABLE_OFFSET: usize = 40;

/// Puts the type before a body, and fills up with zeros to `length`.
pub fn message(message_type: MessageType, body: &(impl IntoBytes + Immutable), length: usize) -> Vec<u8> {
    let mut bytes = [message_type.as_bytes(), body.as_bytes()].concat();
    if bytes.len() < length {
        bytes.resize(length, 0);
    }
    bytes
}

/// Takes the type off a message.
pub fn split(payload: &[u8]) -> Option<(MessageType, &[u8])> {
    MessageType::read_from_prefix(payload).ok()
}

/// `SEND_INDIRECTION_TABLE` that spreads over `channels` channels.
pub fn indirection_table(channels: u32) -> Vec<u8> {
    let body = IndirectionTable { count: SEND_TABLE as u32, offset: SEND_TABLE_OFFSET as u32 };
    let mut bytes = message(MessageType::SEND_INDIRECTION_TABLE, &body, SEND_TABLE_OFFSET);
    for entry in 0..SEND_TABLE as u32 {
        bytes.extend_from_slice(&(entry % channels.max(1)).to_le_bytes());
    }
    bytes
}
