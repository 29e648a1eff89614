//! From the host to the guest: forwarded ports.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use super::address::Network;
use super::datagram::{self, Kind};
use super::forward::{Forward, Protocol};
use super::link::Link;
use super::share::Guest;
use super::stack::{LISTENER, PORT, Stack};
use super::{UserError, tcp};

/// Maximum number of consecutive connections or datagrams of a port before the others get their turn.
const TURN: usize = 64;

/// The first of the router's ports for peers of forwarded datagrams (RFC 6335's dynamic ports).
pub(super) const FIRST_PORT: u16 = 49_152;

impl Stack {
    /// Binds a port of the host.
    pub(super) fn listen(&mut self, forward: Forward) -> Result<(), UserError> {
        let failed = |source: io::Error| {
            let advice = match source.kind() {
                io::ErrorKind::AddrInUse => "; another program has it: choose another port of the host",
                io::ErrorKind::PermissionDenied => "; ports below 1024 are root's: choose a higher one",
                io::ErrorKind::AddrNotAvailable => "; the host does not have that address",
                _ => "",
            };
            UserError::Listen { forward, address: forward.host, source, advice }
        };
        match forward.protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind(forward.host).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                self.poll.add(&listener, LISTENER | self.listeners.len() as u64)?;
                self.listeners.push((listener, forward.guest_port));
                self.listeners_readable.push(false);
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind(forward.host).map_err(failed)?;
                socket.set_nonblocking(true).map_err(failed)?;
                self.poll.add(&socket, PORT | self.ports.len() as u64)?;
                self.ports.push((Arc::new(socket), forward.guest_port));
                self.ports_readable.push(false);
            }
        }
        Ok(())
    }

    /// Returns the guest to which forwarded ports lead, and its present address.
    fn forward_target(&self) -> Option<(IpAddr, Guest)> {
        let (address, mac) = self.guests.target(self.target)?;
        Some((address.into(), Guest { port: self.target, mac }))
    }

    /// Accepts the connections that wait at a port, for one turn.
    pub(super) fn accept(&mut self, index: usize, now: Instant) {
        for _ in 0..TURN {
            let Some((listener, guest_port)) = self.listeners.get(index) else { return };
            let guest_port = *guest_port;
            let host = match listener.accept() {
                Ok((host, _)) => host,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                    continue;
                }
                Err(error) => {
                    // Without a descriptor, they wait until the next one arrives.
                    self.listeners_readable[index] = false;
                    self.said.no_socket(&error);
                    return;
                }
            };
            // Without a guest or room for another connection, `host` is closed.
            let Some((address, guest)) = self.forward_target() else { continue };
            if host.set_nonblocking(true).is_err() {
                continue;
            }
            let Some(setup) = self.make_room(guest, now) else { continue };
            let key = |peer| tcp::Key { port: guest.port, guest: SocketAddr::from((address, guest_port)), peer };
            let Some(peer) = self.free_port(|peer| self.connections.numbers.contains_key(&key(peer))) else { continue };
            self.next_port = peer.port().wrapping_add(1).max(FIRST_PORT);
            let ticks = self.ticks(now);
            let mut link = Link { incoming: None, outbox: &mut self.outbox, mac: guest.mac };
            let flow = tcp::Flow::accept(key(peer), &mut link, host, setup, ticks);
            if let Some(number) = flow.ok().and_then(|flow| self.insert(key(peer), flow)) {
                self.drive(number, None, now);
            }
        }
        self.listeners_readable[index] = true;
        self.held_back = true;
    }

    /// Returns an address of the router with an unused port.
    fn free_port(&self, in_use: impl Fn(SocketAddr) -> bool) -> Option<SocketAddr> {
        let ports = (self.next_port..=u16::MAX).chain(FIRST_PORT..self.next_port);
        ports.map(|port| SocketAddr::from((Network::GATEWAY, port))).find(|peer| !in_use(*peer))
    }

    /// Reads the datagrams that wait at a port, for one turn.
    pub(super) fn read_port(&mut self, index: usize, now: Instant) {
        self.ports_readable[index] = true;
        for _ in 0..TURN {
            if self.outbox.is_full() {
                break;
            }
            let (socket, guest_port) = &self.ports[index];
            let (socket, guest_port) = (socket.clone(), *guest_port);
            let (length, from) = match socket.recv_from(&mut self.scratch) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ports_readable[index] = false;
                    return;
                }
                // The error belongs to an earlier reply, not to the next datagram.
                Err(_) => continue,
            };
            let Some((address, guest)) = self.forward_target() else {
                self.outbox.count_dropped();
                continue;
            };
            let Some(number) = self.forwarded_flow(socket, from, (address, guest_port).into(), guest, now) else {
                self.outbox.count_dropped();
                continue;
            };
            if let Some(flow) = self.datagrams.flows.get_mut(&number) {
                flow.deliver(&self.scratch[..length], &mut self.outbox, now);
                let deadline = flow.deadline();
                self.wake_by(deadline);
            }
        }
        self.held_back = true;
    }

    /// Returns the flow of an outside peer through a forwarded port to an address of the guest; creates it if
    /// necessary.
    fn forwarded_flow(
        &mut self,
        socket: Arc<UdpSocket>,
        from: SocketAddr,
        address: SocketAddr,
        guest: Guest,
        now: Instant,
    ) -> Option<u64> {
        let is_it = |flow: &datagram::Flow| flow.is_from(&socket, from) && flow.key().guest == address;
        if let Some((number, _)) = self.datagrams.flows.iter().find(|(_, flow)| is_it(flow)) {
            return Some(*number);
        }
        self.make_place_for_datagrams(guest, now)?;
        let key = |peer| datagram::Key { kind: Kind::Udp, port: guest.port, guest: address, peer };
        let peer = self.free_port(|peer| self.datagrams.numbers.contains_key(&key(peer)))?;
        self.next_port = peer.port().wrapping_add(1).max(FIRST_PORT);
        let flow = datagram::Flow::forwarded(key(peer), guest, socket, from, now);
        Some(self.datagrams.insert(key(peer), flow))
    }
}
