//! An adapter as a device on VMBus: what binds a [`Nic`] to its channels' rings.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;
use zerocopy::IntoBytes;

use super::frame::FrameBuffer;
use super::nic::{Nic, Shared};
use super::nvsp::device::{Action, Actions, Outcome, rndis_complete};
use super::nvsp::receive::{MAX_RANGES, RESERVED, ReceiveError, Receiver, TransferPacket};
use super::nvsp::sections::Transaction;
use super::nvsp::transmit::{Transmitter, read_request};
use super::nvsp::wire::{SendRndisPacket, Status, Version};
use super::trace;
use crate::vmbus::buffer::GuestBuffer;
use crate::vmbus::gpadl::Gpadl;
use crate::vmbus::guid::{Guid, interface};
use crate::vmbus::ids::{ChannelId, GpadlId};
use crate::vmbus::packet::{PacketKind, TransferPagesHeader};
use crate::vmbus::ring::{NewPacket, OutgoingRing, Packet};
use crate::vmbus::trace::Tracer;
use crate::vmbus::vsp::{Channel, Handler, Offer, ServiceError, Vsp};

/// The instance GUID of a machine's adapters, which have their numbers in the last byte: "viridian net" in ASCII.
const INSTANCE: u128 = 0x76697269_6469_616e_6e65_740000000000;

/// The transaction id of a packet that the guest did not ask for.
const UNSOLICITED: u64 = 0;

/// How many packets, and how many frames, have their turn before the other way has.
const BATCH: usize = 256;

/// A guest that does not read what it is told, or does not give back sections, is told no more than this.
const MAX_UNSENT: usize = 64;

/// More than one packet's actions, and those of a change of the link beside.
const MAX_ACTIONS: usize = 8;

/// The longest payload: the message with the send indirection table.
const MAX_PAYLOAD: usize = 128;

/// The room that a packet with so many ranges takes.
fn transfer_room(ranges: usize) -> u32 {
    NewPacket::space(size_of::<TransferPagesHeader>() + ranges * 8 + MAX_PAYLOAD)
}

/// A network adapter that a guest finds on VMBus.
pub struct NetworkVsp {
    nic: Arc<Nic>,
    instance: Guid,
    tracer: Option<Tracer>,
}

impl NetworkVsp {
    /// A machine's adapter of this number.
    pub fn numbered(nic: Arc<Nic>, number: u8) -> Self {
        Self::new(nic, Self::instance(number))
    }

    /// The adapter, under an instance GUID that no other device of the machine has.
    pub fn new(nic: Arc<Nic>, instance: Guid) -> Self {
        Self { nic, instance, tracer: None }
    }

    /// The instance GUID of a machine's adapter of this number.
    pub fn instance(number: u8) -> Guid {
        Guid::new(INSTANCE | u128::from(number))
    }

    /// The same with every message traced.
    pub fn traced(self, tracer: Option<Tracer>) -> Self {
        Self { tracer, ..self }
    }
}

impl Vsp for NetworkVsp {
    fn offer(&self) -> Offer {
        Offer::new(interface::NETWORK, self.instance)
    }

    fn open(&mut self, channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        let number = channel.subchannel_index();
        if self.nic.lane(number).is_none() {
            return Err(ServiceError::Protocol(format!("a network adapter without channel {number}")));
        }
        self.nic.open(number, channel.port().clone());
        Ok(Box::new(NetworkChannel {
            nic: self.nic.clone(),
            number,
            transmitter: Transmitter::default(),
            receiver: Receiver::new(number, Version::NEWEST.message_length()),
            packet: Vec::new(),
            frame: FrameBuffer::default(),
            unsent: VecDeque::new(),
            trace: Trace { tracer: self.tracer.clone(), channel: channel.id() },
        }))
    }
}

/// What the guest is to be told, in order.
enum Unsent {
    /// The answer to the packet with that transaction id.
    Completion(u64, Vec<u8>),
    /// A message in band.
    Message(Vec<u8>),
    /// An RNDIS control message, through the receive buffer.
    Control(Vec<u8>),
    /// So many subchannels: by VMBus, after what was told before.
    Subchannels(u16),
}

/// Why a channel's thread stops doing something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    /// There is nothing left.
    Empty,
    /// Others have their turn.
    Turn,
    /// The outgoing ring has too little room for a packet that takes so many bytes.
    Ring(u32),
    /// The guest has too many sections. It gives them back by packets.
    Sections,
}

/// One open channel.
struct NetworkChannel {
    nic: Arc<Nic>,
    /// 0 is the primary one.
    number: u16,
    transmitter: Transmitter,
    receiver: Receiver,
    /// Where packets are copied to.
    packet: Vec<u8>,
    /// Where frames for the guest are fetched to.
    frame: FrameBuffer,
    unsent: VecDeque<Unsent>,
    trace: Trace,
}

impl Handler for NetworkChannel {
    fn service(&mut self, channel: &mut Channel) -> Result<(), ServiceError> {
        while !channel.port().is_closing() {
            channel.rings().0.mask();
            if self.number == 0 && self.nic.take_attention() {
                self.look_around();
            }
            let packets = self.take_packets(channel)?;
            let told = self.tell(channel)?;
            let frames = self.deliver(channel.rings().1)?;
            let (incoming, outgoing) = channel.rings();
            let (freed, shown) = (incoming.publish(), outgoing.publish());
            channel.signal(if freed.is_needed() { freed } else { shown });
            let all = [packets, told, frames];
            if all.contains(&Stopped::Turn) {
                continue;
            }
            let wanted = all.into_iter().filter_map(|stopped| match stopped {
                Stopped::Ring(room) => Some(room),
                _ => None,
            });
            if let Some(room) = wanted.max() {
                let (has_room, signal) = channel.rings().1.wait_for_room(room)?;
                channel.signal(signal);
                if has_room {
                    continue;
                }
            }
            // Packets that wait for room come again when the guest signals that there is.
            if matches!(packets, Stopped::Ring(_)) || !channel.rings().0.unmask()? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn release_gpadl(&mut self, gpadl: GpadlId) {
        if self.number == 0 {
            let actions = self.nic.device().release(gpadl);
            self.carry_out(actions, None);
        }
    }
}

impl Drop for NetworkChannel {
    fn drop(&mut self) {
        self.nic.close(self.number);
    }
}

impl NetworkChannel {
    /// The cable may have been pulled, or another channel opened or closed.
    fn look_around(&mut self) {
        let nic = self.nic.clone();
        let mut device = nic.device();
        let mut actions = device.set_channels(nic.open_channels());
        actions.extend(device.set_link(nic.is_link_up()));
        drop(device);
        self.carry_out(actions, None);
    }

    /// Takes packets, as long as they can be completed.
    fn take_packets(&mut self, channel: &mut Channel) -> Result<Stopped, ServiceError> {
        let room = NewPacket::space(MAX_PAYLOAD);
        let mut buffer = std::mem::take(&mut self.packet);
        let mut stopped = Stopped::Turn;
        for _ in 0..BATCH {
            if !channel.rings().1.has_room(room)? {
                stopped = Stopped::Ring(room);
                break;
            }
            match channel.rings().0.receive(&mut buffer)? {
                Some(packet) => self.take(channel, &packet)?,
                None => {
                    stopped = Stopped::Empty;
                    break;
                }
            }
        }
        self.packet = buffer;
        if let Some(lane) = self.nic.lane(self.number) {
            lane.queue().flush();
        }
        Ok(stopped)
    }

    fn take(&mut self, channel: &mut Channel, packet: &Packet<'_>) -> Result<(), ServiceError> {
        let Packet { header, extra, payload } = *packet;
        let ranges = match header.kind {
            PacketKind::COMPLETION => {
                self.give_back(Transaction(header.transaction_id));
                return Ok(());
            }
            PacketKind::IN_BAND => Gpadl::default(),
            PacketKind::GPA_DIRECT => Gpadl::from_packet(channel.memory(), extra)?,
            kind => return Err(ServiceError::Protocol(format!("an adapter takes no {kind:?} packets"))),
        };
        let transaction = header.wants_completion().then_some(header.transaction_id);
        self.trace.nvsp("guest", header.transaction_id, payload);
        match read_request(payload) {
            Some(request) if request.channel_type == SendRndisPacket::DATA => {
                let status = self.transmit(&request, ranges.ranges());
                if let Some(transaction) = transaction {
                    let completion = rndis_complete(status);
                    channel.rings().1.write(&NewPacket::completion(transaction, &[&completion]))?;
                }
                Ok(())
            }
            _ if self.unsent.len() + MAX_ACTIONS > MAX_UNSENT => {
                Err(ServiceError::Protocol("the guest asks on and does not take the answers".into()))
            }
            _ if self.number != 0 => {
                log::debug!("a control message on subchannel {}", self.number);
                self.carry_out([Action::Complete(Vec::new())].into_iter().collect(), transaction);
                Ok(())
            }
            Some(request) => {
                let outcome = self.control(&request, ranges.ranges());
                self.follow(outcome, transaction);
                Ok(())
            }
            None => {
                let outcome = self.nic.device().receive(payload, channel);
                self.follow(outcome, transaction);
                Ok(())
            }
        }
    }

    /// The guest has done with sections.
    fn give_back(&self, transaction: Transaction) {
        let shared = self.nic.shared();
        let mut sections = shared.sections();
        // Sections of a buffer that was revoked may come back late.
        if let Some(Err(error)) = sections.as_mut().map(|sections| sections.give_back(self.number, transaction)) {
            log::debug!("{error}");
        }
    }

    /// Sends frames.
    fn transmit(&mut self, request: &SendRndisPacket, ranges: &[GuestBuffer]) -> Status {
        let shared = self.nic.shared();
        let Some(lane) = self.nic.lane(self.number) else { return Status::FAIL };
        let mut queue = lane.queue();
        let statistics = self.nic.statistics();
        let status = self.transmitter.send(&shared.path, request, ranges, statistics, |frame| queue.send(frame));
        self.trace.rndis("guest", self.transmitter.transfer());
        status
    }

    /// Hands control messages to the device.
    fn control(&mut self, request: &SendRndisPacket, ranges: &[GuestBuffer]) -> Outcome {
        let path = self.nic.shared().path.clone();
        match self.transmitter.gather(&path, request, ranges) {
            Ok(transfer) => {
                self.trace.rndis("guest", transfer);
                self.nic.device().receive_control(transfer)
            }
            Err(error) => {
                log::debug!("a control message was refused: {error}");
                let completion = rndis_complete(Status::INVALID_RNDIS_PACKET);
                Outcome { actions: [Action::Complete(completion)].into_iter().collect(), refusal: None }
            }
        }
    }

    fn follow(&mut self, outcome: Outcome, transaction: Option<u64>) {
        if let Some(refusal) = outcome.refusal {
            log::debug!("channel {}: {refusal}", self.trace.channel);
        }
        self.carry_out(outcome.actions, transaction);
    }

    /// Does what the device wants done, or puts it behind what waits already.
    fn carry_out(&mut self, actions: Actions, transaction: Option<u64>) {
        for action in actions {
            match action {
                Action::Complete(payload) => {
                    self.unsent.extend(transaction.map(|transaction| Unsent::Completion(transaction, payload)));
                }
                Action::Send(payload) => self.unsent.push_back(Unsent::Message(payload)),
                Action::Indicate(message) => self.unsent.push_back(Unsent::Control(message)),
                Action::OfferSubchannels(count) => self.unsent.push_back(Unsent::Subchannels(count)),
                Action::UpdatePath => {
                    let device = self.nic.device();
                    self.nic.update_path(device.path());
                }
            }
        }
    }

    /// Tells the guest what it is to be told.
    fn tell(&mut self, channel: &mut Channel) -> Result<Stopped, ServiceError> {
        while let Some(unsent) = self.unsent.front() {
            let room = NewPacket::space(MAX_PAYLOAD);
            let outgoing = channel.rings().1;
            if !outgoing.has_room(room)? {
                return Ok(Stopped::Ring(room));
            }
            match unsent {
                Unsent::Completion(transaction, payload) => {
                    self.trace.nvsp("host", *transaction, payload);
                    outgoing.write(&NewPacket::completion(*transaction, &[payload]))?;
                }
                Unsent::Message(payload) => {
                    self.trace.nvsp("host", UNSOLICITED, payload);
                    outgoing.write(&NewPacket::in_band(UNSOLICITED, &[payload]))?;
                }
                Unsent::Control(message) => {
                    let shared = self.nic.shared();
                    let mut sections = shared.sections();
                    let packet = match sections.as_mut() {
                        Some(sections) => self.receiver.control(&shared.path, sections, message),
                        None => Err(ReceiveError::NoBuffer),
                    };
                    match packet {
                        Ok(packet) => {
                            self.trace.rndis("host", message);
                            write(outgoing, &packet)?;
                        }
                        Err(ReceiveError::Full) => return Ok(Stopped::Sections),
                        Err(error) => log::debug!("a control message for the guest was dropped: {error}"),
                    }
                }
                // A driver that does not know yet how many it gets would not open them.
                Unsent::Subchannels(count) => {
                    let count = *count;
                    channel.publish();
                    channel.port().offer_subchannels(count);
                }
            }
            self.unsent.pop_front();
        }
        Ok(Stopped::Empty)
    }

    /// Delivers the frames that wait, as far as the guest has room for them. The rest waits in the backend, which has bounds.
    fn deliver(&mut self, outgoing: &mut OutgoingRing) -> Result<Stopped, ServiceError> {
        let nic = self.nic.clone();
        let shared = nic.shared();
        let room = transfer_room(MAX_RANGES);
        let mut taken = 0;
        let mut stopped = None;
        while stopped.is_none() {
            if !outgoing.has_room(room)? {
                return Ok(Stopped::Ring(room));
            }
            while stopped.is_none() && !self.receiver.is_full() {
                stopped = self.add_next(&nic, &shared);
                taken += 1;
                if taken >= BATCH {
                    stopped = stopped.or(Some(Stopped::Turn));
                }
            }
            if let Some(packet) = self.receiver.finish(&shared.path) {
                self.trace.nvsp("host", packet.transaction.0, &packet.payload);
                write(outgoing, &packet)?;
            }
        }
        Ok(stopped.unwrap_or(Stopped::Empty))
    }

    /// Puts the next frame into sections. Says why there is no next one.
    fn add_next(&mut self, nic: &Nic, shared: &Shared) -> Option<Stopped> {
        let path = &shared.path;
        if path.running && !shared.sections().as_ref().is_some_and(has_enough) {
            return Some(Stopped::Sections);
        }
        let Some(hash) = nic.fetch(self.number, path, &mut self.frame) else { return Some(Stopped::Empty) };
        if !path.wants(&self.frame.bytes) {
            return None;
        }
        self.trace.frame(&self.frame.bytes);
        let statistics = &nic.statistics().receive;
        let mut sections = shared.sections();
        let added = match sections.as_mut() {
            Some(sections) => self.receiver.add(path, sections, &mut self.frame, hash),
            None => Err(ReceiveError::NoBuffer),
        };
        match added {
            Ok(()) => statistics.count(&self.frame.bytes),
            Err(ReceiveError::Full | ReceiveError::NoBuffer) => statistics.count_dropped(1),
            Err(error) => {
                log::debug!("a frame for the guest was dropped: {error}");
                statistics.count_error();
            }
        }
        None
    }
}

/// Whether the longest segment finds room, or all that can be expected of a small buffer.
fn has_enough(sections: &super::nvsp::sections::Sections) -> bool {
    const LONGEST_SEGMENT: usize = 48;
    sections.free() >= (RESERVED + LONGEST_SEGMENT).min(sections.len() / 2 + RESERVED / 2 + 1)
}

/// Writes a packet that there is room for.
fn write(outgoing: &mut OutgoingRing, packet: &TransferPacket) -> Result<(), ServiceError> {
    let TransferPacket { transaction, page_set, ranges, payload } = packet;
    let header =
        TransferPagesHeader { page_set: *page_set, sender_owns_set: 0, reserved: 0, range_count: ranges.len() as u32 };
    let mut extra: SmallVec<[u8; 512]> = SmallVec::from_slice(header.as_bytes());
    extra.extend_from_slice(ranges.as_bytes());
    Ok(outgoing.write(&NewPacket {
        kind: PacketKind::TRANSFER_PAGES,
        wants_completion: true,
        transaction_id: transaction.0,
        extra: &extra,
        payload: &[payload],
    })?)
}

/// Where a channel's messages are printed, if they are.
struct Trace {
    tracer: Option<Tracer>,
    channel: ChannelId,
}

impl Trace {
    fn nvsp(&self, side: &str, transaction: u64, payload: &[u8]) {
        // A completion may have no message.
        if let Some(tracer) = self.tracer.as_ref().filter(|_| !payload.is_empty()) {
            let line = trace::nvsp(payload);
            tracer.line(format_args!("network channel {} {side}: transaction {transaction:#x} {line}", self.channel));
        }
    }

    fn rndis(&self, side: &str, transfer: &[u8]) {
        if let Some(tracer) = &self.tracer {
            for line in trace::rndis(transfer) {
                tracer.line(format_args!("network channel {} {side}: {line}", self.channel));
            }
        }
    }

    fn frame(&self, frame: &[u8]) {
        if let Some(tracer) = &self.tracer {
            tracer.line(format_args!("network channel {} host: {}", self.channel, trace::incoming(frame)));
        }
    }
}

#[cfg(test)]
#[path = "provider_guest.rs"]
mod guest;
#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;
