//! The guest's side of opening a channel, for tests of devices.

use std::ops::Range;

use zerocopy::{FromZeros, IntoBytes};

use super::connection::{BusAction, BusActions, Connection, Opening, Settings};
use super::ids::{ChannelId, ConnectionId, GpadlId, Version, VpIndex};
use super::message::message;
use super::vsp::Offer;
use super::wire::{GpadlBody, GpadlHeader, InitiateContact, MessageType, OpenChannel, UserDefined};
use crate::memory::GuestMemory;

/// A bus that a guest has connected to.
pub struct GuestBus {
    connection: Connection,
}

impl GuestBus {
    /// Creates the bus of a guest with this memory and number of VPs.
    pub fn new(memory: &GuestMemory, vp_count: u32) -> Self {
        let settings = Settings { max_version: Version::NEWEST, vp_count };
        let mut bus = Self { connection: Connection::new(memory.clone(), settings) };
        let mut contact = InitiateContact::new_zeroed();
        contact.version = Version::V5_3;
        contact.interrupt_page_or_target[0] = 2;
        assert!(bus.post(&message(MessageType::INITIATE_CONTACT, &contact)).is_empty());
        bus
    }

    fn post(&mut self, bytes: &[u8]) -> BusActions {
        self.connection.receive(ConnectionId::MESSAGES_5, bytes)
    }

    /// Offers a channel, and requests the offers as a guest.
    pub fn offer(&mut self, offer: Offer) -> ChannelId {
        let channel = self.connection.offer(offer).expect("an offer");
        self.post(&message(MessageType::REQUESTOFFERS, &[0_u8; 0]));
        channel
    }

    /// Creates a GPADL as a guest.
    pub fn gpadl(&mut self, channel: ChannelId, gpadl: GpadlId, pages: Range<u64>) {
        /// Number of page numbers per message.
        const WORDS: usize = 20;
        let bytes = (pages.end - pages.start) * 4096;
        let words: Vec<u64> = [bytes].into_iter().chain(pages).collect();
        let (now, later) = words.split_at(words.len().min(WORDS));
        let head = GpadlHeader { channel, gpadl, range_bytes: words.len() as u16 * 8, range_count: 1 };
        self.post(&message(MessageType::GPADL_HEADER, &[head.as_bytes(), now.as_bytes()].concat()[..]));
        for part in later.chunks(WORDS) {
            let body = GpadlBody { message_number: 0, gpadl };
            self.post(&message(MessageType::GPADL_BODY, &[body.as_bytes(), part.as_bytes()].concat()[..]));
        }
    }

    /// Opens a channel as a guest, with two rings of `ring_pages` pages each. Returns the [`Opening`], which the device needs.
    pub fn open(&mut self, channel: ChannelId, ring_gpadl: GpadlId, ring_pages: u32) -> Opening {
        let request = OpenChannel {
            channel,
            open_id: 1,
            ring_gpadl,
            target_vp: VpIndex(0),
            downstream_offset: ring_pages,
            user_defined: UserDefined::default(),
        };
        match &self.post(&message(MessageType::OPENCHANNEL, &request))[..] {
            [BusAction::Open(opening)] => *opening.clone(),
            actions => panic!("{actions:?}"),
        }
    }

    /// Completes the opening of a channel.
    pub fn opened(&mut self, channel: ChannelId) {
        assert!(self.connection.opened(channel, true).is_empty());
    }
}
