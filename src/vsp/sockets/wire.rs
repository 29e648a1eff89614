//! The packets of a connection: a header and data.

use crate::wire::wire;

/// Maximum number of bytes of data in a packet to the guest. Linux refuses longer ones.
pub const MAX_TO_GUEST: usize = 16 << 10;

/// Maximum number of bytes of data in a packet of the guest. Linux sends up to 4,088.
pub const MAX_FROM_GUEST: usize = 64 << 10;

/// The type of a packet with data, the only one that is used.
const DATA: u32 = 1;

wire! { 8,
/// The start of each packet.
pub struct PipeHeader {
    /// 1: data.
    pub packet_type: u32,
    /// Number of bytes of data. 0: the sender sends nothing more.
    pub size: u32,
}}

impl PipeHeader {
    /// Length of the header in bytes.
    pub const LENGTH: usize = size_of::<Self>();

    /// Returns the header of a packet with this number of bytes of data, as bytes.
    pub fn of(size: usize) -> [u8; Self::LENGTH] {
        // The size is at most `MAX_TO_GUEST`.
        zerocopy::transmute!(Self { packet_type: DATA, size: size as u32 })
    }
}

/// The reason why a packet of the guest ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The packet is shorter than its header.
    #[error("a packet of a socket has a header of 8 bytes, this one has {0} bytes")]
    Short(usize),
    /// The packet contains no data.
    #[error("a packet of a socket has type 1, this one has type {0}")]
    Type(u32),
    /// The header contradicts the packet.
    #[error("a packet of a socket says that it has {size} bytes of data; it has room for {room}")]
    Size {
        /// The size in the header.
        size: u32,
        /// Number of bytes behind the header.
        room: usize,
    },
    /// The packet is longer than those of any driver.
    #[error("a packet of a socket has {0} bytes of data; the maximum is {MAX_FROM_GUEST}")]
    Long(u32),
    /// The guest had ended its data.
    #[error("the guest sends data on a socket after it has ended its data")]
    AfterEnd,
}

/// Returns the number of bytes of data in a packet, from its header, if it has one, and the length of its payload, which may be padded.
///
/// # Errors
/// Returns an error if the packet is malformed.
pub fn size(header: Option<PipeHeader>, payload: usize) -> Result<usize, Malformed> {
    let PipeHeader { packet_type, size } = header.ok_or(Malformed::Short(payload))?;
    let room = payload.saturating_sub(PipeHeader::LENGTH);
    match size as usize {
        _ if packet_type != DATA => Err(Malformed::Type(packet_type)),
        bytes if bytes > MAX_FROM_GUEST => Err(Malformed::Long(size)),
        bytes if bytes > room => Err(Malformed::Size { size, room }),
        bytes => Ok(bytes),
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
