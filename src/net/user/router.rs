//! The router's own replies: ARP, neighbour discovery and pings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::Network;
use super::outbox::Outbox;
use super::packet::{LINK_HOP_LIMIT, add_icmp, hop_limit};
use super::share::Guest;
use crate::net::mac::MacAddress;
use crate::net::offload::headers::ether_type;

/// Length of an ARP packet for IPv4 on Ethernet (RFC 826).
const ARP: usize = 28;

/// The start of an ARP packet: Ethernet, IPv4, and their address lengths.
const ARP_KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// Answers an ARP request for one of the router's addresses. Returns the sender, if it can be learnt.
pub fn receive_arp(packet: &[u8], outbox: &mut Outbox) -> Option<(IpAddr, MacAddress)> {
    let packet: &[u8; ARP] = packet.first_chunk()?;
    let operation = packet[7];
    let sender = MacAddress(packet[8..14].try_into().ok()?);
    let address: [u8; 4] = packet[14..18].try_into().ok()?;
    let target: [u8; 4] = packet[24..28].try_into().ok()?;
    if packet[..6] != ARP_KIND || packet[6] != 0 {
        return None;
    }
    if operation == 1 && Network::is_own(Ipv4Addr::from(target).into()) && sender.is_station() {
        outbox.add(sender, ether_type::ARP, ARP, |answer| {
            answer[..6].copy_from_slice(&ARP_KIND);
            answer[7] = 2;
            answer[8..14].copy_from_slice(&Network::ROUTER.0);
            answer[14..18].copy_from_slice(&target);
            answer[18..24].copy_from_slice(&sender.0);
            answer[24..28].copy_from_slice(&address);
        });
    }
    Some((Ipv4Addr::from(address).into(), sender))
}

/// Asks by ARP whether the owner of an address is still there.
pub fn ask_arp((address, mac): (Ipv4Addr, MacAddress), outbox: &mut Outbox) {
    outbox.add(mac, ether_type::ARP, ARP, |question| {
        question[..6].copy_from_slice(&ARP_KIND);
        question[7] = 1;
        question[8..14].copy_from_slice(&Network::ROUTER.0);
        question[14..18].copy_from_slice(&Network::GATEWAY.octets());
        question[24..28].copy_from_slice(&address.octets());
    });
}

/// Kinds of ICMP and ICMPv6 messages.
pub mod kind {
    /// A ping (RFC 792).
    pub const ECHO: u8 = 8;
    /// Its reply.
    pub const ECHO_REPLY: u8 = 0;
    /// A ping (RFC 4443).
    pub const ECHO6: u8 = 128;
    /// Its reply.
    pub const ECHO_REPLY6: u8 = 129;
    pub(super) const ROUTER_SOLICITATION: u8 = 133;
    pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
    pub(super) const NEIGHBOR_SOLICITATION: u8 = 135;
    pub(super) const NEIGHBOR_ADVERTISEMENT: u8 = 136;
}

/// Answers a ping of one of the router's addresses.
pub fn answer_echo(message: &[u8], (source, destination): (IpAddr, IpAddr), guest: Guest, outbox: &mut Outbox) {
    if message.len() < 8 {
        return;
    }
    let mut answer = message.to_vec();
    answer[0] = if source.is_ipv4() { kind::ECHO_REPLY } else { kind::ECHO_REPLY6 };
    add_icmp(outbox, guest, (destination, source), hop_limit(), answer);
}

const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
const PREFIX: u8 = 3;
const NAME_SERVERS: u8 = 25;

/// Lifetime of the router's advertisements, in seconds.
const LIFETIME: u32 = 86_400;

/// Answers neighbour discovery for IPv6 (RFC 4861). `name_server`: whether there is a name server.
pub fn receive_discovery(
    message: &[u8],
    source: Ipv6Addr,
    guest: Guest,
    name_server: bool,
    outbox: &mut Outbox,
) -> Option<()> {
    match *message.first()? {
        kind::NEIGHBOR_SOLICITATION => {
            let target = Ipv6Addr::from(<[u8; 16]>::try_from(message.get(8..24)?).ok()?);
            if !Network::is_own(target.into()) || source.is_unspecified() {
                return None;
            }
            // Router, solicited, override.
            let mut answer = vec![kind::NEIGHBOR_ADVERTISEMENT, 0, 0, 0, 0xe0, 0, 0, 0];
            answer.extend_from_slice(&target.octets());
            answer.extend_from_slice(&[TARGET_LINK_ADDRESS, 1]);
            answer.extend_from_slice(&Network::ROUTER.0);
            add_icmp(outbox, guest, (target.into(), source.into()), LINK_HOP_LIMIT, answer);
        }
        kind::ROUTER_SOLICITATION => {
            let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            let to = if source.is_unspecified() { all_nodes } else { source };
            let ends = (Network::LINK_LOCAL6.into(), to.into());
            add_icmp(outbox, guest, ends, LINK_HOP_LIMIT, advertisement(name_server));
        }
        _ => {}
    }
    Some(())
}

/// Returns a router advertisement: there is a router, guests create their own addresses from the prefix, and there may
/// be a name server (RFC 8106).
fn advertisement(name_server: bool) -> Vec<u8> {
    const LIFETIME_OF_ROUTER: u16 = 9000;
    let [high, low] = LIFETIME_OF_ROUTER.to_be_bytes();
    let mut message = vec![kind::ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0, high, low, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&[SOURCE_LINK_ADDRESS, 1]);
    message.extend_from_slice(&Network::ROUTER.0);
    // 64 bits, on this link, for addresses.
    message.extend_from_slice(&[PREFIX, 4, 64, 0xc0]);
    message.extend_from_slice(&LIFETIME.to_be_bytes());
    message.extend_from_slice(&LIFETIME.to_be_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&Network::PREFIX6.octets());
    if name_server {
        message.extend_from_slice(&[NAME_SERVERS, 3, 0, 0]);
        message.extend_from_slice(&LIFETIME.to_be_bytes());
        message.extend_from_slice(&Network::DNS6.octets());
    }
    message
}
