//! From the guest to the host, and beyond: what its frames ask for.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use smoltcp::iface::SocketSet;

use super::address::Network;
use super::datagram::{self, Kind};
use super::dhcp;
use super::link::{self, Link};
use super::packet::{add_unreachable, addresses};
use super::router::{self, kind};
use super::stack::{CONNECTION, DATAGRAMS, Stack};
use super::tcp;
use crate::vsp::network::frame::{ETHERNET_HEADER, Frame};
use crate::vsp::network::mac::MacAddress;
use crate::vsp::network::offload::headers::{Headers, be16, ether_type, protocol};

/// An IP packet of a guest's, in its frame.
struct Received<'a> {
    frame: &'a [u8],
    headers: Headers,
    source: IpAddr,
    destination: IpAddr,
    mac: MacAddress,
}

impl<'a> Received<'a> {
    /// The packet.
    fn packet(&self) -> Option<&'a [u8]> {
        self.frame.get(self.headers.network..self.headers.end)
    }

    /// What the packet carries.
    fn transport(&self) -> Option<&'a [u8]> {
        self.frame.get(self.headers.transport..self.headers.end)
    }

    /// Where it is from and where it is to go. None if the guest cannot have sent that.
    fn sockets(&self) -> Option<(SocketAddr, SocketAddr)> {
        let ports = self.headers.ports(self.frame)?;
        let guest = SocketAddr::from((self.source, be16(ports, 0)?));
        let peer = SocketAddr::from((self.destination, be16(ports, 2)?));
        (guest.port() != 0 && peer.port() != 0 && Network::is_guest(self.source)).then_some((guest, peer))
    }
}

impl Stack {
    pub(super) fn receive_frame(&mut self, Frame { bytes: frame, .. }: Frame<'_>, now: Instant) -> Option<()> {
        let mac = MacAddress::source(frame)?;
        let destination = MacAddress::destination(frame)?;
        if destination != Network::ROUTER && !destination.is_group() {
            return None;
        }
        if be16(frame, 12)? == ether_type::ARP {
            let (address, mac) = router::receive_arp(frame.get(ETHERNET_HEADER..)?, &mut self.outbox)?;
            self.neighbors.learn(address, mac);
            return Some(());
        }
        let headers = Headers::parse(frame)?;
        let (source, destination) = addresses(frame, &headers)?;
        self.neighbors.learn(source, mac);
        if headers.fragment {
            return None;
        }
        let protocol = headers.protocol;
        let received = Received { frame, headers, source, destination, mac };
        match protocol {
            protocol::TCP => self.receive_tcp(&received, now),
            protocol::UDP => self.receive_udp(&received, now),
            protocol::ICMP | protocol::ICMP6 => self.receive_icmp(&received, now),
            _ => None,
        }
    }

    fn receive_tcp(&mut self, received: &Received<'_>, now: Instant) -> Option<()> {
        let (guest, peer) = received.sockets()?;
        let key = tcp::Key { guest, peer };
        let packet = received.packet()?;
        let transport = received.headers.transport - received.headers.network;
        let first = tcp::is_first(packet, transport);
        let raised = tcp::with_raised_segment_size(packet, transport);
        let packet = raised.as_deref().unwrap_or(packet);
        let number = match self.connections.numbers.get(&key) {
            Some(number) => Some(*number),
            None if first => self.connect(key, received.mac, now),
            None => None,
        };
        match number {
            Some(number) => self.drive(number, Some(packet), now),
            None => {
                // An interface without sockets answers as a host does where nobody listens.
                let (seed, ticks) = (self.seed, self.ticks(now));
                let mut link = Link { incoming: Some(packet), outbox: &mut self.outbox, mac: received.mac };
                let mut sockets = SocketSet::new(Vec::new());
                let _ = link::interface(&mut link, seed, ticks).poll_ingress_single(ticks, &mut link, &mut sockets);
            }
        }
        Some(())
    }

    /// Begins a flow for a connection of the guest's. None if it is to be refused.
    fn connect(&mut self, key: tcp::Key, mac: MacAddress, now: Instant) -> Option<u64> {
        let outside = self.network.outside(key.peer)?;
        self.make_room(now)?;
        let (seed, ticks) = (self.next_seed(), self.ticks(now));
        let mut link = Link { incoming: None, outbox: &mut self.outbox, mac };
        let flow = tcp::Flow::connect(key, &mut link, outside, seed, ticks).ok()?;
        self.insert(key, flow)
    }

    /// Watches the socket of a new flow.
    pub(super) fn insert(&mut self, key: tcp::Key, flow: tcp::Flow) -> Option<u64> {
        let number = self.connections.insert(key, flow);
        let socket = self.connections.flows.get(&number)?.socket();
        if self.poll.add(socket, CONNECTION | number).is_err() {
            self.connections.remove(number, &key);
            return None;
        }
        Some(number)
    }

    fn receive_udp(&mut self, received: &Received<'_>, now: Instant) -> Option<()> {
        const HEADER: usize = 8;
        let transport = received.transport()?;
        let payload = transport.get(HEADER..usize::from(be16(transport, 4)?))?;
        if received.destination.is_ipv4() && be16(transport, 2)? == dhcp::SERVER_PORT {
            return self.dhcp.receive(payload, received.mac, self.network.resolver.is_some(), &mut self.outbox);
        }
        let (guest, peer) = received.sockets()?;
        self.send_datagram(datagram::Key { kind: Kind::Udp, guest, peer }, received, payload, now)
    }

    fn receive_icmp(&mut self, received: &Received<'_>, now: Instant) -> Option<()> {
        let &Received { source, destination, mac, .. } = received;
        let message = received.transport()?;
        let echo = if source.is_ipv4() { kind::ECHO } else { kind::ECHO6 };
        if *message.first()? != echo {
            let IpAddr::V6(source) = source else { return None };
            let name_server = self.network.resolver.is_some();
            return router::receive_discovery(message, source, mac, name_server, &mut self.outbox);
        }
        if !Network::is_guest(source) {
            return None;
        }
        if Network::is_own(destination) {
            router::answer_echo(message, (source, destination), mac, &mut self.outbox);
            return Some(());
        }
        let guest = (source, be16(message, 4)?).into();
        let key = datagram::Key { kind: Kind::Ping, guest, peer: (destination, 0).into() };
        self.send_datagram(key, received, message, now)
    }

    /// Sends what a packet carries by its flow, or by a new one.
    fn send_datagram(
        &mut self,
        key: datagram::Key,
        received: &Received<'_>,
        payload: &[u8],
        now: Instant,
    ) -> Option<()> {
        let packet = received.packet()?;
        let number = match self.datagrams.numbers.get(&key) {
            Some(number) => *number,
            None => {
                let outside = self.network.outside(key.peer)?;
                self.make_room_for_datagrams();
                let Some(flow) = datagram::Flow::connect(key, received.mac, outside, now) else {
                    add_unreachable(&mut self.outbox, received.mac, (key.peer.ip(), key.guest.ip()), packet);
                    return None;
                };
                self.insert_datagrams(key, flow)?
            }
        };
        let flow = self.datagrams.flows.get_mut(&number)?;
        let sent = flow.send(payload, packet, now);
        let deadline = flow.deadline();
        self.wake_by(deadline);
        sent.then_some(())
    }

    /// Watches the socket of a new flow, if it has one of its own.
    fn insert_datagrams(&mut self, key: datagram::Key, flow: datagram::Flow) -> Option<u64> {
        let number = self.datagrams.insert(key, flow);
        let socket = self.datagrams.flows.get(&number)?.socket();
        if socket.is_some_and(|socket| self.poll.add(socket, DATAGRAMS | number).is_err()) {
            self.datagrams.remove(number, &key);
            return None;
        }
        Some(number)
    }
}
