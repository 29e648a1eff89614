//! TCP flows: a connection of the guest that ends here, and a corresponding one of the host.
//!
//! The guest's side is a socket of `smoltcp` with its own interface, so that the cost of a packet does not depend on
//! the number of flows. Segments come from the guest unsegmented, and for IPv4 are delivered unsegmented. The host's
//! side is a non-blocking socket. The buffers of the guest's side couple both: if one side does not read, the buffer
//! fills, and the other side is no longer read.
//!
//! A connection from the guest is accepted only when the host's connection is established; if that fails, it is
//! refused. An end or a reset of one side is passed on to the other.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{self, State};
use smoltcp::time::Instant;
use smoltcp::wire::{IpEndpoint, IpListenEndpoint};

use super::super::ports::SwitchPort;
use super::link::{Link, interface};
use super::share::Guest;
use crate::host::descriptors::Ticket;
use crate::net::mac::MacAddress;

/// Size of the buffer for each direction, and its size if the guest already has [`MANY`] connections.
const BUFFER: usize = 256 << 10;
const SMALL_BUFFER: usize = 64 << 10;

/// Number of a guest's connections with large buffers. All connections of a network together have less than 100 MiB.
const MANY: usize = 64;

/// Time after which the next name server is tried if one does not accept a connection.
const TURN: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(2);

/// Maximum time for which a guest may leave data unacknowledged before the flow ends: as long as in Linux's TCP. After
/// a link failure, retransmissions can be a minute apart, and the guest would never learn of an earlier end.
///
/// `smoltcp` has its own timeout, but it also runs if there is nothing to acknowledge.
const PATIENCE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(15 * 60);

/// Maximum duration of a handshake with the guest. Linux tries six times, in 127 s.
const HANDSHAKE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(130);

/// Idle time after which the guest is asked whether it still knows the connection (RFC 9293, 3.8.4). If it does not, it
/// sends a reset. Silence does not end the connection, because a guest can be paused.
const KEEP_ALIVE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(2 * 60 * 60);

/// Delay of an acknowledgement of a few bytes, so that it can be sent with a reply. Hosts wait up to 40 ms (Linux) or
/// 200 ms.
const ACK_DELAY: smoltcp::time::Duration = smoltcp::time::Duration::from_millis(10);

/// A packet of this size belongs to a bulk transfer, whose sender waits for acknowledgements.
const BULK: usize = 576;
const AT_ONCE: smoltcp::time::Duration = smoltcp::time::Duration::ZERO;

/// Minimum value of a guest's maximum segment size (536 is the default of RFC 879, and every link supports it).
const MIN_SEGMENT: u16 = 536;

/// The endpoints of a flow, as the guest sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The guest's port of the switch.
    pub port: SwitchPort,
    /// The guest's endpoint.
    pub guest: SocketAddr,
    /// The peer's endpoint.
    pub peer: SocketAddr,
}

/// The state of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The flow continues.
    Open,
    /// Both sides have ended.
    Over,
}

/// One flow.
pub struct Flow {
    key: Key,
    guest: Guest,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    host: TcpStream,
    /// The reservation of `host` in the budget.
    _ticket: Ticket,
    /// Alternative destinations if `host` fails; the next one is last.
    others: Vec<SocketAddr>,
    /// Time at which the next of them is tried.
    next_turn: Instant,
    /// `host` is new and must be watched.
    is_new: bool,
    /// The host's connection is established.
    connected: bool,
    readable: bool,
    writable: bool,
    /// The host's side has ended.
    host_ended: bool,
    /// The guest's side has ended, and the host's peer knows.
    guest_ended: bool,
    last_used: Instant,
    /// Time since which the guest owes a reply without having sent anything.
    owing_since: Option<Instant>,
}

impl Flow {
    /// Creates a flow that the guest begins, to the first of `outside` that accepts. The guest's first packet must then
    /// be passed to [`drive`](Self::drive).
    ///
    /// # Errors
    /// Returns an error if the host has no socket or no route.
    pub(super) fn connect(
        key: Key,
        link: &mut Link<'_>,
        mut outside: Vec<SocketAddr>,
        setup: Setup,
        now: Instant,
    ) -> io::Result<Self> {
        outside.reverse();
        let host = connect_to_next(&mut outside)?;
        let mut flow = Self::new(key, link, host, setup, now);
        flow.others = outside;
        let peer = IpListenEndpoint { addr: Some(key.peer.ip().into()), port: key.peer.port() };
        let socket = flow.sockets.get_mut::<tcp::Socket<'_>>(flow.handle);
        socket.listen(peer).map_err(io::Error::other)?;
        socket.pause_synack(true);
        Ok(flow)
    }

    /// Creates a flow that an outside peer has begun. `host` is non-blocking.
    ///
    /// # Errors
    /// Returns an error if the endpoints are invalid.
    pub(super) fn accept(
        key: Key,
        link: &mut Link<'_>,
        host: TcpStream,
        setup: Setup,
        now: Instant,
    ) -> io::Result<Self> {
        let mut flow = Self::new(key, link, host, setup, now);
        flow.connected = true;
        let socket = flow.sockets.get_mut::<tcp::Socket<'_>>(flow.handle);
        let (guest, peer) = (IpEndpoint::from(key.guest), IpEndpoint::from(key.peer));
        socket.set_keep_alive(Some(KEEP_ALIVE));
        socket.connect(flow.interface.context(), guest, peer).map_err(io::Error::other)?;
        Ok(flow)
    }

    fn new(key: Key, link: &mut Link<'_>, host: TcpStream, setup: Setup, now: Instant) -> Self {
        let size = if setup.held < MANY { BUFFER } else { SMALL_BUFFER };
        let buffer = || tcp::SocketBuffer::new(vec![0; size]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        configure(&host);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self {
            key,
            guest: Guest { port: key.port, mac: link.mac },
            interface: interface(link, setup.seed, now),
            sockets,
            handle,
            host,
            _ticket: setup.ticket,
            others: Vec::new(),
            next_turn: now + TURN,
            is_new: true,
            connected: false,
            readable: false,
            writable: false,
            host_ended: false,
            guest_ended: false,
            last_used: now,
            owing_since: None,
        }
    }

    /// Returns the endpoints, as the guest sees them.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Returns the guest of the flow.
    pub fn guest(&self) -> Guest {
        self.guest
    }

    /// Sets the guest's Ethernet address, which may have changed.
    pub fn set_mac(&mut self, mac: MacAddress) {
        self.guest.mac = mac;
    }

    #[cfg(test)]
    pub(super) fn buffer_size(&self) -> usize {
        self.sockets.get::<tcp::Socket<'_>>(self.handle).recv_capacity()
    }

    /// Returns `true` if the host's socket has changed since the last call.
    pub fn take_new(&mut self) -> bool {
        std::mem::take(&mut self.is_new)
    }

    /// Returns the host's socket, which must be watched.
    pub fn socket(&self) -> &TcpStream {
        &self.host
    }

    /// Returns the time at which the flow was last used by either side.
    pub fn last_used(&self) -> Instant {
        self.last_used
    }

    /// Returns the time at which the flow must be driven again without an event.
    pub fn deadline(&mut self, now: Instant) -> Option<Instant> {
        let own = self.interface.poll_at(now, &self.sockets);
        let turn = (!self.connected && !self.others.is_empty()).then_some(self.next_turn);
        own.into_iter().chain(self.owing_until()).chain(turn).min()
    }

    /// Returns the time at which the guest's overdue reply ends the flow, or `None` if it owes none.
    fn owing_until(&self) -> Option<Instant> {
        let patience = match self.state() {
            State::SynSent | State::SynReceived => HANDSHAKE,
            _ => PATIENCE,
        };
        self.owing_since.map(|since| since + patience)
    }

    fn state(&self) -> State {
        self.sockets.get::<tcp::Socket<'_>>(self.handle).state()
    }

    /// Ends a flow whose guest owes a reply for too long.
    fn watch_debt(&mut self, now: Instant) {
        let waits_for_host = !self.connected;
        let socket = self.sockets.get::<tcp::Socket<'_>>(self.handle);
        let owes = match socket.state() {
            State::SynReceived => !waits_for_host,
            State::SynSent | State::FinWait1 | State::Closing | State::LastAck => true,
            _ => socket.send_queue() > 0,
        };
        self.owing_since = owes.then(|| self.owing_since.unwrap_or(now));
        if self.owing_until().is_some_and(|until| until <= now) {
            self.give_up();
        }
    }

    /// Ends the flow in favour of another one. Both sides are notified.
    pub fn evict(&mut self, link: &mut Link<'_>, now: Instant) {
        self.give_up();
        let _ = self.interface.poll_egress(now, link, &mut self.sockets);
    }

    /// Resets both sides.
    fn give_up(&mut self) {
        let _ = rustix::net::sockopt::set_socket_linger(&self.host, Some(Duration::ZERO));
        self.refuse();
    }

    /// Sets the readiness of the host's socket.
    pub fn set_ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// Processes the packet in `link`, if there is one, and moves data in both directions.
    pub fn drive(&mut self, link: &mut Link<'_>, now: Instant) -> Standing {
        if let Some(packet) = link.incoming {
            self.last_used = now;
            self.owing_since = None;
            self.side().set_ack_delay(Some(if packet.len() < BULK { ACK_DELAY } else { AT_ONCE }));
            let _ = self.interface.poll_ingress_single(now, link, &mut self.sockets);
        }
        if !self.connected && (self.readable || self.writable) {
            self.finish_connecting(now);
        }
        if !self.connected && !self.others.is_empty() && now >= self.next_turn {
            self.try_next(now);
        }
        if self.connected {
            let moved = self.move_to_host() | self.move_to_guest();
            if moved {
                self.last_used = now;
            }
        }
        self.watch_debt(now);
        let _ = self.interface.poll_egress(now, link, &mut self.sockets);
        self.standing()
    }

    /// Returns `true` if there is data for the guest that had no room in the outbox or in the buffer, and may have it
    /// now.
    pub fn waits_for_guest(&self) -> bool {
        let socket = self.sockets.get::<tcp::Socket<'_>>(self.handle);
        (self.readable && socket.can_send()) || socket.send_queue() > 0
    }

    fn side(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Connects to the next alternative destination. Returns `false` if there is none.
    fn try_next(&mut self, now: Instant) -> bool {
        let Ok(host) = connect_to_next(&mut self.others) else { return false };
        configure(&host);
        (self.host, self.is_new, self.next_turn) = (host, true, now + TURN);
        (self.readable, self.writable) = (false, false);
        true
    }

    fn finish_connecting(&mut self, now: Instant) {
        match self.host.take_error() {
            Ok(None) if self.host.peer_addr().is_ok() => {
                self.connected = true;
                // Not before: while the reply is delayed, the timer would always be due.
                self.side().set_keep_alive(Some(KEEP_ALIVE));
                self.side().pause_synack(false);
            }
            // Not yet established.
            Ok(None) => {}
            Ok(Some(_)) | Err(_) if self.try_next(now) => {}
            Ok(Some(_)) | Err(_) => self.refuse(),
        }
    }

    /// Refuses or resets the guest's connection.
    fn refuse(&mut self) {
        self.side().pause_synack(false);
        self.side().abort();
        self.host_ended = true;
        self.guest_ended = true;
    }

    /// Returns `true` if anything was moved.
    fn move_to_host(&mut self) -> bool {
        let mut moved = false;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        let mut failed = false;
        while self.writable && socket.can_recv() {
            let written = socket.recv(|bytes| match self.host.write(bytes) {
                Ok(length) => (length, Ok(length)),
                Err(error) => (0, Err(error)),
            });
            match written {
                Ok(Ok(length)) => moved |= length > 0,
                Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Err(_)) => {
                    failed = true;
                    break;
                }
                Err(_) => break,
            }
        }
        // The guest has sent everything, so the end is passed on.
        let ended = matches!(socket.state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait);
        if ended && !self.guest_ended && !socket.can_recv() {
            self.guest_ended = true;
            failed |= self.host.shutdown(Shutdown::Write).is_err();
        }
        if failed {
            self.refuse();
        }
        moved
    }

    /// Returns `true` if anything was moved.
    fn move_to_guest(&mut self) -> bool {
        let mut moved = false;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        while self.readable && socket.can_send() && !self.host_ended {
            let read = socket.send(|room| match self.host.read(room) {
                Ok(length) => (length, Ok(length)),
                Err(error) => (0, Err(error)),
            });
            match read {
                Ok(Ok(0)) => {
                    self.host_ended = true;
                    socket.close();
                }
                Ok(Ok(_)) => moved = true,
                Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Err(_)) => {
                    self.refuse();
                    break;
                }
                Err(_) => break,
            }
        }
        moved
    }

    fn standing(&mut self) -> Standing {
        let state = self.state();
        match state {
            State::Closed => {
                if !(self.host_ended && self.guest_ended) {
                    // The guest has reset the connection, so the host's is reset, too.
                    let _ = rustix::net::sockopt::set_socket_linger(&self.host, Some(Duration::ZERO));
                }
                Standing::Over
            }
            // The guest knows that the connection is over. If the last acknowledgement is lost, it retransmits and is
            // told again.
            State::TimeWait if self.guest_ended => Standing::Over,
            // A listening socket that has seen no valid first packet.
            State::Listen => Standing::Over,
            _ => Standing::Open,
        }
    }
}

/// The parameters of a new flow.
pub(super) struct Setup {
    /// The reservation of the host's socket in the budget.
    pub ticket: Ticket,
    /// Number of connections that the guest already has.
    pub held: usize,
    /// A seed for numbers that must differ.
    pub seed: u64,
}

/// Begins a connection to the last of `places` that has a route, and removes it and those behind it.
fn connect_to_next(places: &mut Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut failure = ErrorKind::HostUnreachable.into();
    while let Some(place) = places.pop() {
        let family = if place.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &place) {
            Ok(()) | Err(Errno::INPROGRESS) => return Ok(socket.into()),
            Err(error) => failure = error.into(),
        }
    }
    Err(failure)
}

fn configure(host: &TcpStream) {
    // Small writes of the guest are sent at once.
    let _ = host.set_nodelay(true);
    // The guest may never probe its peer, so the host does, at its configured interval.
    let _ = rustix::net::sockopt::set_socket_keepalive(host, true);
}

const SYN: u8 = 0x02;
const RESET: u8 = 0x04;
const ACKNOWLEDGE: u8 = 0x10;

fn flags(packet: &[u8], transport: usize) -> u8 {
    packet.get(transport + 13).copied().unwrap_or(0)
}

/// Returns `true` if a packet opens a connection. Its TCP header is at `transport`.
pub fn is_first(packet: &[u8], transport: usize) -> bool {
    flags(packet, transport) & (SYN | RESET | ACKNOWLEDGE) == SYN
}

/// Returns a copy of a packet with its maximum segment size raised, if that is smaller than every link supports.
///
/// A guest could set it so small that nothing fits beside the options. The packet's checksum is not verified
/// afterwards.
pub fn with_raised_segment_size(packet: &[u8], transport: usize) -> Option<Vec<u8>> {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const SEGMENT_SIZE: u8 = 2;
    if flags(packet, transport) & SYN == 0 {
        return None;
    }
    let end = transport + usize::from(packet[transport + 12] >> 4) * 4;
    let mut place = transport + 20;
    let mut raised = None;
    while let Some(option) = packet.get(place..end) {
        place += match *option {
            [END, ..] | [] => break,
            [NOTHING, ..] => 1,
            [SEGMENT_SIZE, 4, high, low, ..] => {
                let size = u16::from_be_bytes([high, low]).max(MIN_SEGMENT);
                let copy = raised.get_or_insert_with(|| packet.to_vec());
                copy[place + 2..place + 4].copy_from_slice(&size.to_be_bytes());
                4
            }
            [_, length, ..] if length >= 2 => usize::from(length),
            _ => break,
        };
    }
    raised
}
