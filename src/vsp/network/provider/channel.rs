//! The thread of a channel.

use std::sync::Arc;

use super::super::nic::Nic;
use super::super::nvsp::device::{NvspAction, NvspActions, NvspOutcome, rndis_complete};
use super::super::nvsp::sections::Transaction;
use super::super::nvsp::transmit::{Transmitter, read_request};
use super::super::nvsp::wire::{SendRndisPacket, Status};
use super::super::trace::ChannelTrace;
use super::outgoing::{BATCH, MAX_PAYLOAD, Outgoing, Stopped};
use crate::host::patience::Patience;
use crate::memory::buffer::GuestBuffer;
use crate::vmbus::gpadl::Gpadl;
use crate::vmbus::ids::GpadlId;
use crate::vmbus::packet::PacketKind;
use crate::vmbus::ring::{NewPacket, Packet};
use crate::vmbus::vsp::{Channel, Handler, ServiceError};

/// One open channel.
pub(super) struct NetworkChannel {
    nic: Arc<Nic>,
    /// Number of the channel; 0 is the primary one.
    number: u16,
    transmitter: Transmitter,
    /// The buffer into which packets are copied.
    packet: Vec<u8>,
    outgoing: Outgoing,
    /// Number of frames that the guest has sent since the thread woke.
    sent: u32,
    patience: Patience,
    trace: ChannelTrace,
}

impl Handler for NetworkChannel {
    fn service(&mut self, channel: &mut Channel) -> Result<(), ServiceError> {
        self.sent = 0;
        self.exchange(channel)?;
        // For frames to the guest, batching has no benefit: they collect in the backend anyway, and the guest idles
        // without them.
        let delivered = self.outgoing.take_delivered();
        self.patience.adapt(self.sent.max(delivered.min(1)));
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
    /// Creates the handler of channel number `number` of an adapter, which has just been opened.
    pub fn new(nic: Arc<Nic>, number: u16, trace: ChannelTrace) -> Self {
        Self {
            nic,
            number,
            transmitter: Transmitter::default(),
            packet: Vec::new(),
            outgoing: Outgoing::new(number),
            sent: 0,
            patience: Patience::default(),
            trace,
        }
    }

    /// Moves packets and frames until there is nothing left to do.
    fn exchange(&mut self, channel: &mut Channel) -> Result<(), ServiceError> {
        while !channel.port().should_return() {
            channel.rings().0.mask();
            // The resulting messages to the guest need room among the unsent ones.
            if self.number == 0 && self.outgoing.takes_more() && self.nic.take_attention() {
                self.look_around();
            }
            let packets = self.take_packets(channel)?;
            let told = self.outgoing.tell(channel, &self.nic, &self.trace)?;
            let frames = self.outgoing.deliver(channel, &self.nic, &self.trace)?;
            let (incoming, outgoing) = channel.rings();
            let (freed, shown) = (incoming.publish(), outgoing.publish());
            channel.signal(if freed.is_needed() { freed } else { shown });
            let all = [packets, told, frames];
            let waits = self.number == 0 && self.outgoing.takes_more() && self.nic.wants_attention();
            if waits || all.contains(&Stopped::Turn) {
                continue;
            }
            let wanted = all.into_iter().filter_map(|stopped| match stopped {
                Stopped::Ring(room) => Some(room),
                _ => None,
            });
            // The minimum: with that much room, each waiter checks again.
            if let Some(room) = wanted.min() {
                let (has_room, signal) = channel.rings().1.wait_for_room(room)?;
                channel.signal(signal);
                if has_room {
                    continue;
                }
            }
            // Packets that wait for room are read again when the guest signals.
            if !matches!(packets, Stopped::Ring(_)) && channel.rings().0.unmask()? {
                continue;
            }
            if frames == Stopped::Empty || self.outgoing.distribute(&self.nic) {
                let woken = self.nic.wake_on_frames(self.number, &**channel.port());
                woken.map_err(|error| ServiceError::Host(format!("an adapter cannot wait for frames: {error}")))?;
            }
            return Ok(());
        }
        Ok(())
    }

    /// Updates the device, because the link may have changed, or another channel was opened or closed.
    fn look_around(&mut self) {
        let nic = self.nic.clone();
        let mut device = nic.device();
        let mut actions = device.set_channels(nic.open_channels());
        actions.extend(device.set_link(nic.is_link_up()));
        drop(device);
        self.carry_out(actions, None);
    }

    /// Reads packets while there is room for their completions.
    fn take_packets(&mut self, channel: &mut Channel) -> Result<Stopped, ServiceError> {
        let room = NewPacket::space(MAX_PAYLOAD);
        let mut buffer = std::mem::take(&mut self.packet);
        let mut stopped = Stopped::Turn;
        let mut taken = 0;
        while taken < BATCH && !channel.port().should_return() {
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
            taken += 1;
        }
        self.packet = buffer;
        if let Some(lane) = self.nic.lane(self.number).filter(|_| taken > 0) {
            lane.count_batch();
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
                self.sent = self.sent.saturating_add(1);
                let status = self.transmit(&request, ranges.ranges());
                if let Some(transaction) = transaction {
                    let completion = rndis_complete(status);
                    channel.rings().1.write(&NewPacket::completion(transaction, &[&completion]))?;
                }
                Ok(())
            }
            _ if !self.outgoing.takes_more() => {
                Err(ServiceError::Protocol("the guest sends requests without reading the replies".into()))
            }
            _ if self.number != 0 => {
                log::debug!("a control message on subchannel {}", self.number);
                self.carry_out([NvspAction::Complete(Vec::new())].into_iter().collect(), transaction);
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

    /// Handles a completion that returns sections.
    fn give_back(&self, transaction: Transaction) {
        let shared = self.nic.shared();
        let mut sections = shared.sections();
        // Sections of a revoked buffer may be returned late.
        if let Some(Err(error)) = sections.as_mut().map(|sections| sections.give_back(self.number, transaction)) {
            log::debug!("{error}");
        }
    }

    /// Sends frames.
    fn transmit(&mut self, request: &SendRndisPacket, ranges: &[GuestBuffer]) -> Status {
        let shared = self.nic.shared();
        let Some(lane) = self.nic.lane(self.number) else { return Status::FAIL };
        let mut queue = lane.queue();
        let counters = self.nic.live_counters();
        let status = self.transmitter.send(&shared.path, request, ranges, counters, |frame| queue.send(frame));
        self.trace.rndis("guest", self.transmitter.transfer());
        status
    }

    /// Passes control messages to the device.
    fn control(&mut self, request: &SendRndisPacket, ranges: &[GuestBuffer]) -> NvspOutcome {
        let path = self.nic.shared().path.clone();
        match self.transmitter.gather(&path, request, ranges) {
            Ok(transfer) => {
                self.trace.rndis("guest", transfer);
                self.nic.device().receive_control(transfer)
            }
            Err(error) => {
                log::debug!("a control message was refused: {error}");
                let completion = rndis_complete(Status::INVALID_RNDIS_PACKET);
                NvspOutcome { actions: [NvspAction::Complete(completion)].into_iter().collect(), refusal: None }
            }
        }
    }

    fn follow(&mut self, outcome: NvspOutcome, transaction: Option<u64>) {
        if let Some(refusal) = outcome.refusal {
            log::debug!("channel {}: {refusal}", self.trace.channel());
        }
        self.carry_out(outcome.actions, transaction);
    }

    /// Carries out the device's actions. Messages are queued after the unsent ones.
    fn carry_out(&mut self, actions: NvspActions, transaction: Option<u64>) {
        for action in actions {
            match action {
                NvspAction::UpdatePath => {
                    let device = self.nic.device();
                    self.nic.update_path(device.path());
                }
                other => self.outgoing.put(other, transaction),
            }
        }
    }
}
