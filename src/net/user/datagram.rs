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

use super::super::ports::SwitchPort;
use super::budget::Ticket;
use super::outbox::Outbox;
use super::packet::{Problem, add_icmp, add_problem, add_udp, hop_limit};
use super::router::kind;
use super::share::Guest;

/// How long a flow may be silent (RFC 4787 asks for two minutes at least).
const SILENCE: Duration = Duration::from_secs(120);

/// How long a flow to a name server that is not the network's own may be: a question and its answer.
const SILENCE_OF_DNS: Duration = Duration::from_secs(20);

/// How many datagrams a flow may have in a row before the others have their turn.
const TURN: usize = 64;

/// No datagram is longer.
const LONGEST: usize = u16::MAX as usize;

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
    /// Where the guest is.
    pub port: SwitchPort,
    /// The guest's end.
    pub guest: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
}

/// How a flow reaches its peer.
#[derive(Debug)]
enum Way {
    /// Through a socket of its own, which has its place in the budget.
    Connected(OwnedFd, #[expect(dead_code, reason = "held")] Ticket),
    /// Through the socket of a forwarded port.
    Forwarded(Arc<UdpSocket>, SocketAddr),
}

/// One flow.
#[derive(Debug)]
pub struct Flow {
    key: Key,
    guest: Guest,
    way: Way,
    readable: bool,
    last_used: Instant,
    /// The start of the guest's last packet, for the case that nobody listens.
    last_packet: Vec<u8>,
}

impl Flow {
    /// Returns a flow from the guest to `outside`.
    ///
    /// # Errors
    /// The host has no socket or no way there.
    pub(super) fn connect(
        key: Key,
        guest: Guest,
        outside: SocketAddr,
        ticket: Ticket,
        now: Instant,
    ) -> std::io::Result<Self> {
        let protocol = match (key.kind, outside.ip()) {
            (Kind::Udp, _) => None,
            (Kind::Ping, IpAddr::V4(_)) => Some(rustix::net::ipproto::ICMP),
            (Kind::Ping, IpAddr::V6(_)) => Some(rustix::net::ipproto::ICMPV6),
        };
        let way = Way::Connected(connect(outside, protocol)?, ticket);
        Ok(Self { key, guest, way, readable: false, last_used: now, last_packet: Vec::new() })
    }

    /// Returns a flow from `peer` outside through a forwarded port.
    pub fn forwarded(key: Key, guest: Guest, socket: Arc<UdpSocket>, peer: SocketAddr, now: Instant) -> Self {
        let way = Way::Forwarded(socket, peer);
        Self { key, guest, way, readable: false, last_used: now, last_packet: Vec::new() }
    }

    /// Returns the ends, as the guest sees them.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Whose flow it is.
    pub fn guest(&self) -> Guest {
        self.guest
    }

    /// Returns the socket to watch, if the flow has its own.
    pub fn socket(&self) -> Option<impl AsFd + '_> {
        match &self.way {
            Way::Connected(socket, _) => Some(socket.as_fd()),
            Way::Forwarded(..) => None,
        }
    }

    /// Returns `true` if the flow is that of `peer` outside through the forwarded port with that socket.
    pub fn is_from(&self, socket: &Arc<UdpSocket>, peer: SocketAddr) -> bool {
        matches!(&self.way, Way::Forwarded(own, from) if Arc::ptr_eq(own, socket) && *from == peer)
    }

    /// Returns when the flow has been silent for too long.
    pub fn deadline(&self) -> Instant {
        let is_dns = self.key.peer.port() == 53;
        self.last_used + if is_dns { SILENCE_OF_DNS } else { SILENCE }
    }

    /// Returns when the flow was last used.
    pub fn last_used(&self) -> Instant {
        self.last_used
    }

    /// Sends a datagram of the guest's, whose Ethernet address may have changed. `packet` is the IP packet that carries it. Returns `false` if it
    /// was dropped.
    pub fn send(&mut self, guest: Guest, payload: &[u8], packet: &[u8], outbox: &mut Outbox, now: Instant) -> bool {
        const QUOTE: usize = 64;
        (self.guest, self.last_used) = (guest, now);
        self.last_packet.clear();
        self.last_packet.extend_from_slice(&packet[..packet.len().min(QUOTE)]);
        let send = || match &self.way {
            Way::Connected(socket, _) => rustix::net::send(socket, payload, SendFlags::empty()).map_err(Into::into),
            Way::Forwarded(socket, peer) => socket.send_to(payload, peer),
        };
        // The first error may be that of an earlier datagram, and then this one was not sent.
        let Err(error) = send() else { return true };
        if error.kind() == ErrorKind::WouldBlock {
            return false;
        }
        add_problem(outbox, guest, self.ends(), Problem::of(&error), packet);
        send().is_ok()
    }

    /// From whom the guest hears of the flow, and where.
    fn ends(&self) -> (IpAddr, IpAddr) {
        (self.key.peer.ip(), self.key.guest.ip())
    }

    /// The socket has something to say.
    pub fn set_readable(&mut self) {
        self.readable = true;
    }

    /// Returns `true` if there may be more to read.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Gives the guest a datagram from the peer.
    pub fn deliver(&mut self, payload: &[u8], outbox: &mut Outbox, now: Instant) {
        self.last_used = now;
        match self.key.kind {
            Kind::Udp => add_udp(outbox, self.guest, self.key.peer, self.key.guest, payload),
            Kind::Ping => self.deliver_echo(payload, outbox),
        }
    }

    fn deliver_echo(&self, payload: &[u8], outbox: &mut Outbox) {
        let ends = self.ends();
        let reply = if ends.0.is_ipv4() { kind::ECHO_REPLY } else { kind::ECHO_REPLY6 };
        if payload.len() >= 8 && payload[0] == reply {
            let mut message = payload.to_vec();
            // The host's kernel has put an identifier of its own in the place of the guest's.
            message[4..6].copy_from_slice(&self.key.guest.port().to_be_bytes());
            add_icmp(outbox, self.guest, ends, hop_limit(), message);
        }
    }

    /// Reads what waits on the flow's own socket, for one turn. Returns `false` when the flow has ended: nobody listens at the peer's.
    pub fn read(&mut self, scratch: &mut [u8], outbox: &mut Outbox, now: Instant) -> bool {
        for _ in 0..TURN {
            let Way::Connected(socket, _) = &self.way else { break };
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
                        _ => {
                            add_problem(outbox, self.guest, self.ends(), Problem::of(&error), &self.last_packet);
                            return false;
                        }
                    }
                    return true;
                }
            }
        }
        true
    }
}

/// Returns a socket for datagrams that is connected to `outside` and never blocks.
pub(super) fn connect(outside: SocketAddr, protocol: Option<rustix::net::Protocol>) -> std::io::Result<OwnedFd> {
    let family = if outside.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, protocol)?;
    rustix::net::connect(&socket, &outside)?;
    Ok(socket)
}

/// Room for the longest datagram, or ping.
pub fn scratch() -> Box<[u8]> {
    vec![0; LONGEST].into_boxed_slice()
}
