//! A connection as a VMBus device: moves data between the rings of its channel and its [`Peer`].

use std::sync::{Arc, mpsc};

use rustix::io::Errno;

use super::peer::Peer;
use super::table::{Origin, Record, Table};
use super::transfer::{Next, Transfer};
use super::waiting::Waiting;
use super::wire::{self, MAX_TO_GUEST, PipeHeader};
use crate::host::patience::Patience;
use crate::vmbus::bus::VmBus;
use crate::vmbus::packet::PacketKind;
use crate::vmbus::ring::{Mark, NewPacket, RingError};
use crate::vmbus::vsp::{Channel, Handler, Offer, Port, ServiceError, Vsp, offer_flags};
use crate::wire::guid::Guid;

/// The period at which the rings are checked if the guest does not signal: because it does not say when a full ring has room again, or
/// because data that it has sent is still in its ring, behind which it may end its data.
const POLL: std::time::Duration = std::time::Duration::from_secs(1);

/// The second half of the instances of the host's connections. In a guest, the first group of the digits is the host's port.
const INSTANCE: u128 = 0x9ef3_4c1b_a5d2_7f06_38b1_56e0;

/// Returns the offer of a connection.
pub fn offer(service: Guid, instance: Guid, origin: Origin) -> Offer {
    let mut offer = Offer::new(service, instance);
    offer.flags |= offer_flags::TLNPI_PROVIDER;
    // After the mode of the pipe.
    offer.user_defined.0[4] = u8::from(origin == Origin::Host);
    offer
}

/// Returns the instance of a connection of the host, with its port.
pub fn instance(port: u32) -> Guid {
    Guid::new(u128::from(port) << 96 | INSTANCE)
}

/// The device of one connection, whose only channel is opened once.
pub struct ConnectionVsp {
    /// The connection, for others.
    pub record: Arc<Record>,
    /// All connections.
    pub table: Arc<Table>,
    /// The bus on which it is offered.
    pub bus: VmBus,
    /// Its offer.
    pub offer: Offer,
    /// The host's end, until the channel is opened.
    pub peer: Option<Peer>,
    /// The text for the host's end when the guest opens the channel, and when it does not.
    pub texts: (String, String),
    /// The thread that waits for the guest to open the channel.
    pub opened: Option<mpsc::SyncSender<()>>,
}

impl Vsp for ConnectionVsp {
    fn offer(&self) -> Offer {
        self.offer.clone()
    }

    fn open(&mut self, channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        let over = || ServiceError::Host("the connection is over".into());
        let peer = self.peer.take().ok_or_else(over)?;
        let text = std::mem::take(&mut self.texts.0).into_bytes();
        let (transfer, waiting) = (Transfer::new(text.len()), Waiting::new(text));
        self.record.update(transfer.state(), transfer.counts());
        self.table.count_opened();
        let port = channel.port().clone();
        let (_, outgoing) = channel.rings();
        // A ring has room for two packets, so that guest and host can work at the same time.
        let half = outgoing.all_room() / 2;
        let packet = half.saturating_sub(NewPacket::space(PipeHeader::LENGTH)) as usize;
        let packet = packet.min(MAX_TO_GUEST) & !7;
        // Whoever waits may be gone. Then the host's end is, too.
        self.opened.take().into_iter().for_each(|opened| _ = opened.try_send(()));
        Ok(Box::new(ConnectionHandler {
            record: self.record.clone(),
            bus: self.bus.clone(),
            port,
            mark: outgoing.mark(),
            peer,
            transfer,
            waiting,
            packet,
            half,
            is_dry: false,
            exchanged: 0,
            patience: Patience::default(),
        }))
    }
}

impl Drop for ConnectionVsp {
    fn drop(&mut self) {
        if let Some(peer) = &self.peer {
            self.table.count_refused();
            // A host's end without room for a line does not get it.
            let _ = peer.send_text(self.texts.1.as_bytes());
        }
        self.table.remove(self.record.device);
    }
}

/// Serves the channel.
struct ConnectionHandler {
    record: Arc<Record>,
    bus: VmBus,
    port: Arc<dyn Port>,
    peer: Peer,
    transfer: Transfer,
    waiting: Waiting,
    /// Maximum number of bytes of data in a packet for the guest.
    packet: usize,
    /// Half of the room in the ring for the guest. A guest that has filled its ring goes on to read that much before it signals.
    half: u32,
    /// The end of what the guest was sent.
    mark: Mark,
    /// The peer has nothing to read at present.
    is_dry: bool,
    /// Number of packets with data, in both directions, since the thread woke.
    exchanged: u32,
    patience: Patience,
}

impl Handler for ConnectionHandler {
    fn service(&mut self, channel: &mut Channel) -> Result<(), ServiceError> {
        self.exchanged = 0;
        let result = self.serve(channel);
        self.record.update(self.transfer.state(), self.transfer.counts());
        if result? {
            self.bus.rescind(self.record.device);
        }
        self.patience.adapt(self.exchanged);
        Ok(())
    }
}

impl ConnectionHandler {
    /// Moves what can be moved. Returns `true` if the connection is over.
    fn serve(&mut self, channel: &mut Channel) -> Result<bool, ServiceError> {
        if self.transfer.awaits_hang_up() && self.peer.has_hung_up() {
            self.is_gone(channel);
        }
        let mut is_blocked;
        loop {
            channel.rings().0.mask();
            let result = self.exchange(channel);
            let (incoming, outgoing) = channel.rings();
            let (freed, shown) = (incoming.publish(), outgoing.publish());
            channel.signal(if freed.is_needed() { freed } else { shown });
            let moved;
            (moved, is_blocked) = result?;
            if moved {
                self.transfer.moved(self.port.time());
            }
            if self.transfer.next() == Some(Next::Over) {
                return Ok(true);
            }
            if self.port.should_return() {
                // A pause is followed by another call.
                return Ok(false);
            }
            if moved {
                continue;
            }
            if is_blocked {
                let (has_room, signal) = channel.rings().1.wait_for_room(self.half.max(self.space()))?;
                channel.signal(signal);
                if has_room {
                    continue;
                }
            }
            // A guest whose ring is not empty does not signal: the peer is waited for.
            if self.transfer.waiting() > 0 || !channel.rings().0.unmask()? {
                break;
            }
        }
        self.wait(channel, is_blocked)
    }

    /// Arranges for the next call. Returns `true` if the connection is over, because its time is.
    fn wait(&mut self, channel: &mut Channel, is_blocked: bool) -> Result<bool, ServiceError> {
        let (incoming, outgoing) = channel.rings();
        let now = self.port.time();
        let deadline = self.transfer.deadline(!outgoing.is_read(self.mark)?);
        if deadline.is_some_and(|deadline| deadline <= now) {
            let service = self.record.service;
            log::debug!("socket {service}: the guest has ended its data, and nothing moves: it is over");
            return Ok(true);
        }
        let left = deadline.map(|deadline| deadline - now);
        let is_silent = self.transfer.waiting() > 0 || is_blocked && !incoming.guest_minds_room();
        let poll = is_silent.then_some(POLL);
        let kept = self.peer.keeps();
        self.port.wake_after([left, poll, kept].into_iter().flatten().min());
        let (readable, writable) = (self.transfer.wants_data() && self.is_dry, self.transfer.waiting() > 0);
        if readable || writable || self.transfer.awaits_hang_up() {
            self.peer.wait(&*self.port, readable, writable)?;
        }
        Ok(false)
    }

    /// Returns whether anything has moved, and whether data or the end of it waits for room in the guest's ring.
    fn exchange(&mut self, channel: &mut Channel) -> Result<(bool, bool), ServiceError> {
        let mut moved = self.take_packets(channel)?;
        moved |= self.feed_peer(channel);
        if self.transfer.next() == Some(Next::TellPeer) {
            self.peer.end();
            self.transfer.peer_told();
            moved = true;
        }
        // The guest goes on while it is fed.
        let freed = channel.rings().0.publish();
        channel.signal(freed);
        let (sent, is_blocked) = self.feed_guest(channel)?;
        Ok((moved || sent, is_blocked))
    }

    /// Reads the headers of the guest's packets, whose data stays in the ring. Returns `true` if there were some.
    fn take_packets(&mut self, channel: &mut Channel) -> Result<bool, ServiceError> {
        let (incoming, _) = channel.rings();
        let mut moved = false;
        while self.waiting.has_room() && !self.port.should_return() {
            let Some(packet) = incoming.next_packet()? else { break };
            if packet.kind() != PacketKind::IN_BAND {
                return Err(ServiceError::Protocol(format!("a socket gets no {} packets", packet.kind())));
            }
            let malformed = |error: wire::Malformed| ServiceError::Protocol(error.to_string());
            let size = wire::size(packet.read_value(0), packet.payload_length()).map_err(malformed)?;
            let is_kept = self.transfer.receive(size).map_err(malformed)?;
            match packet.span(PipeHeader::LENGTH, size) {
                Some(data) if is_kept => self.waiting.add(data),
                Some(data) => incoming.release(data),
                // The size was checked.
                None => {}
            }
            self.exchanged = self.exchanged.saturating_add(1);
            moved = true;
        }
        Ok(moved)
    }

    /// Sends the peer what waits for it. Returns `true` if it has taken some.
    fn feed_peer(&mut self, channel: &mut Channel) -> bool {
        let mut moved = false;
        while self.transfer.waiting() > 0 {
            let (incoming, _) = channel.rings();
            let sent = match self.waiting.text() {
                Some(text) => self.peer.send_text(text),
                None => self.peer.send(&*self.port, &self.waiting.slices(incoming)),
            };
            match sent {
                Ok(count) => {
                    self.transfer.peer_took(count);
                    self.waiting.peer_took(count, incoming);
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(_) if self.peer.has_hung_up() => self.is_gone(channel),
                Err(_) => {
                    self.transfer.peer_is_deaf();
                    self.waiting.clear(incoming);
                }
            }
            moved = true;
        }
        // Packets without data.
        self.waiting.peer_took(0, channel.rings().0);
        moved
    }

    /// Sends the guest what the peer has for it. Returns whether anything was sent, and whether there is no room for more.
    fn feed_guest(&mut self, channel: &mut Channel) -> Result<(bool, bool), ServiceError> {
        let mut moved = false;
        self.is_dry = false;
        while self.transfer.wants_data() && !self.port.should_return() {
            let (_, outgoing) = channel.rings();
            let received =
                outgoing.fill(self.packet, PipeHeader::of, |room| Ok(self.peer.receive(&*self.port, room)?));
            match received {
                Ok(None) => return Ok((moved, true)),
                Ok(Some(0)) => self.ended(channel),
                Ok(Some(count)) => {
                    self.mark = outgoing.mark();
                    self.transfer.sent(count);
                    self.exchanged = self.exchanged.saturating_add(count.div_ceil(self.packet) as u32);
                }
                Err(Refused::Ring(error)) => return Err(error.into()),
                Err(Refused::Peer(Errno::INTR)) => continue,
                Err(Refused::Peer(Errno::AGAIN)) => {
                    self.is_dry = true;
                    break;
                }
                // The peer has hung up without reading everything.
                Err(Refused::Peer(_)) => {
                    self.transfer.peer_ended();
                    self.is_gone(channel);
                }
            }
            moved = true;
        }
        if self.transfer.next() == Some(Next::TellGuest) {
            let (_, outgoing) = channel.rings();
            if !outgoing.has_room(NewPacket::space(PipeHeader::LENGTH))? {
                return Ok((moved, true));
            }
            outgoing.write(&NewPacket::in_band(0, &[&PipeHeader::of(0)]))?;
            self.mark = outgoing.mark();
            self.transfer.guest_told();
            moved = true;
        }
        Ok((moved, false))
    }

    /// The peer sends nothing more.
    fn ended(&mut self, channel: &mut Channel) {
        self.transfer.peer_ended();
        if self.peer.has_hung_up() {
            self.is_gone(channel);
        }
    }

    /// The peer has hung up.
    fn is_gone(&mut self, channel: &mut Channel) {
        self.transfer.peer_is_gone();
        self.waiting.clear(channel.rings().0);
    }

    /// Returns the space that a packet takes in the ring at most.
    fn space(&self) -> u32 {
        NewPacket::space(PipeHeader::LENGTH + self.packet)
    }
}

/// The reason why nothing was received for the guest.
enum Refused {
    Ring(RingError),
    Peer(Errno),
}

impl From<RingError> for Refused {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

impl From<Errno> for Refused {
    fn from(error: Errno) -> Self {
        Self::Peer(error)
    }
}

impl Drop for ConnectionHandler {
    fn drop(&mut self) {
        // Also if the guest has closed the channel, or has broken the protocol.
        self.bus.rescind(self.record.device);
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
