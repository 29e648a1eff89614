//! The network's DHCP server (RFC 2131). A guest keeps its address as long as the network exists.

use std::net::{Ipv4Addr, SocketAddr};

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr};

use super::address::{MAX_GUESTS, Network};
use super::outbox::Outbox;
use super::packet::add_udp;
use crate::vsp::network::mac::MacAddress;

/// Where servers listen.
pub const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// How long a guest may use its address before it asks again, in seconds.
const LEASE: u32 = 86_400;

/// The option with the name servers (RFC 2132, 3.8).
const NAME_SERVER: u8 = 6;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Server {
    /// Guest number `n` has this Ethernet address.
    guests: Vec<MacAddress>,
}

impl Server {
    /// The address of a guest, which gets one if it has none and there is one left.
    pub fn lease(&mut self, guest: MacAddress) -> Option<Ipv4Addr> {
        let known = self.guests.iter().position(|known| *known == guest);
        let index = match known {
            Some(index) => index,
            None if self.guests.len() < MAX_GUESTS.into() && guest.is_station() => {
                self.guests.push(guest);
                self.guests.len() - 1
            }
            None => return None,
        };
        Some(Network::guest(index as u8))
    }

    /// The first guest that asked: where forwarded ports lead to.
    pub fn first(&self) -> Option<MacAddress> {
        self.guests.first().copied()
    }

    /// Answers a message from a guest, if there is an answer. `name_server` says whether there is one.
    pub fn receive(
        &mut self,
        message: &[u8],
        sender: MacAddress,
        name_server: bool,
        outbox: &mut Outbox,
    ) -> Option<()> {
        let packet = DhcpPacket::new_checked(message).ok()?;
        let request = DhcpRepr::parse(&packet).ok()?;
        let client = MacAddress(request.client_hardware_address.0);
        if client != sender || request.server_identifier.is_some_and(|server| server != Network::GATEWAY) {
            return None;
        }
        let address = self.lease(client)?;
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
            lease_duration: given.then_some(LEASE),
            renew_duration: None,
            rebind_duration: None,
            additional_options: if informs && name_server { &options } else { &[] },
        };
        let mut bytes = vec![0; answer.buffer_len()];
        answer.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).ok()?;
        let source = SocketAddr::from((Network::GATEWAY, SERVER_PORT));
        // A guest that renews has its address already and wants the answer there (RFC 2131, 4.1).
        let (to, mac) = match request.client_ip {
            Ipv4Addr::UNSPECIFIED => (Ipv4Addr::BROADCAST, MacAddress::BROADCAST),
            client => (client, sender),
        };
        add_udp(outbox, mac, source, (to, CLIENT_PORT).into(), &bytes);
        Some(())
    }
}
