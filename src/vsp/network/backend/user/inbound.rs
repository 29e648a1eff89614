//! From the host to the guest: forwarded ports.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use super::UserError;
use super::address::Network;
use super::datagram::{self, Kind};
use super::forward::{Forward, Protocol};
use super::link::Link;
use super::stack::{LISTENER, PORT, Stack};
use super::tcp;
use crate::vsp::network::mac::MacAddress;

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

    /// The guest that forwarded ports lead to: the first that asked for an address, or the one that has the first address.
    fn forward_target(&self) -> Option<(IpAddr, MacAddress)> {
        let address = IpAddr::from(Network::FIRST_GUEST);
        let mac = self.neighbors.find(address).or_else(|| self.dhcp.first())?;
        Some((address, mac))
    }

    /// Takes the connections that wait at a port.
    pub(super) fn accept(&mut self, index: usize, now: Instant) {
        loop {
            let Some((listener, guest_port)) = self.listeners.get(index) else { return };
            let guest_port = *guest_port;
            let Ok((host, _)) = listener.accept() else { return };
            // Without a guest, or without room for another connection, nobody listens there: `host` is closed.
            let Some((guest, mac)) = self.forward_target() else { continue };
            if host.set_nonblocking(true).is_err() || self.make_room(now).is_none() {
                continue;
            }
            let guest = SocketAddr::from((guest, guest_port));
            let Some(peer) = self.free_port(|peer| self.connections.numbers.contains_key(&tcp::Key { guest, peer }))
            else {
                continue;
            };
            self.next_port = peer.port().wrapping_add(1).max(FIRST_PORT);
            let key = tcp::Key { guest, peer };
            let (seed, ticks) = (self.next_seed(), self.ticks(now));
            let mut link = Link { incoming: None, outbox: &mut self.outbox, mac };
            let flow = tcp::Flow::accept(key, &mut link, host, seed, ticks);
            if let Some(number) = flow.ok().and_then(|flow| self.insert(key, flow)) {
                self.drive(number, None, now);
            }
        }
    }

    /// An address of the router's with a port that nobody uses.
    fn free_port(&self, in_use: impl Fn(SocketAddr) -> bool) -> Option<SocketAddr> {
        let ports = (self.next_port..=u16::MAX).chain(FIRST_PORT..self.next_port);
        ports.map(|port| SocketAddr::from((Network::GATEWAY, port))).find(|peer| !in_use(*peer))
    }

    /// Takes the datagrams that wait at a port.
    pub(super) fn read_port(&mut self, index: usize, now: Instant) {
        self.ports_readable[index] = true;
        while !self.outbox.is_full() {
            let (socket, guest_port) = &self.ports[index];
            let (socket, guest_port) = (socket.clone(), *guest_port);
            let (length, from) = match socket.recv_from(&mut self.scratch) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ports_readable[index] = false;
                    return;
                }
                // An earlier answer found nobody; the next datagram has nothing to do with that.
                Err(_) => continue,
            };
            let Some((guest, mac)) = self.forward_target() else {
                self.outbox.count_dropped();
                continue;
            };
            let guest = SocketAddr::from((guest, guest_port));
            let known = self
                .datagrams
                .flows
                .iter()
                .find(|(_, flow)| flow.forwarded_peer() == Some(from) && flow.key().guest == guest);
            let number = match known.map(|(number, _)| *number) {
                Some(number) => number,
                None => {
                    self.make_room_for_datagrams();
                    let key = |peer| datagram::Key { kind: Kind::Udp, guest, peer };
                    let peer = self.free_port(|peer| self.datagrams.numbers.contains_key(&key(peer)));
                    let Some(peer) = peer else { continue };
                    self.next_port = peer.port().wrapping_add(1).max(FIRST_PORT);
                    let flow = datagram::Flow::forwarded(key(peer), mac, socket, from, now);
                    self.datagrams.insert(key(peer), flow)
                }
            };
            if let Some(flow) = self.datagrams.flows.get_mut(&number) {
                flow.deliver(&self.scratch[..length], &mut self.outbox, now);
                let deadline = flow.deadline();
                self.wake_by(deadline);
            }
        }
        self.held_back = true;
    }
}
