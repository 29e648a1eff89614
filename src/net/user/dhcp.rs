//! The network's DHCP server (RFC 2131). [`Leases`] assigns the addresses.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr};

use super::address::Network;
use super::leases::{LEASE, Leases};
use super::outbox::Outbox;
use super::packet::add_udp;
use super::share::Guest;
use crate::net::mac::MacAddress;

/// The port on which servers listen.
pub const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// The option with the name servers (RFC 2132, 3.8).
const NAME_SERVER: u8 = 6;

/// The result of a guest's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The guest has this address now.
    Given(Ipv4Addr),
    /// There was another reply, or none.
    Other,
    /// There is no free address for the guest.
    NoneLeft,
}

/// Processes a message from a guest, and replies if necessary. `name_server`: whether there is a name server.
pub fn receive(
    leases: &mut Leases,
    message: &[u8],
    guest: Guest,
    name_server: bool,
    outbox: &mut Outbox,
    now: Instant,
) -> Option<Answer> {
    let packet = DhcpPacket::new_checked(message).ok()?;
    let request = DhcpRepr::parse(&packet).ok()?;
    let client = MacAddress(request.client_hardware_address.0);
    if client != guest.mac || request.server_identifier.is_some_and(|server| server != Network::GATEWAY) {
        return None;
    }
    let wants_address = match request.message_type {
        DhcpMessageType::Discover | DhcpMessageType::Request => true,
        DhcpMessageType::Inform => false,
        DhcpMessageType::Release | DhcpMessageType::Decline => {
            leases.release(guest);
            return Some(Answer::Other);
        }
        _ => return None,
    };
    // A guest that only requests information has an address of its own.
    let address = if wants_address { leases.offer(guest, now) } else { Some(Ipv4Addr::UNSPECIFIED) };
    let Some(address) = address else { return Some(Answer::NoneLeft) };
    let wanted = request.requested_ip.or((!request.client_ip.is_unspecified()).then_some(request.client_ip));
    let message_type = match request.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request if wanted.is_some_and(|wanted| wanted != address) => DhcpMessageType::Nak,
        DhcpMessageType::Request | DhcpMessageType::Inform => DhcpMessageType::Ack,
        _ => return None,
    };
    let given = matches!(request.message_type, DhcpMessageType::Discover | DhcpMessageType::Request)
        && message_type != DhcpMessageType::Nak;
    let informs = message_type != DhcpMessageType::Nak;
    let servers = Network::DNS.octets();
    let options = [DhcpOption { kind: NAME_SERVER, data: &servers }];
    let answer = DhcpRepr {
        message_type,
        transaction_id: request.transaction_id,
        secs: 0,
        client_hardware_address: request.client_hardware_address,
        client_ip: if given { Ipv4Addr::UNSPECIFIED } else { request.client_ip },
        your_ip: if given { address } else { Ipv4Addr::UNSPECIFIED },
        server_ip: Network::GATEWAY,
        router: informs.then_some(Network::GATEWAY),
        subnet_mask: informs.then_some(Network::MASK),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: request.broadcast,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(Network::GATEWAY),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: given.then_some(LEASE.as_secs() as u32),
        renew_duration: None,
        rebind_duration: None,
        additional_options: if informs && name_server { &options } else { &[] },
    };
    let mut bytes = vec![0; answer.buffer_len()];
    answer.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).ok()?;
    let source = SocketAddr::from((Network::GATEWAY, SERVER_PORT));
    let taken = given && message_type == DhcpMessageType::Ack;
    if taken {
        leases.take(guest, now);
    }
    // A guest that renews its lease already uses its address, and expects the reply there (RFC 2131, 4.1).
    let (to, mac) = match request.client_ip {
        Ipv4Addr::UNSPECIFIED => (Ipv4Addr::BROADCAST, MacAddress::BROADCAST),
        client => (client, guest.mac),
    };
    add_udp(outbox, Guest { mac, ..guest }, source, (to, CLIENT_PORT).into(), &bytes);
    Some(if taken { Answer::Given(address) } else { Answer::Other })
}
