//! Messages of the integration component (IC) protocol, as plain data.
//!
//! Every packet of a service has a pipe header, an IC header and a body. The host sends requests, the guest replies with
//! the same transaction id. (Linux: `struct vmbuspipe_hdr` and `struct icmsg_hdr` in `include/linux/hyperv.h`.)

use std::fmt;
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::vsp::pipe::wire::PipeHeader;
use crate::wire::{held_as_text, open_enum, wire};

/// A version of the framework or of a service's messages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Version {
    /// Major version.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
}

impl Version {
    /// Creates a version.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let (major, minor) = parts.ok_or_else(|| format!("`{text}` is not a version; write it like 3.0"))?;
        Ok(Self::new(major, minor))
    }
}

held_as_text!(Version);

open_enum! {
/// The type of a message.
MessageType: u16, "message type {}";
    /// Every service starts with it.
    NEGOTIATE = 0, "negotiation";
    HEARTBEAT = 1, "heartbeat";
    KVP = 2, "key-value pairs";
    SHUTDOWN = 3, "shutdown";
    TIME_SYNC = 4, "time synchronization";
    VSS = 5, "VSS";
    FILE_COPY = 7, "file copy";
}

open_enum! {
/// The result of a request, as an HRESULT of Windows.
Status: u32, "status {:#010x}";
    SUCCESS = 0, "success";
    /// The guest could not do it, or its daemon does not run or did not answer.
    FAIL = 0x8000_4005, "the guest failed; its log may say why, and its daemon for this service must run";
    /// Ends an enumeration. Linux's daemon also reports failed changes like this.
    NO_MORE_ITEMS = 0x8007_0103, "there is no such item";
    NOT_SUPPORTED = 0x8007_0032, "the guest does not support this";
    MACHINE_LOCKED = 0x8007_04f7, "the guest is locked";
    NOT_CONNECTED = 0x8007_048f, "the guest's device is not connected";
    INVALID_ARGUMENT = 0x8007_0057, "the guest found an invalid argument";
    NOT_FOUND = 0x8004_1002, "the guest has no such network adapter";
    ALREADY_EXISTS = 0x8007_0050, "the file exists";
    DISK_FULL = 0x8007_0070, "the guest's disk is full";
    ACCESS_DENIED = 0x8007_0005, "the guest denied access";
    FILE_NOT_FOUND = 0x8007_0002, "the guest did not find the file";
    PATH_NOT_FOUND = 0x8007_0003, "the guest did not find the path";
}

wire! { 20,
/// The start of each message.
pub struct Header {
    /// The version of the framework that was negotiated.
    pub framework: Version,
    /// The type of the message.
    pub message_type: MessageType,
    /// The version of the service's messages that was negotiated.
    pub version: Version,
    /// Length of the body that follows, in bytes.
    pub body_length: u16,
    /// The result; only in replies.
    pub status: Status,
    /// Chosen by the host; returned in the reply.
    pub transaction_id: u8,
    /// See [`Header::REQUEST`].
    pub flags: u8,
    /// 0.
    pub reserved: [u8; 2],
}}

impl Header {
    /// The message belongs to a transaction: it is a request that wants a reply, or that reply.
    pub const TRANSACTION: u8 = 1;
    /// The message is a request.
    pub const REQUEST: u8 = 2;
    /// The message is a reply.
    pub const RESPONSE: u8 = 4;
}

wire! { 8,
/// The start of the body of a [`NEGOTIATE`](MessageType::NEGOTIATE) message. The versions of the framework follow, then
/// those of the service. A reply has one of each, or counts of 0 if the guest supports none.
pub struct Negotiate {
    /// Number of framework versions.
    pub framework_count: u16,
    /// Number of message versions.
    pub version_count: u16,
    /// 0.
    pub reserved: u32,
}}

/// Length of the headers of a packet.
pub const HEADERS: usize = size_of::<PipeHeader>() + size_of::<Header>();

/// Maximum length of a packet's payload, in both directions: that of a KVP message with addresses, rounded up to eight bytes. It
/// fits into the rings of 12 KiB that Linux opens.
pub const MAX_PACKET: usize = (HEADERS + 7428).next_multiple_of(8);

/// The reason why a packet of the guest is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The headers are cut off.
    #[error("a packet has {0} bytes, fewer than the {HEADERS} bytes of its headers")]
    Short(usize),
    /// The packet is longer than any that the host has sent.
    #[error("a packet has {0} bytes; the longest message has {MAX_PACKET}")]
    Long(usize),
    /// The packet is none of a pipe's.
    #[error("a packet is of the pipe's kind {0:#x} instead of 0x1")]
    Kind(u32),
    /// A length exceeds what contains it.
    #[error("a packet of {packet} bytes claims a message of {message} bytes with a body of {body} bytes")]
    Length {
        /// Length of the packet.
        packet: usize,
        /// Length of the message in the pipe header.
        message: u32,
        /// Length of the body in the message's header.
        body: u16,
    },
}

/// Splits the payload of a packet into the IC header and the body.
pub fn split(payload: &[u8]) -> Result<(Header, &[u8]), Violation> {
    if payload.len() > MAX_PACKET {
        return Err(Violation::Long(payload.len()));
    }
    let short = Violation::Short(payload.len());
    let (pipe, message) = PipeHeader::read_from_prefix(payload).map_err(|_| short)?;
    let (header, rest) = Header::read_from_prefix(message).map_err(|_| short)?;
    if pipe.kind != PipeHeader::DATA {
        return Err(Violation::Kind(pipe.kind));
    }
    let claimed = usize::try_from(pipe.length).ok().filter(|length| *length <= message.len());
    let room = claimed.and_then(|length| length.checked_sub(size_of::<Header>()));
    let body = room.and_then(|room| rest.get(..room)?.get(..header.body_length.into()));
    let length = Violation::Length { packet: payload.len(), message: pipe.length, body: header.body_length };
    Ok((header, body.ok_or(length)?))
}

/// Returns the payload of a packet.
pub fn packet(header: &Header, body: &[u8]) -> Vec<u8> {
    let length = (size_of::<Header>() + body.len()) as u32;
    [PipeHeader { kind: PipeHeader::DATA, length }.as_bytes(), header.as_bytes(), body].concat()
}

/// Returns the body of a negotiation that offers these versions.
pub fn negotiation(frameworks: &[Version], versions: &[Version]) -> Vec<u8> {
    let counts =
        Negotiate { framework_count: frameworks.len() as u16, version_count: versions.len() as u16, reserved: 0 };
    [counts.as_bytes(), frameworks.as_bytes(), versions.as_bytes()].concat()
}

/// Returns the versions of the framework and of the messages that the body of a negotiation's reply names, `None` if the guest
/// supports none or the body is too short.
pub fn negotiated(body: &[u8]) -> Option<(Version, Version)> {
    let (counts, rest) = Negotiate::read_from_prefix(body).ok()?;
    let (versions, _) = <[Version; 2]>::read_from_prefix(rest).ok()?;
    ((counts.framework_count, counts.version_count) == (1, 1)).then_some((versions[0], versions[1]))
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
