//! The layout of messages in memory. All fields are little-endian, like this host; offsets count from the byte after
//! the message's header.

use zerocopy::{Immutable, IntoBytes};

use super::oid::Oid;
use crate::vsp::network::{open_enum, wire};

open_enum! {
/// The type of a message. Unknown types are kept.
MessageType: u32, "message type {:#x}";
    PACKET = 1;
    INITIALIZE = 2;
    HALT = 3;
    QUERY = 4;
    SET = 5;
    RESET = 6;
    INDICATE_STATUS = 7;
    KEEPALIVE = 8;
    INITIALIZE_COMPLETE = 0x8000_0002;
    QUERY_COMPLETE = 0x8000_0004;
    SET_COMPLETE = 0x8000_0005;
    RESET_COMPLETE = 0x8000_0006;
    KEEPALIVE_COMPLETE = 0x8000_0008;
}

open_enum! {
/// An NDIS status code. Unknown codes are kept.
Status: u32, "status {:#x}";
    SUCCESS = 0;
    MEDIA_CONNECT = 0x4001_000b;
    MEDIA_DISCONNECT = 0x4001_000c;
    LINK_SPEED_CHANGE = 0x4001_0013;
    NETWORK_CHANGE = 0x4001_0018;
    TASK_OFFLOAD_CURRENT_CONFIG = 0x4002_0006;
    FAILURE = 0xc000_0001;
    RESOURCES = 0xc000_009a;
    NOT_SUPPORTED = 0xc000_00bb;
    BAD_VERSION = 0xc001_0004;
    MULTICAST_FULL = 0xc001_0009;
    ADAPTER_NOT_READY = 0xc001_0011;
    INVALID_LENGTH = 0xc001_0014;
    INVALID_DATA = 0xc001_0015;
    BUFFER_TOO_SHORT = 0xc001_0016;
}

wire! { 8,
/// The start of every message.
pub struct MessageHeader {
    /// The type of the body.
    pub message_type: MessageType,
    /// Length of the whole message, including this header.
    pub length: u32,
}}

wire! { 16,
/// `REMOTE_NDIS_INITIALIZE_MSG`: the driver initialises the adapter.
pub struct Initialize {
    /// Returned in the reply.
    pub request_id: u32,
    /// 1.
    pub major_version: u32,
    /// 0.
    pub minor_version: u32,
    /// Maximum length of a message that the driver accepts.
    pub max_transfer_size: u32,
}}

wire! { 44,
/// `REMOTE_NDIS_INITIALIZE_CMPLT`.
pub struct InitializeComplete {
    /// The id of the request.
    pub request_id: u32,
    /// The result.
    pub status: Status,
    /// 1.
    pub major_version: u32,
    /// 0.
    pub minor_version: u32,
    /// 1: connectionless.
    pub device_flags: u32,
    /// 0: Ethernet.
    pub medium: u32,
    /// Maximum number of data messages in a transfer.
    pub max_packets_per_message: u32,
    /// Maximum length of a transfer.
    pub max_transfer_size: u32,
    /// Messages in a transfer start at multiples of two to this power.
    pub packet_alignment_factor: u32,
    /// 0.
    pub reserved: [u32; 2],
}}

wire! { 4,
/// `REMOTE_NDIS_HALT_MSG` and `REMOTE_NDIS_KEEPALIVE_MSG`.
pub struct RequestId {
    /// Returned in the reply, if there is one.
    pub request_id: u32,
}}

wire! { 20,
/// `REMOTE_NDIS_QUERY_MSG` and `REMOTE_NDIS_SET_MSG`. Information may follow.
pub struct Request {
    /// Returned in the reply.
    pub request_id: u32,
    /// The object.
    pub oid: Oid,
    /// Length of the information.
    pub information_length: u32,
    /// Offset of the information.
    pub information_offset: u32,
    /// 0.
    pub handle: u32,
}}

wire! { 16,
/// `REMOTE_NDIS_QUERY_CMPLT`. The information follows.
pub struct QueryComplete {
    /// The id of the request.
    pub request_id: u32,
    /// The result.
    pub status: Status,
    /// Length of the information.
    pub information_length: u32,
    /// Offset of the information.
    pub information_offset: u32,
}}

wire! { 8,
/// `REMOTE_NDIS_SET_CMPLT` and `REMOTE_NDIS_KEEPALIVE_CMPLT`.
pub struct Complete {
    /// The id of the request.
    pub request_id: u32,
    /// The result.
    pub status: Status,
}}

wire! { 8,
/// `REMOTE_NDIS_RESET_CMPLT`.
pub struct ResetComplete {
    /// The result.
    pub status: Status,
    /// Whether the driver must set packet filter and multicast list again.
    pub addressing_reset: u32,
}}

wire! { 12,
/// `REMOTE_NDIS_INDICATE_STATUS_MSG`. The status buffer may follow.
pub struct IndicateStatus {
    /// The change.
    pub status: Status,
    /// Length of the status buffer.
    pub buffer_length: u32,
    /// Offset of the status buffer.
    pub buffer_offset: u32,
}}

wire! { 36,
/// `REMOTE_NDIS_PACKET_MSG`. Per-packet information and the frame follow.
pub struct Packet {
    /// Offset of the frame.
    pub data_offset: u32,
    /// Length of the frame.
    pub data_length: u32,
    /// 0: out-of-band data is not used.
    pub out_of_band_offset: u32,
    /// 0.
    pub out_of_band_length: u32,
    /// 0.
    pub out_of_band_count: u32,
    /// Offset of the per-packet information, or 0.
    pub information_offset: u32,
    /// Its length.
    pub information_length: u32,
    /// 0.
    pub handle: u32,
    /// 0.
    pub reserved: u32,
}}

wire! { 12,
/// `RNDIS_PER_PACKET_INFO`: the start of an element of per-packet information.
pub struct InformationHeader {
    /// Length of the element, including this header.
    pub size: u32,
    /// The kind of the element. The top bit means that it is defined by VMBus and not by NDIS.
    pub information_type: InformationType,
    /// Offset of the value from the start of this header.
    pub value_offset: u32,
}}

open_enum! {
/// The kind of an element. Unknown kinds are kept.
InformationType: u32, "information type {:#x}";
    CHECKSUM = 0;
    LARGE_SEND = 2;
    VLAN = 6;
    HASH_VALUE = 8;
    PACKET_ID = 0x8000_0001;
}

wire! { 4,
/// The start of every structure of NDIS 6 (`NDIS_OBJECT_HEADER`).
pub struct ObjectHeader {
    /// See the constants.
    pub object_type: u8,
    /// The revision, which determines the fields.
    pub revision: u8,
    /// Length of the structure.
    pub size: u16,
}}

impl ObjectHeader {
    /// `NDIS_OBJECT_TYPE_DEFAULT`.
    pub const DEFAULT: u8 = 0x80;
    /// `NDIS_OBJECT_TYPE_RSS_CAPABILITIES`.
    pub const RSS_CAPABILITIES: u8 = 0x88;
    /// `NDIS_OBJECT_TYPE_RSS_PARAMETERS`.
    pub const RSS_PARAMETERS: u8 = 0x89;
    /// `NDIS_OBJECT_TYPE_OFFLOAD`.
    pub const OFFLOAD: u8 = 0xa7;
    /// `NDIS_OBJECT_TYPE_OFFLOAD_ENCAPSULATION`.
    pub const OFFLOAD_ENCAPSULATION: u8 = 0xa8;
}

/// Length of [`MessageHeader`].
pub const HEADER: usize = size_of::<MessageHeader>();

/// Prepends a header to a body and the rest.
pub fn message(message_type: MessageType, body: &(impl IntoBytes + Immutable), rest: &[u8]) -> Vec<u8> {
    let body = body.as_bytes();
    let length = (HEADER + body.len() + rest.len()) as u32;
    [MessageHeader { message_type, length }.as_bytes(), body, rest].concat()
}
