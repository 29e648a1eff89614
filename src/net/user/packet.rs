//! IP and UDP packets that the network makes itself.

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
/// Neighbour discovery takes no packet that could have come through a router (RFC 4861, 7.1).
pub const LINK_HOP_LIMIT: u8 = 255;

/// What every host takes whole (RFC 8200, 5).
const LEAST_MTU6: usize = 1280;

/// Returns the source and destination of a packet. Returns `None` if they are of two versions.
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
    /// From where and where to.
    pub ends: (IpAddr, IpAddr),
    /// What it carries.
    pub protocol: u8,
    /// How many routers it may pass.
    pub hop_limit: u8,
}

/// Which part of a packet's payload a fragment has.
#[derive(Clone, Copy, Debug)]
struct Part {
    identification: u32,
    offset: usize,
    more: bool,
}

/// Returns how much payload a packet to `guest` has at most, with that much before it in every fragment. Whole blocks of eight bytes.
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

/// Adds an IP packet, in fragments if it is longer than the guest's link allows.
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
    // One that is lost takes the others with it.
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
        // No flow has ends of two versions.
        _ => {}
    }
}

/// Returns the sum of the pseudo header of TCP, UDP and ICMPv6.
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
        // Nobody can complete a sum over several frames.
        let sum = !checksum::fold(pseudo_header(ends, protocol::UDP, length) + checksum::sum(&datagram));
        set_be16(&mut datagram, 6, if sum == 0 { 0xffff } else { sum });
    }
    add_ip(outbox, guest, header, &datagram);
    if is_whole {
        finish_transport(outbox);
    }
}

/// Leaves the TCP or UDP checksum of the packet that was added last open.
pub fn finish_transport(outbox: &mut Outbox) {
    let Some(frame) = outbox.last() else { return };
    if let Some(headers) = Headers::parse(&frame.bytes) {
        frame.offload.checksum = checksum::leave_open(&mut frame.bytes, &headers).unwrap_or_default();
    }
}

/// Adds a message of ICMP or ICMPv6 and completes its checksum, which stands at offset 2.
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

/// What became of a guest's packet, for ICMP to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Nobody listens at that port.
    Port,
    /// The host is not there.
    Host,
    /// There is no way to its network.
    Network,
    /// The host's own rules forbid it.
    Forbidden,
    /// It has passed too many routers.
    HopLimit,
    /// Its fragments were not all there in time.
    Reassembly,
    /// What stands at that place makes no sense. IPv6 alone tells so here.
    Parameter(u32),
}

impl Problem {
    /// Returns what an error of a socket means for the guest.
    pub fn of(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::HostUnreachable => Self::Host,
            std::io::ErrorKind::NetworkUnreachable | std::io::ErrorKind::AddrNotAvailable => Self::Network,
            std::io::ErrorKind::PermissionDenied => Self::Forbidden,
            std::io::ErrorKind::ConnectionRefused => Self::Port,
            _ => Self::Host,
        }
    }

    /// Type and code of ICMP (RFC 792) and ICMPv6 (RFC 4443).
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

/// Tells the sender of the IP packet that begins with `packet` what became of it. `ends` are those of the message.
pub fn add_problem(outbox: &mut Outbox, guest: Guest, ends: (IpAddr, IpAddr), problem: Problem, packet: &[u8]) {
    let version = version_of(ends.0);
    // The header and eight bytes; over IPv6 as much as every link bears.
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

/// Returns a hop limit for packets that are for a guest.
pub fn hop_limit() -> u8 {
    HOP_LIMIT
}
