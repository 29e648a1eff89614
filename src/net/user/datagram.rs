//! Flows of datagrams: UDP, and pings to hosts beyond the router.
//!
//! A flow that the guest starts has its own host socket, which is connected to the peer: the kernel accepts nothing from
//! others, and reports an error if the peer does not listen. Packets to a forwarded port arrive at that port's socket, and
//! each peer gets a port of the router, to which the guest replies. A flow ends when it has been silent for [`SILENCE`].

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::super::ports::SwitchPort;
use super::outbox::Outbox;
use super::packet::{Problem, add_icmp, add_problem, add_udp, hop_limit};
use super::router::kind;
use super::share::Guest;
use crate::host::descriptors::Ticket;
use crate::net::mac::MacAddress;

/// Time without a packet after which a flow ends (RFC 4787 requires at least two minutes).
const SILENCE: Duration = Duration::from_secs(120);

/// The same for a flow to a name server other than the network's own. It is enough for a question and its answer.
const SILENCE_OF_DNS: Duration = Duration::from_secs(20);

/// Maximum number of consecutive datagrams of a flow before the others get their turn.
const TURN: usize = 64;

/// Maximum length of a datagram.
const LONGEST: usize = u16::MAX as usize;

/// The kind of a flow's datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UDP.
    Udp,
    /// Pings: the guest's port is the identifier, the peer has none.
    Ping,
}

/// The endpoints of a flow, as the guest sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The kind of datagrams.
    pub kind: Kind,
    /// The guest's port of the switch.
    pub port: SwitchPort,
    /// The guest's endpoint.
    pub guest: SocketAddr,
    /// The peer's endpoint.
    pub peer: SocketAddr,
}

/// How a flow reaches its peer.
#[derive(Debug)]
enum Way {
    /// Through its own socket, which is reserved in the budget.
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
    /// The start of the guest's last packet, for an ICMP error.
    last_packet: Vec<u8>,
}

impl Flow {
    /// Creates a flow from the guest to `outside`.
    ///
    /// # Errors
    /// Returns an error if the host has no socket or no route.
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

    /// Creates a flow from `peer`, outside of the network, through a forwarded port.
    pub fn forwarded(key: Key, guest: Guest, socket: Arc<UdpSocket>, peer: SocketAddr, now: Instant) -> Self {
        let way = Way::Forwarded(socket, peer);
        Self { key, guest, way, readable: false, last_used: now, last_packet: Vec::new() }
    }

    /// Returns the endpoints, as the guest sees them.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Sets the guest's Ethernet address, which has changed.
    pub(super) fn set_mac(&mut self, mac: MacAddress) {
        self.guest.mac = mac;
    }

    /// Returns the guest of the flow.
    pub fn guest(&self) -> Guest {
        self.guest
    }

    /// Returns the socket to watch, if the flow has one of its own.
    pub fn socket(&self) -> Option<impl AsFd + '_> {
        match &self.way {
            Way::Connected(socket, _) => Some(socket.as_fd()),
            Way::Forwarded(..) => None,
        }
    }

    /// Returns `true` if this is the flow of `peer` through the forwarded port with this socket.
    pub fn is_from(&self, socket: &Arc<UdpSocket>, peer: SocketAddr) -> bool {
        matches!(&self.way, Way::Forwarded(own, from) if Arc::ptr_eq(own, socket) && *from == peer)
    }

    /// Returns the time at which the flow ends if it stays silent.
    pub fn deadline(&self) -> Instant {
        let is_dns = self.key.peer.port() == 53;
        self.last_used + if is_dns { SILENCE_OF_DNS } else { SILENCE }
    }

    /// Returns the time at which the flow was last used.
    pub fn last_used(&self) -> Instant {
        self.last_used
    }

    /// Sends a datagram of the guest, whose Ethernet address may have changed. `packet` is its IP packet. Returns
    /// `false` if it was dropped.
    pub fn send(&mut self, guest: Guest, payload: &[u8], packet: &[u8], outbox: &mut Outbox, now: Instant) -> bool {
        /// Number of bytes of the packet that an ICMP error may quote later.
        const QUOTE: usize = 64;
        (self.guest, self.last_used) = (guest, now);
        self.last_packet.clear();
        self.last_packet.extend_from_slice(&packet[..packet.len().min(QUOTE)]);
        let send = || match &self.way {
            Way::Connected(socket, _) => rustix::net::send(socket, payload, SendFlags::empty()).map_err(Into::into),
            Way::Forwarded(socket, peer) => socket.send_to(payload, peer),
        };
        // The error may belong to an earlier datagram, and this one was not sent. So it is sent again.
        let Err(error) = send() else { return true };
        if error.kind() == ErrorKind::WouldBlock {
            return false;
        }
        add_problem(outbox, guest, self.ends(), Problem::of(&error), packet);
        send().is_ok()
    }

    /// Returns source and destination of packets to the guest.
    fn ends(&self) -> (IpAddr, IpAddr) {
        (self.key.peer.ip(), self.key.guest.ip())
    }

    /// Records that the socket is readable.
    pub fn set_readable(&mut self) {
        self.readable = true;
    }

    /// Returns `true` if the socket may be readable.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Delivers a datagram from the peer to the guest.
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
            // The host's kernel has replaced the guest's identifier with its own.
            message[4..6].copy_from_slice(&self.key.guest.port().to_be_bytes());
            add_icmp(outbox, self.guest, ends, hop_limit(), message);
        }
    }

    /// Reads up to [`TURN`] datagrams from the flow's own socket and delivers them. Returns `false` if the flow has ended
    /// because of an error, such as a peer that does not listen.
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

/// Creates a non-blocking datagram socket that is connected to `outside`.
pub(super) fn connect(outside: SocketAddr, protocol: Option<rustix::net::Protocol>) -> std::io::Result<OwnedFd> {
    let family = if outside.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, protocol)?;
    rustix::net::connect(&socket, &outside)?;
    Ok(socket)
}

/// Returns a buffer for the longest datagram or ping.
pub fn scratch() -> Box<[u8]> {
    vec![0; LONGEST].into_boxed_slice()
}
