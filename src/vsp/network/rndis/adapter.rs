//! The adapter, which answers control messages.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};
use zerocopy::{FromBytes, IntoBytes};

use super::offload::{self, Offloads};
use super::oid::Oid;
use super::receive_scale;
use super::statistics;
use super::wire::{
    Complete, HEADER, IndicateStatus, Initialize, InitializeComplete, MessageHeader, MessageType, ObjectHeader,
    QueryComplete, Request, RequestId, ResetComplete, Status, message,
};
use crate::net::counters::NetCounters;
use crate::net::frame::{ETHERNET_HEADER, VLAN_TAG};
use crate::net::mac::MacAddress;
use crate::net::rss::Scaling;

/// Maximum length of the multicast list. Guests with more groups request all multicast frames.
pub(super) const MAX_MULTICAST: usize = 32;

/// Maximum length of a control message. A driver that sets a table and a key needs far less.
pub const MAX_CONTROL: usize = 4096;

/// Maximum number of data messages in a transfer. Linux puts at most this many into a section of the send buffer.
pub const MAX_PACKETS: u32 = 8;

/// Data messages of a transfer start at multiples of two to this power.
const ALIGNMENT_FACTOR: u32 = 3;

/// Maximum length of a transfer: a segment of maximum length with its per-packet information.
pub const MAX_TRANSFER: usize = 128 << 10;

/// The settings of an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The permanent address.
    pub address: MacAddress,
    /// Size of the largest IP packet.
    pub mtu: u16,
    /// Maximum number of channels.
    pub queues: u16,
    /// Link speed that the guest sees, in bits per second.
    pub link_speed: u64,
    /// The friendly name of the adapter, up to 255 characters.
    pub name: String,
}

/// Messages for the guest.
pub type Messages = SmallVec<[Vec<u8>; 2]>;

/// The result of a control message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RndisOutcome {
    /// Messages for the guest, in order.
    pub replies: Messages,
    /// Whether the path of frames must be updated, because the filter, the offloads or the scaling may have changed.
    pub changed: bool,
    /// The reason why the message was dropped, for the log.
    pub refusal: Option<Refusal>,
}

/// The reason why a control message was dropped without a reply: it cannot be replied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its length does not match its header, or its body is incomplete.
    #[error("a control message of {0} bytes is truncated")]
    Length(usize),
    /// Guests do not send messages of this type.
    #[error("{0} is not a control message of a guest")]
    Type(MessageType),
}

/// The adapter; see the module's description.
#[derive(Clone, Debug)]
pub struct Adapter {
    pub(super) settings: Settings,
    pub(super) packet_filter: u32,
    pub(super) multicast: Vec<MacAddress>,
    /// The current address, which the guest can set.
    pub(super) address: MacAddress,
    pub(super) offloads: Offloads,
    pub(super) scaling: Option<Scaling>,
    coalescing: bool,
    mtu: u16,
    link_up: bool,
    initialized: bool,
    counters: Arc<NetCounters>,
}

impl Adapter {
    /// Creates an adapter that has not been initialised.
    pub fn new(settings: Settings, counters: Arc<NetCounters>) -> Self {
        let (address, mtu) = (settings.address, settings.mtu);
        Self {
            settings,
            packet_filter: 0,
            multicast: Vec::new(),
            address,
            offloads: Offloads::all(false),
            scaling: None,
            coalescing: false,
            mtu,
            link_up: true,
            initialized: false,
            counters,
        }
    }

    /// Returns to the initial state, as when a driver reopens the channel. The link does not change.
    ///
    /// `mtu` is the MTU that the driver announced; `coalescing` is `true` if it reassembles segments.
    pub fn restart(&mut self, mtu: u16, coalescing: bool) {
        let link_up = self.link_up;
        *self = Self::new(self.settings.clone(), self.counters.clone());
        (self.link_up, self.coalescing) = (link_up, coalescing);
        self.mtu = mtu.min(self.settings.mtu);
    }

    /// Returns the settings of the adapter.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the counters.
    pub fn counters(&self) -> &Arc<NetCounters> {
        &self.counters
    }

    /// Returns `true` if frames are transferred: the driver has initialised the adapter and the link is up.
    pub fn is_running(&self) -> bool {
        self.initialized && self.link_up
    }

    /// Returns the offloads that the guest has enabled.
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Returns the distribution of frames over channels.
    pub fn scaling(&self) -> Option<&Scaling> {
        self.scaling.as_ref()
    }

    /// Returns the size of the largest IP packet in use.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Returns the packet filter: bits, the guest's address, and its multicast groups.
    pub fn filter(&self) -> (u32, MacAddress, &[MacAddress]) {
        (self.packet_filter, self.address, &self.multicast)
    }

    pub(super) fn supported(&self) -> Offloads {
        Offloads::all(self.coalescing)
    }

    /// Processes a control message, possibly followed by padding.
    pub fn receive(&mut self, bytes: &[u8]) -> RndisOutcome {
        let cut_off = Refusal::Length(bytes.len());
        let refused = |refusal| RndisOutcome { refusal: Some(refusal), ..RndisOutcome::default() };
        let Ok((header, _)) = MessageHeader::read_from_prefix(bytes) else { return refused(cut_off) };
        let body = usize::try_from(header.length).ok().and_then(|length| bytes.get(HEADER..length));
        let Some(body) = body else { return refused(cut_off) };
        let outcome = match header.message_type {
            MessageType::INITIALIZE => self.initialize(body),
            MessageType::HALT => Some(self.halt()),
            MessageType::QUERY => self.receive_query(body),
            MessageType::SET => self.receive_set(body),
            MessageType::RESET => Some(self.reset()),
            MessageType::KEEPALIVE => keep_alive(body),
            other => Some(refused(Refusal::Type(other))),
        };
        outcome.unwrap_or_else(|| refused(cut_off))
    }

    fn initialize(&mut self, body: &[u8]) -> Option<RndisOutcome> {
        let (request, _) = Initialize::read_from_prefix(body).ok()?;
        let status = if request.major_version == 1 { Status::SUCCESS } else { Status::BAD_VERSION };
        self.initialized = status == Status::SUCCESS;
        let complete = InitializeComplete {
            request_id: request.request_id,
            status,
            major_version: 1,
            minor_version: 0,
            device_flags: 1,
            medium: 0,
            max_packets_per_message: MAX_PACKETS,
            max_transfer_size: MAX_TRANSFER as u32,
            packet_alignment_factor: ALIGNMENT_FACTOR,
            reserved: [0; 2],
        };
        Some(answer(message(MessageType::INITIALIZE_COMPLETE, &complete, &[]), true))
    }

    fn halt(&mut self) -> RndisOutcome {
        self.initialized = false;
        self.packet_filter = 0;
        RndisOutcome { changed: true, ..RndisOutcome::default() }
    }

    fn reset(&mut self) -> RndisOutcome {
        self.packet_filter = 0;
        self.multicast.clear();
        let complete = ResetComplete { status: Status::SUCCESS, addressing_reset: 1 };
        answer(message(MessageType::RESET_COMPLETE, &complete, &[]), true)
    }

    fn receive_query(&mut self, body: &[u8]) -> Option<RndisOutcome> {
        let (request, information) = read_request(body)?;
        let value = match information {
            Some(information) => self.query(request.oid, information).ok_or(Status::NOT_SUPPORTED),
            None => Err(Status::INVALID_DATA),
        };
        let (status, value) = value.map_or_else(|status| (status, Vec::new()), |value| (Status::SUCCESS, value));
        let complete = QueryComplete {
            request_id: request.request_id,
            status,
            information_length: value.len() as u32,
            information_offset: size_of::<QueryComplete>() as u32,
        };
        Some(answer(message(MessageType::QUERY_COMPLETE, &complete, &value), false))
    }

    fn receive_set(&mut self, body: &[u8]) -> Option<RndisOutcome> {
        let (request, information) = read_request(body)?;
        let result = information.ok_or(Status::INVALID_DATA).and_then(|information| self.set(request.oid, information));
        let status = result.err().unwrap_or(Status::SUCCESS);
        let complete = Complete { request_id: request.request_id, status };
        let mut outcome = answer(message(MessageType::SET_COMPLETE, &complete, &[]), status == Status::SUCCESS);
        if outcome.changed && request.oid == Oid::TCP_OFFLOAD_PARAMETERS {
            // Windows waits for this before it uses the offloads that it has enabled.
            let now = self.offloads.to_bytes(3);
            outcome.replies.push(indicate(Status::TASK_OFFLOAD_CURRENT_CONFIG, &now));
        }
        Some(outcome)
    }

    /// Sets the link up or down. Returns messages for a driver that has initialised the adapter.
    pub fn set_link(&mut self, up: bool) -> Messages {
        let changed = self.link_up != up;
        self.link_up = up;
        let status = if up { Status::MEDIA_CONNECT } else { Status::MEDIA_DISCONNECT };
        if changed && self.initialized { smallvec![indicate(status, &[])] } else { Messages::new() }
    }

    /// Changes the link speed that the guest sees.
    #[cfg(test)]
    pub fn set_link_speed(&mut self, bits_per_second: u64) -> Messages {
        self.settings.link_speed = bits_per_second;
        let units = self.link_speed_units();
        let indicated = self.initialized.then(|| indicate(Status::LINK_SPEED_CHANGE, units.as_bytes()));
        indicated.into_iter().collect()
    }

    /// Returns the link speed in units of 100 bits per second, for `OID_GEN_LINK_SPEED`.
    fn link_speed_units(&self) -> u32 {
        u32::try_from(self.settings.link_speed / 100).unwrap_or(u32::MAX)
    }

    fn query(&self, oid: Oid, information: &[u8]) -> Option<Vec<u8>> {
        let word = |value: u32| value.as_bytes().to_vec();
        let frame = u32::from(self.mtu) + ETHERNET_HEADER as u32;
        Some(match oid {
            Oid::GEN_SUPPORTED_LIST => Oid::ALL.as_bytes().to_vec(),
            // Ready; Ethernet, twice; full options, none set.
            Oid::GEN_HARDWARE_STATUS
            | Oid::GEN_MEDIA_SUPPORTED
            | Oid::GEN_MEDIA_IN_USE
            | Oid::GEN_PROTOCOL_OPTIONS
            | Oid::ETHERNET_MAC_OPTIONS => word(0),
            Oid::GEN_MAXIMUM_LOOKAHEAD | Oid::GEN_CURRENT_LOOKAHEAD | Oid::GEN_MAXIMUM_FRAME_SIZE => {
                word(self.mtu.into())
            }
            Oid::GEN_MAXIMUM_TOTAL_SIZE => word(frame + VLAN_TAG as u32),
            Oid::GEN_TRANSMIT_BLOCK_SIZE | Oid::GEN_RECEIVE_BLOCK_SIZE => word(frame),
            Oid::GEN_TRANSMIT_BUFFER_SPACE | Oid::GEN_RECEIVE_BUFFER_SPACE => word(256 << 10),
            Oid::GEN_LINK_SPEED => word(self.link_speed_units()),
            // The prefix of Hyper-V's addresses.
            Oid::GEN_VENDOR_ID => word(0x155d),
            Oid::GEN_VENDOR_DESCRIPTION => b"Viridian\0".to_vec(),
            Oid::GEN_VENDOR_DRIVER_VERSION => word(1),
            // NDIS 6.30.
            Oid::GEN_DRIVER_VERSION => 0x061e_u16.as_bytes().to_vec(),
            Oid::GEN_CURRENT_PACKET_FILTER => word(self.packet_filter),
            Oid::GEN_MAC_OPTIONS => word(MAC_OPTIONS),
            Oid::GEN_MEDIA_CONNECT_STATUS => word((!self.link_up).into()),
            Oid::GEN_MAXIMUM_SEND_PACKETS => word(MAX_PACKETS),
            Oid::GEN_FRIENDLY_NAME => self.friendly_name(),
            Oid::GEN_LINK_STATE => self.link_state(),
            Oid::GEN_MAX_LINK_SPEED => [self.settings.link_speed; 2].as_bytes().to_vec(),
            Oid::GEN_STATISTICS => statistics::to_bytes(&self.counters.snapshot()),
            Oid::ETHERNET_PERMANENT_ADDRESS => self.settings.address.0.to_vec(),
            Oid::ETHERNET_CURRENT_ADDRESS => self.address.0.to_vec(),
            Oid::ETHERNET_MULTICAST_LIST => self.multicast.as_bytes().to_vec(),
            Oid::ETHERNET_MAXIMUM_LIST_SIZE => word(MAX_MULTICAST as u32),
            Oid::TCP_OFFLOAD_HARDWARE_CAPABILITIES => self.supported().to_bytes(revision(information)),
            Oid::TCP_OFFLOAD_CURRENT_CONFIG => self.offloads.to_bytes(revision(information)),
            Oid::OFFLOAD_ENCAPSULATION => offload::encapsulation(),
            Oid::GEN_RECEIVE_SCALE_CAPABILITIES => receive_scale::capabilities(self.settings.queues),
            Oid::GEN_RECEIVE_SCALE_PARAMETERS => receive_scale::parameters(self.scaling.as_ref()),
            counter => statistics::counter(&self.counters.snapshot(), counter)?.as_bytes().to_vec(),
        })
    }

    /// Returns the name in UTF-16, in a field of the size that `NDIS_FRIENDLY_NAME` has.
    fn friendly_name(&self) -> Vec<u8> {
        let mut name = [0_u16; 256];
        name.iter_mut().zip(self.settings.name.encode_utf16().take(255)).for_each(|(place, unit)| *place = unit);
        name.as_bytes().to_vec()
    }

    /// `NDIS_LINK_STATE`.
    fn link_state(&self) -> Vec<u8> {
        const SIZE: u16 = 40;
        const FULL_DUPLEX: u32 = 2;
        let header = ObjectHeader { object_type: ObjectHeader::DEFAULT, revision: 1, size: SIZE };
        let connected = if self.link_up { 1_u32 } else { 2 };
        let speed = self.settings.link_speed;
        let words = [connected, FULL_DUPLEX, 0];
        [header.as_bytes(), words.as_bytes(), [speed; 2].as_bytes(), [0_u32; 2].as_bytes()].concat()
    }
}

/// No loopback, transfers do not pend, priorities and VLAN tags in the per-packet information (`NDIS_MAC_OPTION_*`).
const MAC_OPTIONS: u32 = 0x1 | 0x4 | 0x8 | 0x40 | 0x200;

fn answer(reply: Vec<u8>, changed: bool) -> RndisOutcome {
    RndisOutcome { replies: smallvec![reply], changed, refusal: None }
}

fn keep_alive(body: &[u8]) -> Option<RndisOutcome> {
    let (RequestId { request_id }, _) = RequestId::read_from_prefix(body).ok()?;
    let complete = Complete { request_id, status: Status::SUCCESS };
    Some(answer(message(MessageType::KEEPALIVE_COMPLETE, &complete, &[]), false))
}

/// Parses a query or set and its information, which is `None` if it exceeds the message.
fn read_request(body: &[u8]) -> Option<(Request, Option<&[u8]>)> {
    let (request, _) = Request::read_from_prefix(body).ok()?;
    let start = request.information_offset as usize;
    let end = start.checked_add(request.information_length as usize);
    let information = match request.information_length {
        0 => Some(&[][..]),
        _ => end.and_then(|end| body.get(start..end)),
    };
    Some((request, information))
}

/// Returns the revision of the structure that a driver requests, from the structure's header that it sends.
fn revision(information: &[u8]) -> u8 {
    ObjectHeader::read_from_prefix(information).map_or(3, |(header, _)| header.revision)
}

/// Returns a message that reports a change to the guest.
fn indicate(status: Status, buffer: &[u8]) -> Vec<u8> {
    let buffer_offset = if buffer.is_empty() { 0 } else { size_of::<IndicateStatus>() as u32 };
    let body = IndicateStatus { status, buffer_length: buffer.len() as u32, buffer_offset };
    message(MessageType::INDICATE_STATUS, &body, buffer)
}

#[cfg(test)]
#[path = "adapter_tests.rs"]
mod tests;
