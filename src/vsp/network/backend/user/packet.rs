//! IP and UDP packets that the network makes itself.

use std::net::{IpAddr, SocketAddr};

use crate::vsp::network::mac::MacAddress;
use crate::vsp::network::offload::checksum;
use crate::vsp::network::offload::headers::{Headers, IpVersion, protocol, set_be16};

use super::outbox::Outbox;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
const HOP_LIMIT: u8 = 64;
/// Neighbour discovery takes no packet that could have come through a router (RFC 4861, 7.1).
pub const LINK_HOP_LIMIT: u8 = 255;

/// The longest datagram: one frame of the usual MTU has to hold it.
pub const MAX_DATAGRAM: usize = 65_507;

/// The source and destination of a packet. None if they are of two versions.
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

/// Adds an IP packet with `length` bytes after its header, which `fill` fills in.
pub fn add_ip(
    outbox: &mut Outbox,
    mac: MacAddress,
    (source, destination): (IpAddr, IpAddr),
    (protocol, hop_limit): (u8, u8),
    length: usize,
    fill: impl FnOnce(&mut [u8]),
) {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            outbox.add_ip(mac, IpVersion::V4, IPV4_HEADER + length, |packet| {
                let (header, payload) = packet.split_at_mut(IPV4_HEADER);
                header[0] = 0x45;
                set_be16(header, 2, (IPV4_HEADER + length) as u16);
                // Do not fragment.
                header[6] = 0x40;
                header[8] = hop_limit;
                header[9] = protocol;
                header[12..16].copy_from_slice(&source.octets());
                header[16..20].copy_from_slice(&destination.octets());
                let sum = !checksum::fold(checksum::sum(header));
                set_be16(header, 10, sum);
                fill(payload);
            });
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            outbox.add_ip(mac, IpVersion::V6, IPV6_HEADER + length, |packet| {
                let (header, payload) = packet.split_at_mut(IPV6_HEADER);
                header[0] = 0x60;
                set_be16(header, 4, length as u16);
                header[6] = protocol;
                header[7] = hop_limit;
                header[8..24].copy_from_slice(&source.octets());
                header[24..40].copy_from_slice(&destination.octets());
                fill(payload);
            });
        }
        // No flow has ends of two versions.
        _ => {}
    }
}

/// Adds a UDP datagram.
pub fn add_udp(outbox: &mut Outbox, mac: MacAddress, source: SocketAddr, destination: SocketAddr, payload: &[u8]) {
    if payload.len() > MAX_DATAGRAM {
        return outbox.count_dropped();
    }
    let length = UDP_HEADER + payload.len();
    let ends = (source.ip(), destination.ip());
    add_ip(outbox, mac, ends, (protocol::UDP, HOP_LIMIT), length, |datagram| {
        set_be16(datagram, 0, source.port());
        set_be16(datagram, 2, destination.port());
        set_be16(datagram, 4, length as u16);
        datagram[UDP_HEADER..].copy_from_slice(payload);
    });
    finish_transport(outbox);
}

/// Leaves the TCP or UDP checksum of the packet that was added last open.
pub fn finish_transport(outbox: &mut Outbox) {
    let Some(frame) = outbox.last() else { return };
    if let Some(headers) = Headers::parse(&frame.bytes) {
        frame.offload.checksum = checksum::leave_open(&mut frame.bytes, &headers).unwrap_or_default();
    }
}

/// Adds a message of ICMP or ICMPv6 and completes its checksum, which stands at offset 2.
pub fn add_icmp(outbox: &mut Outbox, mac: MacAddress, ends: (IpAddr, IpAddr), hop_limit: u8, message: &[u8]) {
    let (number, pseudo) = match ends {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let addresses = checksum::sum(&source.octets()) + checksum::sum(&destination.octets());
            let length = (message.len() as u32).to_be_bytes();
            (protocol::ICMP6, addresses + checksum::sum(&length) + checksum::sum(&[0, 0, 0, protocol::ICMP6]))
        }
        _ => (protocol::ICMP, 0),
    };
    add_ip(outbox, mac, ends, (number, hop_limit), message.len(), |payload| {
        payload.copy_from_slice(message);
        set_be16(payload, 2, 0);
        let sum = !checksum::fold(pseudo + checksum::sum(payload));
        set_be16(payload, 2, sum);
    });
}

/// Tells the sender of the IP packet in `packet` that nobody listens there: ICMP "port unreachable" (RFC 792, RFC 4443).
pub fn add_unreachable(outbox: &mut Outbox, mac: MacAddress, ends: (IpAddr, IpAddr), packet: &[u8]) {
    let (kind, code, most) = if ends.0.is_ipv4() { (3, 3, IPV4_HEADER + 8) } else { (1, 4, 1232) };
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&packet[..packet.len().min(most)]);
    add_icmp(outbox, mac, ends, HOP_LIMIT, &message);
}

/// A hop limit for packets that are for a guest.
pub fn hop_limit() -> u8 {
    HOP_LIMIT
}
