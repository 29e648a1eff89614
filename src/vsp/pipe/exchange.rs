//! The loop over both rings of a channel.

use std::time::Duration;

use crate::vmbus::packet::PacketKind;
use crate::vmbus::ring::NewPacket;
use crate::vmbus::vsp::{Channel, ServiceError};

/// The period at which a full ring is checked if the guest does not signal that it has room.
const POLL: Duration = Duration::from_secs(1);

/// Maximum number of packets that are received before what is due is sent. A guest can fill the ring as fast as it is emptied.
const BATCH: usize = 256;

/// The host's side of the exchange.
pub trait Peer {
    /// Maximum length of the payload of what [`next`](Self::next) returns.
    const MAX_PACKET: usize;

    /// Returns the name of the device in error messages, with its article.
    fn name(&self) -> &'static str;

    /// Processes the payload of a packet of the guest. Its length is the guest's choice.
    ///
    /// # Errors
    /// Returns an error if the guest violates the protocol.
    fn receive(&mut self, payload: &[u8]) -> Result<(), ServiceError>;

    /// Does what is due. Called when all packets of the guest are processed, or many of them; `is_read` says that the guest has read all that it was
    /// sent.
    fn tick(&mut self, _is_read: bool) {}

    /// Returns the payload of the next packet, if there is one to be sent now.
    fn next(&mut self) -> Option<Vec<u8>>;
}

/// The exchange of packets on one open channel.
#[derive(Default)]
pub struct Exchange {
    buffer: Vec<u8>,
    /// Identifies a packet in the ring. The protocols do not use it.
    last_packet: u64,
}

/// The state in which an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The ring has room for another packet.
    pub has_room: bool,
    /// The exchange must run again after this time, because the guest does not signal that it has made room.
    pub poll: Option<Duration>,
}

impl Exchange {
    /// Receives what is in the ring, and sends what is due, until there is nothing more to do, or no room, or the handler should
    /// return.
    ///
    /// # Errors
    /// Returns an error if a ring is corrupt, or the error of the peer.
    pub fn run<P: Peer>(&mut self, channel: &mut Channel, peer: &mut P) -> Result<Ended, ServiceError> {
        let mut has_room = true;
        let mut is_over = false;
        while !is_over && !channel.port().should_return() {
            channel.rings().0.mask();
            let result = self.turn(channel, peer);
            let (incoming, outgoing) = channel.rings();
            let (freed, shown) = (incoming.publish(), outgoing.publish());
            channel.signal(if freed.is_needed() { freed } else { shown });
            has_room = result?;
            if !has_room {
                let (room, signal) = channel.rings().1.wait_for_room(NewPacket::space(P::MAX_PACKET))?;
                channel.signal(signal);
                if room {
                    continue;
                }
            }
            is_over = !channel.rings().0.unmask()?;
        }
        let poll = (!has_room && !channel.rings().0.guest_minds_room()).then_some(POLL);
        Ok(Ended { has_room, poll })
    }

    /// Returns `false` if the ring has no room for what may be due.
    fn turn<P: Peer>(&mut self, channel: &mut Channel, peer: &mut P) -> Result<bool, ServiceError> {
        let room = NewPacket::space(P::MAX_PACKET);
        for _ in 0..BATCH {
            if channel.port().should_return() {
                break;
            }
            let (incoming, outgoing) = channel.rings();
            let Some(packet) = incoming.receive(&mut self.buffer)? else { break };
            let PacketKind::IN_BAND = packet.header.kind else {
                return Err(ServiceError::Protocol(format!("{} gets no {} packets", peer.name(), packet.header.kind)));
            };
            let completion = packet.header.wants_completion().then_some(packet.header.transaction_id);
            peer.receive(packet.payload)?;
            // A guest that wants more completions than the ring can hold gets no more: drivers that wait for one read it.
            if let Some(transaction) = completion
                && outgoing.has_room(room)?
            {
                outgoing.write(&NewPacket::completion(transaction, &[]))?;
            }
        }
        let outgoing = channel.rings().1;
        let all = outgoing.mark();
        peer.tick(outgoing.is_read(all)?);
        while outgoing.has_room(room)? {
            let Some(packet) = peer.next() else { return Ok(true) };
            self.last_packet = self.last_packet.wrapping_add(1);
            outgoing.write(&NewPacket::in_band(self.last_packet, &[&packet]))?;
        }
        Ok(false)
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
