//! A controller as a VMBus device: connects a [`Worker`] to a channel's rings.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::controller::Controller;
use super::storvsp::wire::MAX_PACKET;
use super::trace::PacketLine;
use super::worker::{Answer, Worker};
use crate::host::patience::Patience;
use crate::memory::buffer::GuestBuffer;
use crate::vmbus::gpadl::Gpadl;
use crate::vmbus::ids::ChannelId;
use crate::vmbus::packet::PacketKind;
use crate::vmbus::ring::{NewPacket, OutgoingRing, Packet};
use crate::vmbus::trace::Tracer;
use crate::vmbus::vsp::{Channel, Handler, Offer, ServiceError, Vsp};
use crate::wire::guid::{Guid, interface};

/// The instance GUID of a machine's controllers, "viridian scsi" in ASCII; the last byte is the controller's number.
const INSTANCE: u128 = 0x76697269_6469_616e_7363_736900000000;

/// The transaction id of a packet that is not a reply.
const UNSOLICITED: u64 = 0;

/// A SCSI controller as a VMBus device.
pub struct StorageVsp {
    controller: Arc<Controller>,
    instance: Guid,
    tracer: Option<Tracer>,
}

impl StorageVsp {
    /// Creates a machine's controller with this number.
    pub fn numbered(controller: Arc<Controller>, number: u8) -> Self {
        Self::new(controller, Guid::new(INSTANCE | u128::from(number)))
    }

    /// Creates the controller, under an instance GUID that no other device of the machine has.
    pub fn new(controller: Arc<Controller>, instance: Guid) -> Self {
        Self { controller, instance, tracer: None }
    }

    /// Traces every packet.
    pub fn traced(self, tracer: Option<Tracer>) -> Self {
        Self { tracer, ..self }
    }
}

impl Vsp for StorageVsp {
    fn offer(&self) -> Offer {
        Offer::new(interface::SCSI, self.instance)
    }

    fn open(&mut self, channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        Ok(Box::new(self.open_channel(channel)?))
    }
}

impl StorageVsp {
    fn open_channel(&self, channel: &mut Channel) -> Result<StorageChannel, ServiceError> {
        let primary = channel.subchannel_index() == 0;
        let no_doorbell = || ServiceError::Host("a disk controller has no eventfd to be woken by".into());
        let doorbell = channel.port().doorbell().ok_or_else(no_doorbell)?;
        let port = channel.port().clone();
        let is_guest_gone = move || port.is_guest_gone();
        let worker = Worker::new(self.controller.clone(), primary, doorbell, is_guest_gone).map_err(failed)?;
        if primary {
            let port = channel.port().clone();
            self.controller.on_change(move || port.wake());
        }
        let trace = Trace { tracer: self.tracer.clone(), channel: channel.id() };
        let (packet, unsent, patience) = Default::default();
        Ok(StorageChannel { worker, packet, unsent, taken: 0, patience, trace })
    }
}

/// One open channel.
struct StorageChannel {
    worker: Worker,
    /// The buffer into which packets are copied.
    packet: Vec<u8>,
    /// Replies for which the guest's ring has no room. At [`MAX_UNSENT`], no more packets are read, but requests that
    /// the worker already has may add more.
    unsent: VecDeque<Answer>,
    /// Number of packets since the thread woke.
    taken: u32,
    patience: Patience,
    trace: Trace,
}

/// At this number of unread replies, no more requests of the guest are read.
const MAX_UNSENT: usize = 1024;

impl Handler for StorageChannel {
    fn service(&mut self, channel: &mut Channel) -> Result<(), ServiceError> {
        self.taken = 0;
        self.exchange(channel)?;
        self.patience.adapt(self.taken);
        Ok(())
    }

    fn pause(&mut self, _channel: &mut Channel) -> Result<bool, ServiceError> {
        let is_quiet = self.worker.hold().map_err(failed)?;
        // They reach the guest after the pause.
        self.unsent.extend(self.worker.answers());
        Ok(is_quiet)
    }

    fn resume(&mut self) {
        self.worker.release();
    }
}

impl StorageChannel {
    /// Processes requests and sends replies until there is nothing left to do.
    fn exchange(&mut self, channel: &mut Channel) -> Result<(), ServiceError> {
        while !channel.port().should_return() {
            channel.rings().0.mask();
            let emptied = self.receive(channel)?;
            self.worker.poll().map_err(failed)?;
            self.unsent.extend(self.worker.answers());
            let all_sent = self.send(channel.rings().1)?;
            let (incoming, outgoing) = channel.rings();
            let (freed, shown) = (incoming.publish(), outgoing.publish());
            channel.signal(if freed.is_needed() { freed } else { shown });
            if !all_sent {
                let (has_room, signal) = channel.rings().1.wait_for_room(NewPacket::space(MAX_PACKET))?;
                channel.signal(signal);
                if !has_room {
                    return Ok(());
                }
            } else if !emptied {
                // The ring stays masked: the next completion wakes the thread, and then there is room.
                if !self.has_room() {
                    return Ok(());
                }
            } else if !channel.rings().0.unmask()? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.worker.has_room() && self.unsent.len() < MAX_UNSENT
    }

    /// Reads packets while there is room for them and their replies. Returns `true` if there are no more.
    ///
    /// The guest can keep its ring full, so this ends when there is no more room, or when the channel must close.
    fn receive(&mut self, channel: &mut Channel) -> Result<bool, ServiceError> {
        let memory = channel.memory().clone();
        let port = channel.port().clone();
        while self.has_room() && !port.should_return() {
            let Some(packet) = channel.rings().0.receive(&mut self.packet)? else { return Ok(true) };
            let pages = match packet.header.kind {
                PacketKind::IN_BAND => GuestBuffer::default(),
                PacketKind::GPA_DIRECT => single_range(Gpadl::from_packet(&memory, packet.extra)?)?,
                kind => return Err(ServiceError::Protocol(format!("storage takes no {kind:?} packets"))),
            };
            self.taken = self.taken.saturating_add(1);
            let Packet { header, payload, .. } = packet;
            if !header.wants_completion() {
                return Err(ServiceError::Protocol("a storage packet wants no completion".into()));
            }
            self.trace.packet("guest", header.transaction_id, payload);
            let taken = self.worker.take(header.transaction_id, payload, pages);
            let subchannels = taken.map_err(|error| ServiceError::Protocol(error.to_string()))?;
            if let Some(count) = subchannels {
                port.offer_subchannels(count);
            }
        }
        Ok(false)
    }

    /// Sends replies while there is room in the ring. Returns `true` if all were sent.
    fn send(&mut self, outgoing: &mut OutgoingRing) -> Result<bool, ServiceError> {
        let room = NewPacket::space(MAX_PACKET);
        while let Some(answer) = self.unsent.front() {
            if !outgoing.has_room(room)? {
                return Ok(false);
            }
            self.trace.packet("host", answer.transaction_id, answer.reply.bytes());
            outgoing.write(&NewPacket::completion(answer.transaction_id, &[answer.reply.bytes()]))?;
            self.unsent.pop_front();
        }
        if !self.worker.has_notice() {
            return Ok(true);
        }
        if !outgoing.has_room(room)? {
            return Ok(false);
        }
        if let Some(notice) = self.worker.notice() {
            self.trace.packet("host", UNSOLICITED, notice.bytes());
            outgoing.write(&NewPacket::in_band(UNSOLICITED, &[notice.bytes()]))?;
        }
        Ok(true)
    }
}

/// The trace of a channel's packets, if it is enabled.
struct Trace {
    tracer: Option<Tracer>,
    channel: ChannelId,
}

impl Trace {
    fn packet(&self, side: &str, transaction: u64, packet: &[u8]) {
        if let Some(tracer) = self.tracer.as_ref().and_then(Tracer::if_on) {
            let line = PacketLine(packet);
            tracer.line(format_args!("storage channel {} {side}: transaction {transaction:#x} {line}", self.channel));
        }
    }
}

/// Returns the only range: a command has one buffer.
fn single_range(ranges: Gpadl) -> Result<GuestBuffer, ServiceError> {
    let several = || ServiceError::Protocol(format!("a storage packet has {} ranges", ranges.ranges().len()));
    ranges.single().cloned().ok_or_else(several)
}

fn failed(error: io::Error) -> ServiceError {
    ServiceError::Protocol(format!("disk I/O has failed: {error}"))
}

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;
