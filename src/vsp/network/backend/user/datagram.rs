//! Flows of datagrams: UDP, and pings of hosts beyond the router.
//!
//! Each flow has a host socket of its own that is connected to the peer, so that the kernel lets in nothing from anybody else and tells
//! when nobody listens there. What arrives at a forwarded port goes through the port's own socket, and each of its peers has a
//! port of the router's to be answered at. A flow that is silent ends.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::outbox::Outbox;
use super::packet::{MAX_DATAGRAM, add_icmp, add_udp, add_unreachable, hop_limit};
use super::router::kind;
use crate::vsp::network::mac::MacAddress;

/// How long a flow may be silent (RFC 4787 asks for two minutes at least).
const SILENCE: Duration = Duration::from_secs(120);

/// How long a flow to a name server may be: a question and its answer.
const SILENCE_OF_DNS: Duration = Duration::from_secs(20);

/// How many datagrams a flow may have in a row before the others have their turn.
const TURN: usize = 64;

/// What kind of datagrams a flow has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UDP.
    Udp,
    /// Pings: the guest's port is the identifier, the peer has none.
    Ping,
}

/// The ends of a flow, as the guest sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// What kind of datagrams.
    pub kind: Kind,
    /// The guest's end.
    pub guest: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
}

/// How a flow reaches its peer.
#[derive(Debug)]
enum Way {
    /// Through a socket of its own.
    Connected(OwnedFd),
    /// Through the socket of a forwarded port.
    Forwarded(Arc<UdpSocket>, SocketAddr),
}

/// One flow.
#[derive(Debug)]
pub struct Flow {
    key: Key,
    mac: MacAddress,
    way: Way,
    readable: bool,
    last_used: Instant,
    /// The start of the guest's last packet, for the case that nobody listens.
    last_packet: Vec<u8>,
}

impl Flow {
    /// A flow from the guest to `outside`. None if the host has no socket or no way there.
    pub fn connect(key: Key, mac: MacAddress, outside: SocketAddr, now: Instant) -> Option<Self> {
        let family = if outside.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let protocol = match (key.kind, outside.ip()) {
            (Kind::Udp, _) => None,
            (Kind::Ping, IpAddr::V4(_)) => Some(rustix::net::ipproto::ICMP),
            (Kind::Ping, IpAddr::V6(_)) => Some(rustix::net::ipproto::ICMPV6),
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, protocol).ok()?;
        rustix::net::connect(&socket, &outside).ok()?;
        let way = Way::Connected(socket);
        Some(Self { key, mac, way, readable: false, last_used: now, last_packet: Vec::new() })
    }

    /// A flow from `peer` outside through a forwarded port.
    pub fn forwarded(key: Key, mac: MacAddress, socket: Arc<UdpSocket>, peer: SocketAddr, now: Instant) -> Self {
        let way = Way::Forwarded(socket, peer);
        Self { key, mac, way, readable: false, last_used: now, last_packet: Vec::new() }
    }

    /// The ends, as the guest sees them.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The socket to watch, if the flow has its own.
    pub fn socket(&self) -> Option<impl AsFd + '_> {
        match &self.way {
            Way::Connected(socket) => Some(socket.as_fd()),
            Way::Forwarded(..) => None,
        }
    }

    /// The peer outside, if the flow came through a forwarded port.
    pub fn forwarded_peer(&self) -> Option<SocketAddr> {
        match self.way {
            Way::Connected(_) => None,
            Way::Forwarded(_, peer) => Some(peer),
        }
    }

    /// When the flow has been silent for too long.
    pub fn deadline(&self) -> Instant {
        let is_dns = self.key.peer.port() == 53;
        self.last_used + if is_dns { SILENCE_OF_DNS } else { SILENCE }
    }

    /// When the flow was last used.
    pub fn last_used(&self) -> Instant {
        self.last_used
    }

    /// Sends a datagram of the guest's. `packet` is the IP packet that carries it. False if it was dropped.
    pub fn send(&mut self, payload: &[u8], packet: &[u8], now: Instant) -> bool {
        const QUOTE: usize = 64;
        self.last_used = now;
        self.last_packet.clear();
        self.last_packet.extend_from_slice(&packet[..packet.len().min(QUOTE)]);
        match &self.way {
            Way::Connected(socket) => rustix::net::send(socket, payload, SendFlags::empty()).is_ok(),
            Way::Forwarded(socket, peer) => socket.send_to(payload, peer).is_ok(),
        }
    }

    /// The socket has something to say.
    pub fn set_readable(&mut self) {
        self.readable = true;
    }

    /// Whether there may be more to read.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Gives the guest a datagram from the peer.
    pub fn deliver(&mut self, payload: &[u8], outbox: &mut Outbox, now: Instant) {
        self.last_used = now;
        match self.key.kind {
            Kind::Udp => add_udp(outbox, self.mac, self.key.peer, self.key.guest, payload),
            Kind::Ping => self.deliver_echo(payload, outbox),
        }
    }

    fn deliver_echo(&self, payload: &[u8], outbox: &mut Outbox) {
        let ends = (self.key.peer.ip(), self.key.guest.ip());
        let reply = if ends.0.is_ipv4() { kind::ECHO_REPLY } else { kind::ECHO_REPLY6 };
        if payload.len() >= 8 && payload[0] == reply {
            let mut message = payload.to_vec();
            // The host's kernel has put an identifier of its own in the place of the guest's.
            message[4..6].copy_from_slice(&self.key.guest.port().to_be_bytes());
            add_icmp(outbox, self.mac, ends, hop_limit(), &message);
        }
    }

    /// Reads what waits on the flow's own socket, for one turn. False when the flow has ended: nobody listens at the peer's.
    pub fn read(&mut self, scratch: &mut [u8], outbox: &mut Outbox, now: Instant) -> bool {
        for _ in 0..TURN {
            let Way::Connected(socket) = &self.way else { break };
            if outbox.is_full() {
                return true;
            }
            match rustix::net::recv(socket, &mut *scratch, RecvFlags::empty()) {
                Ok((length, _)) => {
                    let length = length.min(scratch.len());
                    self.deliver(&scratch[..length], outbox, now);
                }
                Err(error) => {
                    let error = std::io::Error::from(error);
                    match error.kind() {
                        ErrorKind::WouldBlock => self.readable = false,
                        ErrorKind::Interrupted => continue,
                        _ if self.key.kind == Kind::Udp => {
                            let ends = (self.key.peer.ip(), self.key.guest.ip());
                            add_unreachable(outbox, self.mac, ends, &self.last_packet);
                            return false;
                        }
                        _ => return false,
                    }
                    return true;
                }
            }
        }
        true
    }
}

/// Room for the longest datagram.
pub fn scratch() -> Box<[u8]> {
    vec![0; MAX_DATAGRAM].into_boxed_slice()
}
