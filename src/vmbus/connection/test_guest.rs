//! A guest for tests of the host's side.

use super::*;
use crate::vmbus::message::message;
use crate::vmbus::vsp::Offer;
use crate::vmbus::wire::{
    ChannelReference, GpadlCreated, GpadlHeader, GpadlTeardown, GpadlTorndown, MessageType, OpenChannel, OpenResult,
    Status,
};
use crate::wire::guid::{Guid, interface};
use vm_memory::GuestAddress;
use zerocopy::{FromZeros, Immutable, IntoBytes};

pub(super) const PAGES: u64 = 64;

/// A guest and the host's side of its connection, with the most common operations of tests.
pub(super) struct Guest {
    pub(super) host: Connection,
    pub(super) port: ConnectionId,
}

impl Guest {
    pub(super) fn new() -> Self {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), PAGES as usize * 4096)]).unwrap();
        let settings = Settings { max_version: Version::NEWEST, vp_count: 4 };
        Self { host: Connection::new(memory, settings), port: ConnectionId::MESSAGES_5 }
    }

    /// Creates a guest that has connected, and has read its offers of devices 1 to `devices`.
    pub(super) fn connected(devices: u128) -> Self {
        let mut guest = Self::new();
        for device in 1..=devices {
            guest.host.offer(offer(device)).unwrap();
        }
        guest.contact(Version::V5_3);
        guest.post(MessageType::REQUESTOFFERS, &[0u8; 0]);
        guest.messages();
        guest
    }

    pub(super) fn post(
        &mut self,
        message_type: MessageType,
        body: &(impl IntoBytes + Immutable + ?Sized),
    ) -> BusActions {
        self.host.receive(self.port, &message(message_type, body))
    }

    pub(super) fn contact(&mut self, version: Version) -> BusActions {
        self.port = message_connection(version);
        self.post(MessageType::INITIATE_CONTACT, &contact(version))
    }

    pub(super) fn messages(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.host.next_message()).map(|outgoing| outgoing.message).collect()
    }

    pub(super) fn gpadl(&mut self, channel: u32, gpadl: u32, frames: &[u64]) -> BusActions {
        let words = [&[frames.len() as u64 * 4096][..], frames].concat();
        let header = gpadl_header(channel, gpadl, 8 * words.len() as u16, 1);
        self.post(MessageType::GPADL_HEADER, &[header.as_bytes(), words.as_bytes()].concat()[..])
    }

    pub(super) fn teardown(&mut self, channel: u32, gpadl: u32) -> BusActions {
        let body = GpadlTeardown { channel: ChannelId(channel), gpadl: GpadlId(gpadl) };
        self.post(MessageType::GPADL_TEARDOWN, &body)
    }

    pub(super) fn open(&mut self, channel: u32, gpadl: u32) -> BusActions {
        self.post(MessageType::OPENCHANNEL, &open_channel(channel, gpadl))
    }

    pub(super) fn close(&mut self, channel: u32) -> BusActions {
        self.post(MessageType::CLOSECHANNEL, &ChannelReference { channel: ChannelId(channel) })
    }

    pub(super) fn release(&mut self, channel: u32) -> BusActions {
        self.post(MessageType::RELID_RELEASED, &ChannelReference { channel: ChannelId(channel) })
    }

    /// Opens a channel on a GPADL with the same number, and reads the replies.
    pub(super) fn open_fully(&mut self, channel: u32) {
        assert!(self.gpadl(channel, channel, &[0, 1, 2, 3]).is_empty());
        assert!(matches!(self.open(channel, channel)[..], [BusAction::Open(_)]));
        assert!(self.host.opened(ChannelId(channel), true).is_empty());
        assert_eq!(self.messages(), [created(channel, channel, true), open_result(channel, true)]);
    }
}

pub(super) fn offer(device: u128) -> Offer {
    Offer::new(interface::SCSI, Guid::new(device))
}

pub(super) fn contact(version: Version) -> InitiateContact {
    let mut contact = InitiateContact::new_zeroed();
    contact.version = version;
    contact.target_vp = VpIndex(3);
    contact.interrupt_page_or_target[0] = SintIndex::VMBUS.get();
    contact
}

pub(super) fn gpadl_header(channel: u32, gpadl: u32, range_bytes: u16, range_count: u16) -> GpadlHeader {
    GpadlHeader { channel: ChannelId(channel), gpadl: GpadlId(gpadl), range_bytes, range_count }
}

pub(super) fn open_channel(channel: u32, gpadl: u32) -> OpenChannel {
    OpenChannel {
        channel: ChannelId(channel),
        open_id: channel + 100,
        ring_gpadl: GpadlId(gpadl),
        target_vp: VpIndex(1),
        downstream_offset: 2,
        user_defined: UserDefined::default(),
    }
}

pub(super) fn status(success: bool) -> Status {
    if success { Status::SUCCESS } else { Status::UNSUCCESSFUL }
}

pub(super) fn created(channel: u32, gpadl: u32, success: bool) -> Message {
    let (channel, gpadl) = (ChannelId(channel), GpadlId(gpadl));
    Message::GpadlCreated(GpadlCreated { channel, gpadl, status: status(success) })
}

pub(super) fn open_result(channel: u32, success: bool) -> Message {
    let open_id = channel + 100;
    let status = status(success);
    Message::OpenResult(OpenResult { channel: ChannelId(channel), open_id, status })
}

pub(super) fn torndown(gpadl: u32) -> Message {
    Message::GpadlTorndown(GpadlTorndown { gpadl: GpadlId(gpadl) })
}

pub(super) fn rescinded(channel: u32) -> Message {
    Message::RescindChannelOffer(ChannelReference { channel: ChannelId(channel) })
}

pub(super) fn offered(messages: &[Message]) -> Vec<u32> {
    let channel = |message: &Message| match message {
        Message::OfferChannel(offer) => Some(offer.channel.0),
        _ => None,
    };
    messages.iter().filter_map(channel).collect()
}

pub(super) fn version_response(supported: u8, connection_id: u32) -> Message {
    Message::VersionResponse(VersionResponse { supported, connection_state: 0, reserved: 0, connection_id })
}

#[track_caller]
pub(super) fn refused(actions: &BusActions) -> Refusal {
    match actions[..] {
        [BusAction::Refuse(refusal)] => refusal,
        _ => panic!("{actions:?} is no refusal alone"),
    }
}

pub(super) fn offered_again(guest: &mut Guest) -> Vec<u32> {
    guest.contact(Version::V5_3);
    guest.post(MessageType::REQUESTOFFERS, &[0u8; 0]);
    offered(&guest.messages())
}
