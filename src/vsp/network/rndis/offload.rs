//! The offloads of an adapter, and which of them the guest has enabled (MS-DOC `NDIS_OFFLOAD`,
//! `NDIS_OFFLOAD_PARAMETERS`).

use zerocopy::{FromZeros, IntoBytes};

use super::wire::ObjectHeader;
use crate::vsp::network::wire;

/// An offload in the two directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BothWays {
    /// For frames from the guest.
    pub transmit: bool,
    /// For frames to the guest.
    pub receive: bool,
}

impl BothWays {
    const ON: Self = Self { transmit: true, receive: true };

    fn and(self, other: Self) -> Self {
        Self { transmit: self.transmit && other.transmit, receive: self.receive && other.receive }
    }
}

/// A set of offloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// The IPv4 header's checksum.
    pub ipv4: BothWays,
    /// TCP over IPv4.
    pub tcp4: BothWays,
    /// UDP over IPv4.
    pub udp4: BothWays,
    /// TCP over IPv6.
    pub tcp6: BothWays,
    /// UDP over IPv6.
    pub udp6: BothWays,
    /// Segmentation of TCP packets from the guest, over IPv4.
    pub large_send4: bool,
    /// The same over IPv6.
    pub large_send6: bool,
    /// TCP segments are delivered to the guest without segmentation, over IPv4 (receive segment coalescing).
    pub coalescing4: bool,
    /// The same over IPv6.
    pub coalescing6: bool,
}

/// Maximum length of a packet for segmentation, as in Windows Server. It leaves room for headers below 64 KiB.
pub const MAX_LARGE_SEND: u32 = 0xf53c;

/// Minimum number of segments.
const MIN_SEGMENTS: u32 = 2;

/// `NDIS_ENCAPSULATION_IEEE_802_3`.
const ETHERNET: u32 = 2;

wire! { 156,
/// `NDIS_OFFLOAD`, revision 3. Revisions 1 and 2 end earlier: see [`Offloads::to_bytes`].
pub struct NdisOffload {
    /// Type, revision, size.
    pub header: ObjectHeader,
    /// Encapsulation and checksums of IPv4 out.
    pub ipv4_transmit: [u32; 2],
    /// Encapsulation and checksums of IPv4 in.
    pub ipv4_receive: [u32; 2],
    /// Encapsulation and checksums of IPv6 out.
    pub ipv6_transmit: [u32; 2],
    /// Encapsulation and checksums of IPv6 in.
    pub ipv6_receive: [u32; 2],
    /// 0: version 1 of large send is not offered.
    pub large_send_v1: [u32; 4],
    /// 0.
    pub ipsec_v1: [u32; 7],
    /// Encapsulation, maximum length, minimum number of segments.
    pub large_send_ipv4: [u32; 3],
    /// Encapsulation, maximum length, minimum number of segments, and whether extension headers and TCP options are
    /// allowed.
    pub large_send_ipv6: [u32; 4],
    /// 0.
    pub flags: u32,
    /// 0.
    pub ipsec_v2: [u32; 8],
    /// Receive segment coalescing for IPv4 and IPv6.
    pub coalescing: [u8; 2],
    /// 0.
    pub reserved: [u8; 2],
    /// 0.
    pub encapsulation: [u32; 2],
}}

wire! { 26,
/// `NDIS_OFFLOAD_PARAMETERS`, revision 3. Each byte enables or disables an offload: see [`Offloads::switch`].
pub struct OffloadParameters {
    /// Type, revision, size.
    pub header: [u8; 4],
    /// The IPv4 header's checksum, TCP and UDP over IPv4, TCP and UDP over IPv6.
    pub checksums: [u8; 5],
    /// Version 1 of large send.
    pub large_send_v1: u8,
    /// IPsec.
    pub ipsec_v1: u8,
    /// Version 2 of large send, IPv4 and IPv6.
    pub large_send: [u8; 2],
    /// TCP chimney.
    pub connection: [u8; 2],
    /// 0.
    pub reserved: u8,
    /// 0.
    pub flags: [u8; 4],
    /// IPsec.
    pub ipsec_v2: [u8; 2],
    /// Receive segment coalescing, IPv4 and IPv6.
    pub coalescing: [u8; 2],
    /// Encapsulated packets.
    pub encapsulation: [u8; 2],
}}

impl Offloads {
    /// Returns all offloads of this adapter. Coalesced segments require NVSP 6.1 and a driver that reassembles them.
    pub fn all(coalescing: bool) -> Self {
        Self {
            ipv4: BothWays::ON,
            tcp4: BothWays::ON,
            udp4: BothWays::ON,
            tcp6: BothWays::ON,
            udp6: BothWays::ON,
            large_send4: true,
            large_send6: true,
            coalescing4: coalescing,
            coalescing6: coalescing,
        }
    }

    /// Returns the intersection of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            ipv4: self.ipv4.and(other.ipv4),
            tcp4: self.tcp4.and(other.tcp4),
            udp4: self.udp4.and(other.udp4),
            tcp6: self.tcp6.and(other.tcp6),
            udp6: self.udp6.and(other.udp6),
            large_send4: self.large_send4 && other.large_send4,
            large_send6: self.large_send6 && other.large_send6,
            coalescing4: self.coalescing4 && other.coalescing4,
            coalescing6: self.coalescing6 && other.coalescing6,
        }
    }

    /// Returns `NDIS_OFFLOAD` for drivers with this revision.
    pub fn to_bytes(self, revision: u8) -> Vec<u8> {
        let (revision, size) = match revision {
            0 | 1 => (1, 112),
            2 => (2, 144),
            _ => (3, size_of::<NdisOffload>()),
        };
        // Fields of two bits, with 1 for "supported": IP options, TCP options, TCP, UDP, IPv4's header (which IPv6 does
        // not have).
        let checksums = |ip: bool, tcp: bool, udp: bool| {
            let flags = u32::from(ip) * 0x101 + u32::from(tcp) * 0x14 + u32::from(udp) * 0x40;
            if flags == 0 { [0, 0] } else { [ETHERNET, flags] }
        };
        // Here the lowest bits are extension headers, which are enabled with TCP.
        let checksums6 = |tcp: bool, udp: bool| {
            let flags = u32::from(tcp) * 0x15 + u32::from(udp) * 0x40;
            if flags == 0 { [0, 0] } else { [ETHERNET, flags] }
        };
        let mut offload = NdisOffload::new_zeroed();
        offload.header = ObjectHeader { object_type: ObjectHeader::OFFLOAD, revision, size: size as u16 };
        offload.ipv4_transmit = checksums(self.ipv4.transmit, self.tcp4.transmit, self.udp4.transmit);
        offload.ipv4_receive = checksums(self.ipv4.receive, self.tcp4.receive, self.udp4.receive);
        offload.ipv6_transmit = checksums6(self.tcp6.transmit, self.udp6.transmit);
        offload.ipv6_receive = checksums6(self.tcp6.receive, self.udp6.receive);
        if self.large_send4 {
            offload.large_send_ipv4 = [ETHERNET, MAX_LARGE_SEND, MIN_SEGMENTS];
        }
        if self.large_send6 {
            const EXTENSIONS_AND_OPTIONS: u32 = 5;
            offload.large_send_ipv6 = [ETHERNET, MAX_LARGE_SEND, MIN_SEGMENTS, EXTENSIONS_AND_OPTIONS];
        }
        offload.coalescing = [self.coalescing4.into(), self.coalescing6.into()];
        offload.as_bytes()[..size].to_vec()
    }

    /// Applies `NDIS_OFFLOAD_PARAMETERS`, as far as `supported` allows. Returns `false`, and changes nothing, if it is
    /// invalid.
    #[must_use]
    pub fn switch(&mut self, information: &[u8], supported: &Self) -> bool {
        const REVISION_1: usize = 20;
        const ENABLED: u8 = 2;
        let mut parameters = OffloadParameters::new_zeroed();
        let length = information.len().min(size_of::<OffloadParameters>());
        if length < REVISION_1 {
            return false;
        }
        parameters.as_mut_bytes()[..length].copy_from_slice(&information[..length]);
        if parameters.large_send_v1 == ENABLED || parameters.header[0] != ObjectHeader::DEFAULT {
            return false;
        }
        let mut wanted = *self;
        let both = [&mut wanted.ipv4, &mut wanted.tcp4, &mut wanted.udp4, &mut wanted.tcp6, &mut wanted.udp6];
        for (both, value) in both.into_iter().zip(parameters.checksums) {
            match value {
                0 => {}
                1..=4 => *both = BothWays { transmit: value & 1 == 0, receive: value > 2 },
                _ => return false,
            }
        }
        let [large_send4, large_send6] = parameters.large_send;
        let [coalescing4, coalescing6] = parameters.coalescing;
        let switches = [
            (&mut wanted.large_send4, large_send4),
            (&mut wanted.large_send6, large_send6),
            (&mut wanted.coalescing4, coalescing4),
            (&mut wanted.coalescing6, coalescing6),
        ];
        for (switch, value) in switches {
            match value {
                0 => {}
                1 | ENABLED => *switch = value == ENABLED,
                _ => return false,
            }
        }
        *self = wanted.and(*supported);
        true
    }

    /// Applies a keyword of the driver's configuration (MS-DOC "Standardized INF Keywords"). `value` is a digit: 1 is
    /// transmit, 2 is receive.
    pub fn configure(&mut self, keyword: &str, value: u8, supported: &Self) {
        let both = BothWays { transmit: value & 1 != 0, receive: value & 2 != 0 };
        match keyword {
            "*IPChecksumOffloadIPv4" => self.ipv4 = both,
            "*TCPChecksumOffloadIPv4" => self.tcp4 = both,
            "*UDPChecksumOffloadIPv4" => self.udp4 = both,
            "*TCPChecksumOffloadIPv6" => self.tcp6 = both,
            "*UDPChecksumOffloadIPv6" => self.udp6 = both,
            "*LsoV2IPv4" => self.large_send4 = value != 0,
            "*LsoV2IPv6" => self.large_send6 = value != 0,
            "*RscIPv4" => self.coalescing4 = value != 0,
            "*RscIPv6" => self.coalescing6 = value != 0,
            _ => {}
        }
        *self = self.and(*supported);
    }
}

/// Returns `NDIS_OFFLOAD_ENCAPSULATION`: checksums and segmentation work on Ethernet frames.
pub fn encapsulation() -> Vec<u8> {
    const HEADER: u32 = crate::net::frame::ETHERNET_HEADER as u32;
    let header = ObjectHeader { object_type: ObjectHeader::OFFLOAD_ENCAPSULATION, revision: 1, size: 28 };
    [header.as_bytes(), [1, ETHERNET, HEADER, 1, ETHERNET, HEADER].as_bytes()].concat()
}

/// Returns `true` if the guest requests offloads only on Ethernet frames. The words at 4 and 16 are 1 for a request;
/// the words after them are then 2.
pub fn is_encapsulation_supported(information: &[u8]) -> bool {
    let word = |index: usize| {
        information
            .get(index * 4..index * 4 + 4)
            .map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    [1, 4].into_iter().all(|switch| match (word(switch), word(switch + 1)) {
        (Some(1), encapsulation) => encapsulation == Some(ETHERNET),
        (Some(_), Some(_)) => true,
        _ => false,
    })
}

#[cfg(test)]
#[path = "offload_tests.rs"]
mod tests;
