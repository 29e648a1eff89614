//! Data messages: frames with per-packet information, one or several in a transfer.

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::info::{Information, InformationError, MAX_INFORMATION};
use super::wire::{HEADER, MessageHeader, MessageType, Packet};

/// Length of a data message before its per-packet information.
pub const PACKET_HEADER: usize = HEADER + size_of::<Packet>();

/// Maximum length of a data message for a guest before its frame.
pub const MAX_PACKET_HEADER: usize = PACKET_HEADER + MAX_INFORMATION;

/// The reason why a transfer cannot be parsed completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// A message is shorter than its header, or longer than the rest.
    #[error("a message of {length} bytes, but only {left} are left")]
    Length {
        /// The stated length.
        length: u32,
        /// The remaining length.
        left: usize,
    },
    /// The transfer contains another type of message.
    #[error("a message of type {0} among data messages")]
    Type(MessageType),
    /// A part is outside of its message.
    #[error("{length} bytes at {offset} in a message with {body} bytes after its header")]
    Range {
        /// The stated offset.
        offset: u32,
        /// The stated length.
        length: u32,
        /// Length of the message after its header.
        body: usize,
    },
    /// The per-packet information is invalid.
    #[error(transparent)]
    Information(#[from] InformationError),
}

/// A frame and its per-packet information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataMessage<'a> {
    /// The frame.
    pub frame: &'a [u8],
    /// The per-packet information.
    pub information: Information,
}

/// The data messages of a transfer.
#[derive(Clone, Debug)]
pub struct DataMessages<'a> {
    rest: &'a [u8],
}

impl<'a> DataMessages<'a> {
    /// Creates an iterator over a transfer.
    pub fn new(transfer: &'a [u8]) -> Self {
        Self { rest: transfer }
    }
}

impl<'a> Iterator for DataMessages<'a> {
    type Item = Result<DataMessage<'a>, PacketError>;

    /// Returns the next message. After an error there are no more, because the start of the next one is unknown.
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let message = split(&mut self.rest).and_then(parse);
        if message.is_err() {
            self.rest = &[];
        }
        Some(message)
    }
}

/// Splits one message off the front and returns its bytes after the header.
fn split<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], PacketError> {
    let left = rest.len();
    let (header, _) = MessageHeader::read_from_prefix(rest).map_err(|_| PacketError::Length { length: 0, left })?;
    if header.message_type != MessageType::PACKET {
        return Err(PacketError::Type(header.message_type));
    }
    let bad = PacketError::Length { length: header.length, left };
    let length = usize::try_from(header.length).map_err(|_| bad)?;
    let (message, after) = rest.split_at_checked(length).ok_or(bad)?;
    *rest = after;
    message.get(HEADER..).ok_or(bad)
}

fn parse(body: &[u8]) -> Result<DataMessage<'_>, PacketError> {
    let (packet, _) = Packet::read_from_prefix(body).map_err(|_| PacketError::Range {
        offset: 0,
        length: size_of::<Packet>() as u32,
        body: body.len(),
    })?;
    let range = |offset: u32, length: u32| {
        let (start, end) = (offset as usize, u64::from(offset) + u64::from(length));
        let end = usize::try_from(end).unwrap_or(usize::MAX);
        body.get(start..end).ok_or(PacketError::Range { offset, length, body: body.len() })
    };
    let notes = match packet.information_length {
        0 => &[],
        length => range(packet.information_offset, length)?,
    };
    let frame = range(packet.data_offset, packet.data_length)?;
    Ok(DataMessage { frame, information: Information::parse(notes)? })
}

/// Returns the bytes before a frame of `length` bytes, and their number. The frame follows directly.
pub fn header(information: &Information, length: usize) -> ([u8; MAX_PACKET_HEADER], usize) {
    let mut bytes = [0; MAX_PACKET_HEADER];
    let mut notes = [0; MAX_INFORMATION];
    let notes_length = information.write(&mut notes);
    let total = PACKET_HEADER + notes_length;
    let message = MessageHeader { message_type: MessageType::PACKET, length: (total + length) as u32 };
    let mut packet = Packet::new_zeroed();
    packet.data_offset = (size_of::<Packet>() + notes_length) as u32;
    packet.data_length = length as u32;
    if notes_length > 0 {
        packet.information_offset = size_of::<Packet>() as u32;
        packet.information_length = notes_length as u32;
    }
    bytes[..HEADER].copy_from_slice(message.as_bytes());
    bytes[HEADER..PACKET_HEADER].copy_from_slice(packet.as_bytes());
    bytes[PACKET_HEADER..].copy_from_slice(&notes);
    (bytes, total)
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
