//! Per-packet information.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::wire::{InformationHeader, InformationType};
use crate::net::offload::headers::{IpVersion, protocol};
use crate::net::offload::transmit::{Checksums, Cut};
use crate::net::offload::vlan::TagControl;

/// The checksums that a guest requests (`NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO`, transmit).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransmitChecksum(pub u32);

impl TransmitChecksum {
    /// Returns `true` if the frame is IPv6, `false` if it is IPv4.
    pub fn is_ipv6(self) -> bool {
        self.0 & 2 != 0
    }

    /// Returns `true` if the TCP checksum is requested.
    pub fn tcp(self) -> bool {
        self.0 & 4 != 0
    }

    /// Returns `true` if the UDP checksum is requested.
    pub fn udp(self) -> bool {
        self.0 & 8 != 0
    }

    /// Returns `true` if the IPv4 header's checksum is requested.
    pub fn ip_header(self) -> bool {
        self.0 & 0x10 != 0
    }
}

impl From<TransmitChecksum> for Checksums {
    fn from(wanted: TransmitChecksum) -> Self {
        let tcp = wanted.tcp().then_some(protocol::TCP);
        Self {
            version: version(wanted.is_ipv6()),
            ip_header: wanted.ip_header(),
            transport: tcp.or(wanted.udp().then_some(protocol::UDP)),
        }
    }
}

fn version(is_ipv6: bool) -> IpVersion {
    if is_ipv6 { IpVersion::V6 } else { IpVersion::V4 }
}

/// The checksums that a guest need not verify (`NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO`, receive).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveChecksum(pub u32);

impl ReceiveChecksum {
    /// The TCP checksum is right.
    pub const TCP_SUCCEEDED: u32 = 0x08;
    /// The UDP checksum is right.
    pub const UDP_SUCCEEDED: u32 = 0x10;
    /// The IPv4 header's checksum is right.
    pub const IP_SUCCEEDED: u32 = 0x20;
}

/// How to segment a TCP packet (`NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO`, version 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LargeSend(pub u32);

impl LargeSend {
    /// Returns the payload size of each segment.
    pub fn segment_size(self) -> u32 {
        self.0 & 0xf_ffff
    }

    /// Returns `true` for version 2, the only one that is offered.
    pub fn is_version_2(self) -> bool {
        self.0 & 1 << 30 != 0
    }

    /// Returns `true` if the frame is IPv6, `false` if it is IPv4.
    pub fn is_ipv6(self) -> bool {
        self.0 & 1 << 31 != 0
    }
}

impl From<LargeSend> for Cut {
    fn from(wanted: LargeSend) -> Self {
        Self { version: version(wanted.is_ipv6()), size: wanted.segment_size() }
    }
}

/// A VLAN tag (`NDIS_NET_BUFFER_LIST_8021Q_INFO`): the same fields as in a frame, in another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan(pub u32);

impl From<Vlan> for TagControl {
    fn from(Vlan(value): Vlan) -> Self {
        let (priority, drop_eligible, id) = (value & 7, value >> 3 & 1, value >> 4 & 0xfff);
        Self((priority << 13 | drop_eligible << 12 | id) as u16)
    }
}

impl From<TagControl> for Vlan {
    fn from(TagControl(tag): TagControl) -> Self {
        let (priority, drop_eligible, id) = (tag >> 13, tag >> 12 & 1, tag & 0xfff);
        Self(u32::from(priority | drop_eligible << 3) | u32::from(id) << 4)
    }
}

/// The position of a message in a coalesced segment (Linux: `struct rndis_pktinfo_id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PacketId {
    /// Always 1.
    pub version: u8,
    /// See the constants.
    pub flags: u8,
    /// Always 0.
    pub id: u16,
}

impl PacketId {
    /// The message is part of a segment.
    pub const PART: u8 = 1;
    /// The message is the first part.
    pub const FIRST: u8 = 2;
    /// The message is the last part.
    pub const LAST: u8 = 4;
}

/// The per-packet information of a frame, as far as it is supported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Information {
    /// From a guest: the checksums to compute. To a guest: the checksums that are verified.
    pub checksum: Option<u32>,
    /// From a guest: the segmentation of a large send.
    pub large_send: Option<LargeSend>,
    /// The tag.
    pub vlan: Option<Vlan>,
    /// The hash that selected the channel.
    pub hash: Option<u32>,
    /// To a guest: the position of this message in a coalesced segment.
    pub packet_id: Option<PacketId>,
}

/// The reason why per-packet information cannot be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InformationError {
    /// An element is shorter than its header, or longer than the rest of the message.
    #[error("an element has {size} bytes, but {left} are left")]
    Size {
        /// The stated size.
        size: u32,
        /// The remaining length.
        left: usize,
    },
    /// A value does not lie within its element.
    #[error("a value at offset {offset} does not fit into its element of {size} bytes")]
    Value {
        /// The stated offset.
        offset: u32,
        /// Size of the element.
        size: u32,
    },
}

/// Maximum length of what [`Information::write`] writes: five elements.
pub const MAX_INFORMATION: usize = 5 * (size_of::<InformationHeader>() + 4);

impl Information {
    /// Parses per-packet information. Unknown kinds are skipped. If a kind occurs more than once, the last element applies.
    ///
    /// # Errors
    /// Returns an error if an element does not fit.
    pub fn parse(mut bytes: &[u8]) -> Result<Self, InformationError> {
        let mut information = Self::default();
        while !bytes.is_empty() {
            let left = bytes.len();
            let (header, _) =
                InformationHeader::read_from_prefix(bytes).map_err(|_| InformationError::Size { size: 0, left })?;
            let InformationHeader { size, information_type, value_offset } = header;
            let (piece, rest) = usize::try_from(size)
                .ok()
                .filter(|size| *size >= size_of::<InformationHeader>())
                .and_then(|size| bytes.split_at_checked(size))
                .ok_or(InformationError::Size { size, left })?;
            let value = piece.get(value_offset as usize..).unwrap_or_default();
            information.take(information_type, value, InformationError::Value { offset: value_offset, size })?;
            bytes = rest;
        }
        Ok(information)
    }

    fn take(&mut self, kind: InformationType, value: &[u8], error: InformationError) -> Result<(), InformationError> {
        let word = || u32::read_from_prefix(value).map(|(word, _)| word).map_err(|_| error);
        match kind {
            InformationType::CHECKSUM => self.checksum = Some(word()?),
            InformationType::LARGE_SEND => self.large_send = Some(LargeSend(word()?)),
            InformationType::VLAN => self.vlan = Some(Vlan(word()?)),
            InformationType::HASH_VALUE => self.hash = Some(word()?),
            InformationType::PACKET_ID => {
                let mut id = PacketId::new_zeroed();
                id.as_mut_bytes().copy_from_slice(word()?.as_bytes());
                self.packet_id = Some(id);
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes the per-packet information and returns its length. `bytes` has room for [`MAX_INFORMATION`].
    pub fn write(&self, bytes: &mut [u8; MAX_INFORMATION]) -> usize {
        const PIECE: usize = size_of::<InformationHeader>() + 4;
        let id = self.packet_id.map(|id| zerocopy::transmute!(id));
        let pieces = [
            (InformationType::CHECKSUM, self.checksum),
            (InformationType::LARGE_SEND, self.large_send.map(|LargeSend(value)| value)),
            (InformationType::VLAN, self.vlan.map(|Vlan(value)| value)),
            (InformationType::HASH_VALUE, self.hash),
            (InformationType::PACKET_ID, id),
        ];
        let present = pieces.into_iter().filter_map(|(kind, value)| value.map(|value: u32| (kind, value)));
        let mut length = 0;
        for (place, (information_type, value)) in bytes.chunks_exact_mut(PIECE).zip(present) {
            let value_offset = size_of::<InformationHeader>() as u32;
            let header = InformationHeader { size: PIECE as u32, information_type, value_offset };
            let (start, end) = place.split_at_mut(size_of::<InformationHeader>());
            start.copy_from_slice(header.as_bytes());
            end.copy_from_slice(&value.to_le_bytes());
            length += PIECE;
        }
        length
    }
}

#[cfg(test)]
#[path = "info_tests.rs"]
mod tests;
