//! From the guest to the host, and beyond.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use smoltcp::iface::SocketSet;

use super::super::ports::SwitchPort;
use super::address::Network;
use super::datagram::{self, Kind};
use super::dhcp::{self, Answer};
use super::fragments::Reassembly;
use super::link::{self, Link};
use super::packet::{Problem, add_problem, addresses};
use super::router::{self, kind};
use super::share::Guest;
use super::stack::{CONNECTION, DATAGRAMS, Stack};
use super::tcp;
use crate::net::frame::{ETHERNET_HEADER, Frame};
use crate::net::mac::MacAddress;
use crate::net::offload::headers::{Headers, IpVersion, be16, ether_type, protocol};

/// An IP packet of a guest, in its frame.
struct Received<'a> {
    frame: &'a [u8],
    headers: Headers,
    source: IpAddr,
    destination: IpAddr,
    guest: Guest,
}

impl<'a> Received<'a> {
    /// Returns the IP packet.
    fn packet(&self) -> Option<&'a [u8]> {
        self.frame.get(self.headers.network..self.headers.end)
    }

    /// Returns the payload of the IP packet.
    fn transport(&self) -> Option<&'a [u8]> {
        self.frame.get(self.headers.transport..self.headers.end)
    }

    /// Returns source and destination, or `None` if the guest cannot have this source.
    fn sockets(&self) -> Option<(SocketAddr, SocketAddr)> {
        let ports = self.headers.ports(self.frame)?;
        let guest = SocketAddr::from((self.source, be16(ports, 0)?));
        let peer = SocketAddr::from((self.destination, be16(ports, 2)?));
        (guest.port() != 0 && peer.port() != 0 && Network::is_guest(self.source)).then_some((guest, peer))
    }
}

impl Stack {
    pub(super) fn receive_frame(
        &mut self,
        port: SwitchPort,
        Frame { bytes: frame, .. }: Frame<'_>,
        now: Instant,
    ) -> Option<()> {
        let mac = MacAddress::source(frame)?;
        let destination = MacAddress::destination(frame)?;
        if destination != Network::ROUTER && !destination.is_group() {
            return None;
        }
        let guest = Guest { port, mac };
        if be16(frame, 12)? == ether_type::ARP {
            let (address, mac) = router::receive_arp(frame.get(ETHERNET_HEADER..)?, &mut self.outbox)?;
            self.learn(address, Guest { port, mac }, now);
            return Some(());
        }
        let headers = Headers::parse(frame)?;
        self.learn(addresses(frame, &headers)?.0, guest, now);
        if !headers.fragment {
            return self.receive_packet(guest, frame, &headers, now);
        }
        match self.fragments.add(guest, frame, &headers, now) {
            Reassembly::Complete(whole) => {
                let headers = Headers::parse(&whole).filter(|headers| !headers.fragment)?;
                self.receive_packet(guest, &whole, &headers, now)
            }
            Reassembly::Incomplete => {
                self.fragments.deadline().into_iter().for_each(|time| self.wake_by(time));
                Some(())
            }
            Reassembly::Refused => None,
            Reassembly::Wrong(place) => {
                let source = addresses(frame, &headers)?.0;
                let ends = (Network::GATEWAY6.into(), source);
                let packet = frame.get(headers.network..headers.end)?;
                add_problem(&mut self.outbox, guest, ends, Problem::Parameter(place), packet);
                None
            }
        }
    }

    /// Learns a guest's address. If necessary, asks the owner of the forwarded ports whether it is still there.
    pub(super) fn learn(&mut self, address: IpAddr, guest: Guest, now: Instant) {
        if self.guests.has_moved(address, guest) {
            self.move_flows(address, guest);
        }
        let has_forwards = !(self.listeners.is_empty() && self.ports.is_empty());
        if let Some(in_doubt) = self.guests.learn(address, guest, now).filter(|_| has_forwards) {
            router::ask_arp(in_doubt, &mut self.outbox);
        }
    }

    /// Moves the flows of an address to its present Ethernet address.
    fn move_flows(&mut self, address: IpAddr, guest: Guest) {
        let is_its = |owner: SocketAddr, port| owner.ip() == address && port == guest.port;
        for flow in self.connections.flows.values_mut().filter(|flow| is_its(flow.key().guest, flow.key().port)) {
            flow.set_mac(guest.mac);
        }
        for flow in self.datagrams.flows.values_mut().filter(|flow| is_its(flow.key().guest, flow.key().port)) {
            flow.set_mac(guest.mac);
        }
    }

    /// Processes a complete IP packet.
    fn receive_packet(&mut self, guest: Guest, frame: &[u8], headers: &Headers, now: Instant) -> Option<()> {
        let (source, destination) = addresses(frame, headers)?;
        let received = Received { frame, headers: *headers, source, destination, guest };
        if self.has_no_hops_left(&received) {
            return None;
        }
        match headers.protocol {
            protocol::TCP => self.receive_tcp(&received, now),
            protocol::UDP => self.receive_udp(&received, now),
            protocol::ICMP | protocol::ICMP6 => self.receive_icmp(&received, now),
            _ => None,
        }
    }

    /// Returns `true` and notifies the sender if a packet's hop limit has expired, as for traceroute.
    fn has_no_hops_left(&mut self, received: &Received<'_>) -> bool {
        let &Received { frame, headers, source, destination, guest } = received;
        let (place, own) = match headers.version {
            IpVersion::V4 => (8, Network::GATEWAY.into()),
            IpVersion::V6 => (7, Network::GATEWAY6.into()),
        };
        let hops = frame.get(headers.network + place).copied().unwrap_or(0);
        let is_for_others = Network::outside((destination, 1).into()).is_some() && !Network::is_own(destination);
        if hops > 1 || !is_for_others || !Network::is_guest(source) {
            return false;
        }
        if let Some(packet) = received.packet() {
            add_problem(&mut self.outbox, guest, (own, source), Problem::HopLimit, packet);
        }
        true
    }

    fn receive_tcp(&mut self, received: &Received<'_>, now: Instant) -> Option<()> {
        let (guest, peer) = received.sockets()?;
        let Guest { port, mac } = received.guest;
        let key = tcp::Key { port, guest, peer };
        let packet = received.packet()?;
        let transport = received.headers.transport - received.headers.network;
        let first = tcp::is_first(packet, transport);
        let raised = tcp::with_raised_segment_size(packet, transport);
        let packet = raised.as_deref().unwrap_or(packet);
        let number = match self.connections.numbers.get(&key) {
            Some(number) => Some(*number),
            None if first => self.connect(key, mac, now),
            None => None,
        };
        match number {
            Some(number) => {
                self.connections.flows.get_mut(&number)?.set_mac(mac);
                self.drive(number, Some(packet), now);
            }
            None => {
                // An interface without sockets replies like a host without a listener.
                let (seed, ticks) = (self.seed, self.ticks(now));
                let mut link = Link { incoming: Some(packet), outbox: &mut self.outbox, mac };
                let mut sockets = SocketSet::new(Vec::new());
                let _ = link::interface(&mut link, seed, ticks).poll_ingress_single(ticks, &mut link, &mut sockets);
            }
        }
        Some(())
    }

    /// Creates a flow for a guest's connection. Returns `None` if it must be refused.
    fn connect(&mut self, key: tcp::Key, mac: MacAddress, now: Instant) -> Option<u64> {
        let outside = match Network::outside(key.peer) {
            Some(outside) => vec![outside],
            None if self.network.is_name_server(key.peer) => self.name_servers(now),
            None => return None,
        };
        let setup = self.make_room(Guest { port: key.port, mac }, now)?;
        let ticks = self.ticks(now);
        let mut link = Link { incoming: None, outbox: &mut self.outbox, mac };
        let flow = tcp::Flow::connect(key, &mut link, outside, setup, ticks);
        let flow = flow.inspect_err(|error| self.said.no_socket(error)).ok()?;
        self.insert(key, flow)
    }

    /// Watches the socket of a new flow.
    pub(super) fn insert(&mut self, key: tcp::Key, mut flow: tcp::Flow) -> Option<u64> {
        flow.take_new();
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
        let guest = received.guest;
        if received.destination.is_ipv4() && be16(transport, 2)? == dhcp::SERVER_PORT {
            let name_server = self.network.resolver.is_some();
            let answer = dhcp::receive(&mut self.leases, payload, guest, name_server, &mut self.outbox, now)?;
            match answer {
                Answer::Given(address) => self.learn(address.into(), guest, now),
                Answer::NoneLeft => self.said.no_address(guest),
                Answer::Other => {}
            }
            return (answer != Answer::NoneLeft).then_some(());
        }
        let (source, peer) = received.sockets()?;
        if self.network.is_name_server(peer) {
            return self.look_up(guest, source, peer, payload, now);
        }
        let key = datagram::Key { kind: Kind::Udp, port: guest.port, guest: source, peer };
        self.send_datagram(key, received, payload, now)
    }

    fn receive_icmp(&mut self, received: &Received<'_>, now: Instant) -> Option<()> {
        let &Received { source, destination, guest, .. } = received;
        let message = received.transport()?;
        let echo = if source.is_ipv4() { kind::ECHO } else { kind::ECHO6 };
        if *message.first()? != echo {
            let IpAddr::V6(source) = source else { return None };
            let name_server = self.network.resolver.is_some();
            return router::receive_discovery(message, source, guest, name_server, &mut self.outbox);
        }
        if !Network::is_guest(source) {
            return None;
        }
        if Network::is_own(destination) {
            router::answer_echo(message, (source, destination), guest, &mut self.outbox);
            return Some(());
        }
        let (port, guest) = (guest.port, (source, be16(message, 4)?).into());
        let key = datagram::Key { kind: Kind::Ping, port, guest, peer: (destination, 0).into() };
        self.send_datagram(key, received, message, now)
    }

    /// Sends the payload of a packet through its flow, or a new one.
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
                let outside = Network::outside(key.peer)?;
                let ticket = self.make_room_for_datagrams(received.guest, now)?;
                match datagram::Flow::connect(key, received.guest, outside, ticket, now) {
                    Ok(flow) => self.insert_datagrams(key, flow)?,
                    Err(error) => {
                        self.said.no_socket(&error);
                        let ends = (key.peer.ip(), key.guest.ip());
                        add_problem(&mut self.outbox, received.guest, ends, Problem::of(&error), packet);
                        return None;
                    }
                }
            }
        };
        let flow = self.datagrams.flows.get_mut(&number)?;
        let sent = flow.send(received.guest, payload, packet, &mut self.outbox, now);
        let deadline = flow.deadline();
        self.wake_by(deadline);
        sent.then_some(())
    }

    /// Watches the socket of a new flow, if it has its own.
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
