//! The direction to the guest: unsent messages, and frames.

use std::collections::VecDeque;

use smallvec::SmallVec;
use zerocopy::IntoBytes;

use super::super::nic::{Nic, Shared};
use super::super::nvsp::device::NvspAction;
use super::super::nvsp::receive::{MAX_RANGES, RESERVED, ReceiveError, Receiver, TransferPacket};
use super::super::nvsp::sections::Sections;
use super::super::nvsp::wire::Version;
use super::super::trace::ChannelTrace;
use crate::net::frame::FrameBuffer;
use crate::vmbus::packet::{PacketKind, TransferPagesHeader};
use crate::vmbus::ring::{Mark, NewPacket, OutgoingRing};
use crate::vmbus::vsp::{Channel, ServiceError};

/// The transaction id of a packet that is not a reply.
const UNSOLICITED: u64 = 0;

/// Number of packets, and of frames, that are processed before the other direction gets its turn.
pub(super) const BATCH: usize = 256;

/// Maximum number of unsent messages of a guest that does not read them or does not return sections.
pub(super) const MAX_UNSENT: usize = 64;

/// Maximum number of messages that one packet and a link change cause together.
const MAX_ACTIONS: usize = 8;

/// Maximum length of a payload: the message with the send indirection table.
pub(super) const MAX_PAYLOAD: usize = 128;

/// Returns the space that a packet with this number of ranges needs in a ring.
fn transfer_room(ranges: usize) -> u32 {
    NewPacket::space(size_of::<TransferPagesHeader>() + ranges * 8 + MAX_PAYLOAD)
}

/// A message for the guest, in order.
enum Unsent {
    /// The completion of the packet with this transaction id.
    Completion(u64, Vec<u8>),
    /// An in-band message.
    Message(Vec<u8>),
    /// An RNDIS control message, through the receive buffer.
    Control(Vec<u8>),
    /// This number of subchannels: offered by VMBus, after the earlier messages are sent.
    Subchannels(u16),
}

/// The reason why a channel's thread stops an activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// There is nothing left.
    Empty,
    /// The batch is complete: other activities get their turn.
    Turn,
    /// The outgoing ring lacks room for a packet of this size in bytes.
    Ring(u32),
    /// Too few sections of the receive buffer are free. The guest returns sections by completion packets.
    Sections,
}

/// The direction to the guest; see the module's description.
pub(super) struct Outgoing {
    channel: u16,
    receiver: Receiver,
    /// The buffer into which frames are fetched.
    frame: FrameBuffer,
    /// Position in the ring after the packet with the most recent frames.
    mark: Mark,
    /// Number of frames fetched since the last call of [`take_delivered`](Self::take_delivered).
    delivered: u32,
    unsent: VecDeque<Unsent>,
}

impl Outgoing {
    /// Creates the state of channel number `channel`.
    pub fn new(channel: u16) -> Self {
        Self {
            channel,
            receiver: Receiver::new(channel, Version::NEWEST.message_length()),
            frame: FrameBuffer::default(),
            mark: Mark::default(),
            delivered: 0,
            unsent: VecDeque::new(),
        }
    }

    /// Returns the number of frames that were fetched since the last call.
    pub fn take_delivered(&mut self) -> u32 {
        std::mem::take(&mut self.delivered)
    }

    /// Returns `true` if there is room for the messages that another packet can cause.
    pub fn takes_more(&self) -> bool {
        self.unsent.len() + MAX_ACTIONS <= MAX_UNSENT
    }

    /// Queues a message. `transaction` is the id of the packet to complete, or `None` if it requires no completion.
    pub fn put(&mut self, action: NvspAction, transaction: Option<u64>) {
        let unsent = match action {
            NvspAction::Complete(payload) => transaction.map(|transaction| Unsent::Completion(transaction, payload)),
            NvspAction::Send(payload) => Some(Unsent::Message(payload)),
            NvspAction::Indicate(message) => Some(Unsent::Control(message)),
            NvspAction::OfferSubchannels(count) => Some(Unsent::Subchannels(count)),
            NvspAction::UpdatePath => None,
        };
        self.unsent.extend(unsent);
    }

    /// Sends the unsent messages.
    pub fn tell(&mut self, channel: &mut Channel, nic: &Nic, trace: &ChannelTrace) -> Result<Stopped, ServiceError> {
        while let Some(unsent) = self.unsent.front() {
            let room = NewPacket::space(MAX_PAYLOAD);
            let ring = channel.rings().1;
            if !ring.has_room(room)? {
                return Ok(Stopped::Ring(room));
            }
            match unsent {
                Unsent::Completion(transaction, payload) => {
                    trace.nvsp("host", *transaction, payload);
                    ring.write(&NewPacket::completion(*transaction, &[payload]))?;
                }
                Unsent::Message(payload) => {
                    trace.nvsp("host", UNSOLICITED, payload);
                    ring.write(&NewPacket::in_band(UNSOLICITED, &[payload]))?;
                }
                Unsent::Control(message) => {
                    let shared = nic.shared();
                    let mut sections = shared.sections();
                    let packet = match sections.as_mut() {
                        Some(sections) => self.receiver.control(&shared.path, sections, message),
                        None => Err(ReceiveError::NoBuffer),
                    };
                    match packet {
                        Ok(packet) => {
                            trace.rndis("host", message);
                            write(ring, &packet)?;
                        }
                        Err(ReceiveError::Full) => return Ok(Stopped::Sections),
                        Err(error) => log::debug!("a control message for the guest was dropped: {error}"),
                    }
                }
                // Publish the earlier messages first: the driver opens subchannels only after it was told their number.
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

    /// Delivers waiting frames while the guest has room for them. The rest waits in the backend's bounded queue.
    ///
    /// Frames that arrive before the guest has read the previous ones wait until it has, and are then delivered
    /// together. So a busy guest gets more frames for each interrupt.
    pub fn deliver(&mut self, channel: &mut Channel, nic: &Nic, trace: &ChannelTrace) -> Result<Stopped, ServiceError> {
        let (incoming, ring) = channel.rings();
        if incoming.guest_minds_room() && !ring.is_read(self.mark)? {
            return Ok(Stopped::Ring(ring.all_room()));
        }
        let shared = nic.shared();
        let room = transfer_room(MAX_RANGES);
        let mut taken = 0;
        let mut stopped = None;
        while stopped.is_none() {
            if !ring.has_room(room)? {
                return Ok(Stopped::Ring(room));
            }
            while stopped.is_none() && !self.receiver.is_full() {
                stopped = self.add_next(nic, &shared, trace);
                taken += 1;
                if taken >= BATCH {
                    stopped = stopped.or(Some(Stopped::Turn));
                }
            }
            if let Some(packet) = self.receiver.finish(&shared.path) {
                trace.nvsp("host", packet.transaction.0, &packet.payload);
                write(ring, &packet)?;
                self.mark = ring.mark();
            }
        }
        Ok(stopped.unwrap_or(Stopped::Empty))
    }

    /// Lets other channels get their frames while this channel's frames have to wait. Returns `false` if this channel
    /// does not fetch frames for others.
    pub fn distribute(&mut self, nic: &Nic) -> bool {
        let path = nic.shared().path.clone();
        nic.distribute(self.channel, &path, &mut self.frame)
    }

    /// Puts the next frame into sections. Returns the reason to stop if no frame can be fetched.
    fn add_next(&mut self, nic: &Nic, shared: &Shared, trace: &ChannelTrace) -> Option<Stopped> {
        let path = &shared.path;
        if path.running && !shared.sections().as_ref().is_some_and(has_enough) {
            return Some(Stopped::Sections);
        }
        let Some(hash) = nic.fetch(self.channel, path, &mut self.frame) else { return Some(Stopped::Empty) };
        self.delivered = self.delivered.saturating_add(1);
        if !path.wants(&self.frame.bytes) {
            return None;
        }
        trace.frame(&self.frame.bytes);
        let counters = &nic.live_counters().receive;
        let mut sections = shared.sections();
        let added = match sections.as_mut() {
            Some(sections) => self.receiver.add(path, sections, &mut self.frame, hash),
            None => Err(ReceiveError::NoBuffer),
        };
        match added {
            Ok(()) => counters.count(&self.frame.bytes),
            Err(ReceiveError::Full | ReceiveError::NoBuffer) => counters.count_dropped(1),
            Err(error) => {
                log::debug!("a frame for the guest was dropped: {error}");
                counters.count_error();
            }
        }
        None
    }
}

/// Returns `true` if there is room for the longest segment, or as much room as a small buffer can have.
fn has_enough(sections: &Sections) -> bool {
    const LONGEST_SEGMENT: usize = 48;
    sections.free() >= (RESERVED + LONGEST_SEGMENT).min(sections.len() / 2 + RESERVED / 2 + 1)
}

/// Writes a packet for which there is room.
fn write(ring: &mut OutgoingRing, packet: &TransferPacket) -> Result<(), ServiceError> {
    let TransferPacket { transaction, page_set, ranges, payload } = packet;
    let header =
        TransferPagesHeader { page_set: *page_set, sender_owns_set: 0, reserved: 0, range_count: ranges.len() as u32 };
    let mut extra: SmallVec<[u8; 512]> = SmallVec::from_slice(header.as_bytes());
    extra.extend_from_slice(ranges.as_bytes());
    Ok(ring.write(&NewPacket {
        kind: PacketKind::TRANSFER_PAGES,
        wants_completion: true,
        transaction_id: transaction.0,
        extra: &extra,
        payload: &[payload],
    })?)
}
