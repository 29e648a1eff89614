//! The header of a pipe's messages, as plain data. (Linux: `struct vmbuspipe_hdr`, `struct pipe_prt_msg`, `struct pipe_msg_hdr`.)

use zerocopy::{FromBytes, IntoBytes};

use crate::wire::wire;

wire! { 8,
/// The start of each packet of a pipe channel.
pub struct PipeHeader {
    /// [`DATA`](Self::DATA).
    pub kind: u32,
    /// Length of the message that follows, in bytes.
    pub length: u32,
}}

impl PipeHeader {
    /// The packet contains a message.
    pub const DATA: u32 = 1;
}

/// The reason why a packet of a pipe is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPipe {
    /// The header is cut off.
    #[error("a packet has {0} bytes, fewer than the 8 bytes of its header")]
    Short(usize),
    /// The packet is none of a pipe's.
    #[error("a packet is of the pipe's kind {0:#x} instead of 0x1")]
    Kind(u32),
    /// A length exceeds what contains it.
    #[error("a packet of {packet} bytes claims a message of {message} bytes")]
    Length {
        /// Length of the packet.
        packet: usize,
        /// Length of the message in the header.
        message: u32,
    },
}

/// Returns the message in the payload of a packet.
pub fn unwrap(payload: &[u8]) -> Result<&[u8], BadPipe> {
    let (header, rest) = PipeHeader::read_from_prefix(payload).map_err(|_| BadPipe::Short(payload.len()))?;
    if header.kind != PipeHeader::DATA {
        return Err(BadPipe::Kind(header.kind));
    }
    let message = usize::try_from(header.length).ok().and_then(|length| rest.get(..length));
    message.ok_or(BadPipe::Length { packet: payload.len(), message: header.length })
}

/// Returns the payload of a packet with a message of these parts.
pub fn wrap(parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>() as u32;
    let mut packet = PipeHeader { kind: PipeHeader::DATA, length }.as_bytes().to_vec();
    parts.iter().for_each(|part| packet.extend_from_slice(part));
    packet
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_packet_whose_length_exceeds_its_bytes_is_refused() {
        assert_eq!(unwrap(&[1, 0, 0]), Err(BadPipe::Short(3)));
        assert_eq!(unwrap(&[2, 0, 0, 0, 0, 0, 0, 0]), Err(BadPipe::Kind(2)));
        assert_eq!(unwrap(&[1, 0, 0, 0, 2, 0, 0, 0, 9]), Err(BadPipe::Length { packet: 9, message: 2 }));
        assert_eq!(unwrap(&[1, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0]), Ok(&[9][..]), "the ring pads packets");
    }

    proptest! {
        #[test]
        fn a_wrapped_message_can_be_unwrapped(message: Vec<u8>, padding in 0_usize..8) {
            let mut packet = wrap(&[&message[..message.len() / 2], &message[message.len() / 2..]]);
            packet.resize(packet.len() + padding, 0xee);
            prop_assert_eq!(unwrap(&packet), Ok(&message[..]));
        }

        #[test]
        fn no_packet_yields_more_bytes_than_it_has(packet: Vec<u8>) {
            if let Ok(message) = unwrap(&packet) {
                prop_assert!(message.len() + 8 <= packet.len());
            }
        }
    }
}
