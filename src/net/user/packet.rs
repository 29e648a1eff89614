//! IP and UDP packets of the network itself.

use std::net::{IpAddr, SocketAddr};

use crate::net::offload::checksum;
use crate::net::offload::headers::{Headers, IpVersion, ether_type, protocol, set_be16};

use super::outbox::Outbox;
use super::share::Guest;

const IPV4_HEADER: usize = 20;
pub(super) const IPV6_HEADER: usize = 40;
const FRAGMENT_HEADER: usize = 8;
const FRAGMENT: u8 = 44;
const UDP_HEADER: usize = 8;
const HOP_LIMIT: u8 = 64;
/// Neighbour discovery refuses packets that may have come through a router (RFC 4861, 7.1).
pub const LINK_HOP_LIMIT: u8 = 255;

/// The packet size that every IPv6 host accepts (RFC 8200, 5).
const LEAST_MTU6: usize = 1280;

/// Returns the source and destination of a packet, or `None` if their IP versions differ.
pub fn addresses(packet: &[u8], headers: &Headers) -> Option<(IpAddr, IpAddr)> {
    let bytes = headers.addresses(packet);
    match headers.version {
        IpVersion::V4 => {
            let (source, destination) = bytes.split_first_chunk::<4>()?;
            Some((IpAddr::from(*source), IpAddr::from(<[u8; 4]>::try_from(destination).ok()?)))
        }
        IpVersion::V6 => {
            let (source, destination) = bytes.split_first_chunk::<16>()?;
            Some((IpAddr::from(*source), IpAddr::from(<[u8; 16]>::try_from(destination).ok()?)))
        }
    }
}

/// A packet without its payload.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Source and destination.
    pub ends: (IpAddr, IpAddr),
    /// The protocol of the payload.
    pub protocol: u8,
    /// How many routers it may pass.
    pub hop_limit: u8,
}

/// The position of a fragment in a packet's payload.
#[derive(Clone, Copy, Debug)]
struct Part {
    identification: u32,
    offset: usize,
    more: bool,
}

/// Returns the maximum payload of a packet to `guest`, with the given number of bytes before it in every fragment, in
/// whole blocks of eight bytes.
fn room(outbox: &Outbox, guest: Guest, version: IpVersion) -> (usize, usize) {
    let mtu = usize::from(outbox.mtu(guest));
    match version {
        IpVersion::V4 => (mtu - IPV4_HEADER, (mtu - IPV4_HEADER) & !7),
        IpVersion::V6 => {
            let room = mtu.max(LEAST_MTU6) - IPV6_HEADER;
            (room, (room - FRAGMENT_HEADER) & !7)
        }
    }
}

fn version_of(address: IpAddr) -> IpVersion {
    if address.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 }
}

/// Adds an IP packet, fragmented if it exceeds the guest's MTU.
fn add_ip(outbox: &mut Outbox, guest: Guest, header: Header, payload: &[u8]) {
    let version = version_of(header.ends.0);
    let fixed = if version == IpVersion::V4 { IPV4_HEADER } else { 0 };
    if fixed + payload.len() > usize::from(u16::MAX) {
        return outbox.count_dropped();
    }
    let (room, block) = room(outbox, guest, version);
    if payload.len() <= room {
        return add_part(outbox, guest, header, None, payload);
    }
    // If one fragment is lost, the others are useless.
    let pieces = payload.len().div_ceil(block);
    if !outbox.has_room(pieces, payload.len() + pieces * (IPV6_HEADER + FRAGMENT_HEADER)) {
        return outbox.count_dropped();
    }
    let identification = outbox.next_identification();
    for (number, piece) in payload.chunks(block).enumerate() {
        let part = Part { identification, offset: number * block, more: number + 1 < pieces };
        add_part(outbox, guest, header, Some(part), piece);
    }
}

fn add_part(outbox: &mut Outbox, guest: Guest, header: Header, part: Option<Part>, payload: &[u8]) {
    let Header { ends, protocol, hop_limit } = header;
    match ends {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let length = IPV4_HEADER + payload.len();
            outbox.add(guest.mac, ether_type::IPV4, length, |packet| {
                packet[0] = 0x45;
                set_be16(packet, 2, length as u16);
                match part {
                    // Do not fragment.
                    None => packet[6] = 0x40,
                    Some(Part { identification, offset, more }) => {
                        set_be16(packet, 4, identification as u16);
                        set_be16(packet, 6, (offset / 8) as u16 | u16::from(more) << 13);
                    }
                }
                packet[8] = hop_limit;
                packet[9] = protocol;
                packet[12..16].copy_from_slice(&source.octets());
                packet[16..20].copy_from_slice(&destination.octets());
                let sum = !checksum::fold(checksum::sum(&packet[..IPV4_HEADER]));
                set_be16(packet, 10, sum);
                packet[IPV4_HEADER..].copy_from_slice(payload);
            });
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let extension = if part.is_some() { FRAGMENT_HEADER } else { 0 };
            let length = extension + payload.len();
            outbox.add(guest.mac, ether_type::IPV6, IPV6_HEADER + length, |packet| {
                packet[0] = 0x60;
                set_be16(packet, 4, length as u16);
                packet[6] = if part.is_some() { FRAGMENT } else { protocol };
                packet[7] = hop_limit;
                packet[8..24].copy_from_slice(&source.octets());
                packet[24..40].copy_from_slice(&destination.octets());
                if let Some(Part { identification, offset, more }) = part {
                    packet[IPV6_HEADER] = protocol;
                    set_be16(packet, IPV6_HEADER + 2, offset as u16 | u16::from(more));
                    packet[IPV6_HEADER + 4..IPV6_HEADER + 8].copy_from_slice(&identification.to_be_bytes());
                }
                packet[IPV6_HEADER + extension..].copy_from_slice(payload);
            });
        }
        // The endpoints of a flow have the same version.
        _ => {}
    }
}

/// Returns the sum of the pseudo header for TCP, UDP and ICMPv6.
fn pseudo_header((source, destination): (IpAddr, IpAddr), protocol: u8, length: usize) -> u64 {
    let addresses = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            checksum::sum(&source.octets()) + checksum::sum(&destination.octets())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            checksum::sum(&source.octets()) + checksum::sum(&destination.octets())
        }
        _ => 0,
    };
    addresses + checksum::sum(&(length as u32).to_be_bytes()) + checksum::sum(&[0, 0, 0, protocol])
}

/// Adds a UDP datagram.
pub fn add_udp(outbox: &mut Outbox, guest: Guest, source: SocketAddr, destination: SocketAddr, payload: &[u8]) {
    let length = UDP_HEADER + payload.len();
    if length > usize::from(u16::MAX) {
        return outbox.count_dropped();
    }
    let mut datagram = Vec::with_capacity(length);
    datagram.extend_from_slice(&source.port().to_be_bytes());
    datagram.extend_from_slice(&destination.port().to_be_bytes());
    datagram.extend_from_slice(&(length as u16).to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    let ends = (source.ip(), destination.ip());
    let header = Header { ends, protocol: protocol::UDP, hop_limit: HOP_LIMIT };
    let is_whole = length <= room(outbox, guest, version_of(ends.0)).0;
    if !is_whole {
        // A sum over several frames cannot be left to an offload.
        let sum = !checksum::fold(pseudo_header(ends, protocol::UDP, length) + checksum::sum(&datagram));
        set_be16(&mut datagram, 6, if sum == 0 { 0xffff } else { sum });
    }
    add_ip(outbox, guest, header, &datagram);
    if is_whole {
        finish_transport(outbox);
    }
}

/// Leaves the TCP or UDP checksum of the last added packet incomplete.
pub fn finish_transport(outbox: &mut Outbox) {
    let Some(frame) = outbox.last() else { return };
    if let Some(headers) = Headers::parse(&frame.bytes) {
        frame.offload.checksum = checksum::leave_open(&mut frame.bytes, &headers).unwrap_or_default();
    }
}

/// Adds an ICMP or ICMPv6 message and completes its checksum, which is at offset 2.
pub fn add_icmp(outbox: &mut Outbox, guest: Guest, ends: (IpAddr, IpAddr), hop_limit: u8, mut message: Vec<u8>) {
    let (protocol, pseudo) = match ends.0 {
        IpAddr::V4(_) => (protocol::ICMP, 0),
        IpAddr::V6(_) => (protocol::ICMP6, pseudo_header(ends, protocol::ICMP6, message.len())),
    };
    set_be16(&mut message, 2, 0);
    let sum = !checksum::fold(pseudo + checksum::sum(&message));
    set_be16(&mut message, 2, sum);
    add_ip(outbox, guest, Header { ends, protocol, hop_limit }, &message);
}

/// The fate of a guest's packet, as reported by ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// There is no listener at that port.
    Port,
    /// The host is unreachable.
    Host,
    /// The network is unreachable.
    Network,
    /// The host's rules forbid it.
    Forbidden,
    /// The hop limit has expired.
    HopLimit,
    /// Fragments were missing.
    Reassembly,
    /// The value at that offset is invalid. Used only for IPv6.
    Parameter(u32),
}

impl Problem {
    /// Returns the problem for an error of a socket.
    pub fn of(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::HostUnreachable => Self::Host,
            std::io::ErrorKind::NetworkUnreachable | std::io::ErrorKind::AddrNotAvailable => Self::Network,
            std::io::ErrorKind::PermissionDenied => Self::Forbidden,
            std::io::ErrorKind::ConnectionRefused => Self::Port,
            _ => Self::Host,
        }
    }

    /// Returns type and code for ICMP (RFC 792) and ICMPv6 (RFC 4443).
    fn kind(self, version: IpVersion) -> [u8; 2] {
        match (self, version) {
            (Self::Network, IpVersion::V4) => [3, 0],
            (Self::Host, IpVersion::V4) => [3, 1],
            (Self::Port, IpVersion::V4) => [3, 3],
            (Self::Forbidden, IpVersion::V4) => [3, 13],
            (Self::HopLimit, IpVersion::V4) => [11, 0],
            (Self::Reassembly, IpVersion::V4) => [11, 1],
            (Self::Parameter(_), IpVersion::V4) => [12, 0],
            (Self::Network, IpVersion::V6) => [1, 0],
            (Self::Forbidden, IpVersion::V6) => [1, 1],
            (Self::Host, IpVersion::V6) => [1, 3],
            (Self::Port, IpVersion::V6) => [1, 4],
            (Self::HopLimit, IpVersion::V6) => [3, 0],
            (Self::Reassembly, IpVersion::V6) => [3, 1],
            (Self::Parameter(_), IpVersion::V6) => [4, 0],
        }
    }
}

/// Notifies the sender of the IP packet that begins with `packet`. `ends` are those of the message.
pub fn add_problem(outbox: &mut Outbox, guest: Guest, ends: (IpAddr, IpAddr), problem: Problem, packet: &[u8]) {
    let version = version_of(ends.0);
    // The header and eight bytes; for IPv6, as much as every link supports.
    let quoted = match version {
        IpVersion::V4 => usize::from(packet.first().map_or(0, |first| first & 0xf)) * 4 + 8,
        IpVersion::V6 => LEAST_MTU6 - IPV6_HEADER - 8,
    };
    let [kind, code] = problem.kind(version);
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    if let Problem::Parameter(place) = problem {
        message[4..].copy_from_slice(&place.to_be_bytes());
    }
    message.extend_from_slice(&packet[..packet.len().min(quoted)]);
    add_icmp(outbox, guest, ends, HOP_LIMIT, message);
}

/// Returns the hop limit of packets to a guest.
pub fn hop_limit() -> u8 {
    HOP_LIMIT
}
