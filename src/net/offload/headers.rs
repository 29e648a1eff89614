//! Locates the headers in a frame.

pub use crate::net::frame::IpVersion;

/// IP protocol numbers (IANA).
pub mod protocol {
    /// Internet Control Message Protocol.
    pub const ICMP: u8 = 1;
    /// Transmission Control Protocol.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMP6: u8 = 58;
}

/// Ethernet protocol numbers (IEEE 802).
pub mod ether_type {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// Address Resolution Protocol.
    pub const ARP: u16 = 0x0806;
    /// A customer's VLAN tag (802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// A provider's VLAN tag (802.1ad).
    pub const PROVIDER_VLAN: u16 = 0x88a8;
}

/// The offsets of an IP packet's headers in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// The IP version.
    pub version: IpVersion,
    /// Offset of the IP header.
    pub network: usize,
    /// Offset of the transport header.
    pub transport: usize,
    /// The IP protocol number of the transport protocol.
    pub protocol: u8,
    /// Whether the packet is a fragment, which does not contain the complete transport header and payload.
    pub fragment: bool,
    /// The end of the packet, because short frames are padded.
    pub end: usize,
}

/// Extension headers of IPv6 that contain only the next header and their length (RFC 8200, section 4).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;
const FRAGMENT: u8 = 44;

/// Maximum number of extension headers.
const MAX_EXTENSIONS: usize = 8;

/// Returns the 16-bit big-endian number at `offset`.
pub(crate) fn be16(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(offset..offset.checked_add(2)?)?.try_into().ok()?))
}

/// Writes a 16-bit big-endian number at `offset`, if there is room.
pub(crate) fn set_be16(bytes: &mut [u8], offset: usize, value: u16) {
    if let Some(place) = bytes.get_mut(offset..offset.saturating_add(2)) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

impl Headers {
    /// Locates the headers of a frame with an IP packet, behind up to two VLAN tags.
    ///
    /// Returns `None` for any other frame, and for one that is too short or inconsistent. The IP packet's length may be
    /// 0, as guests set it for [segmentation](super::super::frame::Segmentation): then the packet ends with the frame.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let mut type_offset = 12;
        let mut ether_type = be16(frame, type_offset)?;
        for _ in 0..2 {
            if matches!(ether_type, ether_type::VLAN | ether_type::PROVIDER_VLAN) {
                type_offset += 4;
                ether_type = be16(frame, type_offset)?;
            }
        }
        match ether_type {
            ether_type::IPV4 => Self::parse_v4(frame, type_offset + 2),
            ether_type::IPV6 => Self::parse_v6(frame, type_offset + 2),
            _ => None,
        }
    }

    fn parse_v4(frame: &[u8], network: usize) -> Option<Self> {
        let packet = frame.get(network..)?;
        let first = *packet.first()?;
        let header = usize::from(first & 0xf) * 4;
        if first >> 4 != 4 || header < 20 || packet.len() < header {
            return None;
        }
        let length = match usize::from(be16(packet, 2)?) {
            0 => packet.len(),
            length => length,
        };
        if length < header || length > packet.len() {
            return None;
        }
        const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff;
        Some(Self {
            version: IpVersion::V4,
            network,
            transport: network + header,
            protocol: packet[9],
            fragment: be16(packet, 6)? & MORE_FRAGMENTS_AND_OFFSET != 0,
            end: network + length,
        })
    }

    fn parse_v6(frame: &[u8], network: usize) -> Option<Self> {
        const HEADER: usize = 40;
        let packet = frame.get(network..)?;
        if packet.len() < HEADER || packet[0] >> 4 != 6 {
            return None;
        }
        let length = match usize::from(be16(packet, 4)?) {
            0 => packet.len(),
            length => HEADER + length,
        };
        if length > packet.len() {
            return None;
        }
        let mut protocol = packet[6];
        let mut transport = HEADER;
        let mut fragment = false;
        for _ in 0..MAX_EXTENSIONS {
            let extension = match protocol {
                HOP_BY_HOP | ROUTING | DESTINATION => 8 + 8 * usize::from(*packet.get(transport + 1)?),
                FRAGMENT => {
                    fragment = true;
                    8
                }
                _ => break,
            };
            let is_later_fragment = protocol == FRAGMENT && be16(packet, transport + 2)? >> 3 != 0;
            protocol = *packet.get(transport)?;
            transport += extension;
            if transport > length {
                return None;
            }
            if is_later_fragment {
                // All further headers are in the first fragment.
                break;
            }
        }
        let end = network + length;
        Some(Self { version: IpVersion::V6, network, transport: network + transport, protocol, fragment, end })
    }

    /// Returns the offset of the checksum in the transport header, or `None` if the packet is a fragment, is neither
    /// TCP nor UDP, or is incomplete.
    pub fn checksum_offset(&self) -> Option<u16> {
        let (offset, header) = match self.protocol {
            protocol::TCP => (16, 20),
            protocol::UDP => (6, 8),
            _ => return None,
        };
        (!self.fragment && self.transport + header <= self.end).then_some(offset)
    }

    /// Returns the source and destination addresses.
    pub fn addresses<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let range = match self.version {
            IpVersion::V4 => self.network + 12..self.network + 20,
            IpVersion::V6 => self.network + 8..self.network + 40,
        };
        frame.get(range).unwrap_or_default()
    }

    /// Returns the source and destination ports of TCP and UDP, four bytes.
    pub fn ports<'a>(&self, frame: &'a [u8]) -> Option<&'a [u8]> {
        self.checksum_offset()?;
        frame.get(self.transport..self.transport + 4)
    }
}

/// The fragmentation fields of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentField {
    /// Offset of these fields in the frame: in IPv4's header, or in the fragment header of IPv6.
    pub at: usize,
    /// End of the part of the packet that every fragment has.
    pub header_end: usize,
    /// Start of the fragment's payload.
    pub payload: usize,
    /// The id that all fragments of a packet have in common.
    pub identification: u32,
    /// Position of the fragment's payload in the packet's payload.
    pub offset: usize,
    /// Whether more fragments follow.
    pub more: bool,
    /// Offset of the field for the next header's number once the fragment header is removed.
    pub next_at: usize,
    /// That number.
    pub next: u8,
}

impl FragmentField {
    /// Returns the fragmentation fields of a packet, or `None` if it is not a fragment.
    pub fn find(frame: &[u8], headers: &Headers) -> Option<Self> {
        let network = headers.network;
        let packet = frame.get(network..headers.end)?;
        if !headers.fragment {
            return None;
        }
        if headers.version == IpVersion::V4 {
            let field = be16(packet, 6)?;
            return Some(Self {
                at: network,
                header_end: headers.transport,
                payload: headers.transport,
                identification: be16(packet, 4)?.into(),
                offset: usize::from(field & 0x1fff) * 8,
                more: field & 0x2000 != 0,
                next_at: network + 9,
                next: headers.protocol,
            });
        }
        let (mut next_at, mut place) = (6, 40);
        for _ in 0..MAX_EXTENSIONS {
            let next = *packet.get(next_at)?;
            match next {
                HOP_BY_HOP | ROUTING | DESTINATION => {
                    next_at = place;
                    place += 8 + 8 * usize::from(*packet.get(place + 1)?);
                }
                FRAGMENT => {
                    let field = be16(packet, place + 2)?;
                    let identification = packet.get(place + 4..place + 8)?;
                    return Some(Self {
                        at: network + place,
                        header_end: network + place,
                        payload: network + place + 8,
                        identification: u32::from_be_bytes(identification.try_into().ok()?),
                        offset: usize::from(field & !7),
                        more: field & 1 != 0,
                        next_at: network + next_at,
                        next: *packet.get(place)?,
                    });
                }
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
