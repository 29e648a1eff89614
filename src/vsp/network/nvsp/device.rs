//! The state machine of the primary channel.
//!
//! A driver requests a version ([`Init`]), states its configuration, shares the two buffers, and then uses RNDIS. It
//! can request subchannels once. It can revoke its buffers at any time. To start again, it closes the channel and
//! reopens it.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::path::{Path, ReceiveBuffer, SendBuffer, receive_section};
use super::wire;
use super::wire::{
    Init, InitComplete, MessageType, NdisConfig, NdisVersion, OidQueryComplete, PacketDirectComplete,
    ReceiveBufferComplete, RevokeBuffer, SendBufferComplete, SendRndisPacketComplete, Status, Subchannel,
    SwitchDataPath, Version, indirection_table, message, split,
};
use crate::net::frame::ETHERNET_HEADER;
use crate::vmbus::gpadl::Gpadl;
use crate::vmbus::ids::GpadlId;
use crate::vmbus::vsp::Channel;
use crate::vsp::network::rndis::adapter::{Adapter, Messages, Refusal as RndisRefusal};

/// Maximum number of pieces of a GPA-direct packet, as in Hyper-V. Drivers know this themselves.
const MAX_PIECES: u32 = 34;

/// Section size of the send buffer. Linux copies frames that fit in a section.
pub const SEND_SECTION: u32 = 6144;

/// Minimum number of sections of a receive buffer.
const MIN_RECEIVE_SECTIONS: u32 = 16;

/// Maximum size of a guest's buffer: a GPADL does not have more pages.
const MAX_BUFFER: usize = 32 << 20;

/// Minimum MTU that a guest may announce (IPv4's minimum).
const MIN_MTU: u16 = 68;

/// MTU of drivers that do not announce one.
const DEFAULT_MTU: u16 = 1500;

/// Access to the GPADLs that the guest has created on the channel.
pub trait Gpadls {
    /// Returns the GPADL with this id.
    fn find(&self, id: GpadlId) -> Option<Arc<Gpadl>>;
}

impl Gpadls for Channel {
    fn find(&self, id: GpadlId) -> Option<Arc<Gpadl>> {
        self.gpadl(id)
    }
}

/// An action for the owner of the channel, to be taken in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NvspAction {
    /// Reply to the packet that was passed to [`NvspDevice::receive`]. The payload may be empty.
    Complete(Vec<u8>),
    /// Send an in-band packet that needs no completion.
    Send(Vec<u8>),
    /// Send an RNDIS control message through the receive buffer.
    Indicate(Vec<u8>),
    /// Use the new [`NvspDevice::path`] on every channel. After that, the guest may reuse the memory of the old one.
    UpdatePath,
    /// Offer this number of subchannels.
    OfferSubchannels(u16),
}

/// A list of actions.
pub type NvspActions = SmallVec<[NvspAction; 3]>;

/// The reason why a message was refused, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The message is too short.
    #[error("{message_type} with {length} bytes is too short")]
    Short {
        /// Its type.
        message_type: MessageType,
        /// Length of its body.
        length: usize,
    },
    /// The message is not allowed, or not in this state.
    #[error("{0} is not allowed now")]
    Unexpected(MessageType),
    /// The packet is empty.
    #[error("a packet without a message")]
    Empty,
    /// The GPADL does not exist, is not a single range, or has the wrong size.
    #[error("GPADL {0} is not a valid buffer")]
    Buffer(GpadlId),
    /// The adapter refused it.
    #[error(transparent)]
    Rndis(#[from] RndisRefusal),
}

/// The result of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NvspOutcome {
    /// The actions to take.
    pub actions: NvspActions,
    /// The reason why the message was refused, if it was.
    pub refusal: Option<Refusal>,
}

impl NvspOutcome {
    fn actions(actions: NvspActions) -> Self {
        Self { actions, refusal: None }
    }

    fn refused(refusal: Refusal, actions: NvspActions) -> Self {
        Self { actions, refusal: Some(refusal) }
    }
}

/// The state machine; see the module's description.
#[derive(Debug)]
pub struct NvspDevice {
    newest: Version,
    version: Option<Version>,
    adapter: Adapter,
    path: Arc<Path>,
    generation: u64,
    subchannels_asked: bool,
}

impl NvspDevice {
    /// Creates a device whose channel is about to be opened. It accepts versions up to `newest`.
    pub fn new(newest: Version, adapter: Adapter) -> Self {
        Self { newest, version: None, adapter, path: Arc::default(), generation: 0, subchannels_asked: false }
    }

    /// Returns to the initial state, because the channel was closed or opened. All channels must use the new
    /// [`path`](Self::path).
    pub fn restart(&mut self) {
        let mtu = self.adapter.settings().mtu;
        self.adapter.restart(mtu, false);
        self.version = None;
        self.subchannels_asked = false;
        self.path = Arc::default();
    }

    /// Returns the negotiated version.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Returns the adapter.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// Returns the present path of frames.
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// Sets the link up or down.
    pub fn set_link(&mut self, up: bool) -> NvspActions {
        let messages = self.adapter.set_link(up);
        self.follow(messages)
    }

    /// Processes an in-band packet of the primary channel that is not an RNDIS packet.
    pub fn receive(&mut self, payload: &[u8], gpadls: &impl Gpadls) -> NvspOutcome {
        let Some((message_type, body)) = split(payload) else { return NvspOutcome::refused(Refusal::Empty, done()) };
        let Some(version) = self.version else {
            return match message_type {
                MessageType::INIT => self.init(body),
                _ => NvspOutcome::refused(Refusal::Unexpected(message_type), done()),
            };
        };
        match message_type {
            MessageType::SEND_NDIS_VERSION => {
                with(message_type, body, |NdisVersion { .. }| NvspOutcome::actions(done()))
            }
            MessageType::SEND_NDIS_CONFIG if version >= Version::V2 => {
                with(message_type, body, |config| self.configure(version, &config))
            }
            MessageType::SEND_RECEIVE_BUFFER => with(message_type, body, |buffer| self.receive_buffer(&buffer, gpadls)),
            MessageType::SEND_SEND_BUFFER => with(message_type, body, |buffer| self.send_buffer(&buffer, gpadls)),
            MessageType::REVOKE_RECEIVE_BUFFER => {
                with(message_type, body, |RevokeBuffer { .. }| self.change_path(|path| path.receive = None))
            }
            MessageType::REVOKE_SEND_BUFFER => {
                with(message_type, body, |RevokeBuffer { .. }| self.change_path(|path| path.send = None))
            }
            // There is no virtual function. The completion has no status, so the guest assumes success, and nothing
            // happens.
            MessageType::SWITCH_DATA_PATH if version >= Version::V4 => {
                with(message_type, body, |SwitchDataPath { .. }| NvspOutcome::actions(done()))
            }
            MessageType::SUBCHANNEL if version >= Version::V5 => {
                with(message_type, body, |request| self.subchannels(&request))
            }
            MessageType::OID_QUERY_EX if version >= Version::V5 => {
                let status = crate::vsp::network::rndis::wire::Status::NOT_SUPPORTED.0;
                self.complete(MessageType::OID_QUERY_EX_COMPLETE, &OidQueryComplete { status, length: 0 })
            }
            MessageType::PD_API if version >= Version::V6 => with(message_type, body, |operation| {
                self.complete(MessageType::PD_API, &PacketDirectComplete { operation, status: Status::FAIL })
            }),
            other => NvspOutcome::refused(Refusal::Unexpected(other), done()),
        }
    }

    /// Processes and completes a `SEND_RNDIS_PACKET` with RNDIS control messages.
    pub fn receive_control(&mut self, transfer: &[u8]) -> NvspOutcome {
        if self.path.receive.is_none() {
            let refusal = Refusal::Unexpected(MessageType::SEND_RNDIS_PACKET);
            return NvspOutcome::refused(refusal, smallvec![NvspAction::Complete(rndis_complete(Status::FAIL))]);
        }
        let outcome = self.adapter.receive(transfer);
        let status = if outcome.refusal.is_some() { Status::INVALID_RNDIS_PACKET } else { Status::SUCCESS };
        let mut actions: NvspActions = smallvec![NvspAction::Complete(rndis_complete(status))];
        if outcome.changed {
            actions.extend(self.follow(outcome.replies));
        } else {
            actions.extend(outcome.replies.into_iter().map(NvspAction::Indicate));
        }
        NvspOutcome { actions, refusal: outcome.refusal.map(Refusal::Rndis) }
    }

    /// The path must follow the adapter's state before the guest reads the reply.
    fn follow(&mut self, messages: Messages) -> NvspActions {
        let adapter = &self.adapter;
        Arc::make_mut(&mut self.path).follow(adapter);
        let messages = messages.into_iter().map(NvspAction::Indicate);
        [NvspAction::UpdatePath].into_iter().chain(messages).collect()
    }

    fn init(&mut self, body: &[u8]) -> NvspOutcome {
        with(MessageType::INIT, body, |Init { minimum, maximum }| {
            let spoken = |version: &Version| {
                *version <= self.newest && (minimum.min(maximum)..=maximum).contains(&version.number())
            };
            let version = Version::ALL.into_iter().rev().find(spoken);
            let oldest = Version::V1.number();
            let status = match version {
                Some(_) => Status::SUCCESS,
                None if maximum < oldest => Status::PROTOCOL_TOO_OLD,
                None => Status::PROTOCOL_TOO_NEW,
            };
            let complete =
                InitComplete { version: version.map_or(u32::MAX, Version::number), maximum_pieces: MAX_PIECES, status };
            self.version = version;
            if version.is_some() {
                self.adapter.restart(DEFAULT_MTU, false);
            }
            self.complete(MessageType::INIT_COMPLETE, &complete)
        })
    }

    fn configure(&mut self, version: Version, config: &NdisConfig) -> NvspOutcome {
        // An existing buffer was divided for the old frame length.
        if self.path.receive.is_some() {
            return NvspOutcome::refused(Refusal::Unexpected(MessageType::SEND_NDIS_CONFIG), done());
        }
        let mtu = u16::try_from(config.frame_length.saturating_sub(ETHERNET_HEADER as u32)).unwrap_or(u16::MAX);
        let has = |capability| config.capabilities[0] & capability != 0;
        let coalescing = version >= Version::V6_1 && has(NdisConfig::COALESCING);
        self.adapter.restart(mtu.max(MIN_MTU), coalescing);
        self.change_path(|path| path.vlan_beside = has(NdisConfig::VLAN))
    }

    fn receive_buffer(&mut self, request: &wire::SendBuffer, gpadls: &impl Gpadls) -> NvspOutcome {
        let section_size = receive_section(self.adapter.mtu());
        let memory = self.buffer(request.gpadl, gpadls, section_size * MIN_RECEIVE_SECTIONS);
        let (Some(memory), None) = (memory, &self.path.receive) else {
            let failed = ReceiveBufferComplete {
                status: Status::FAIL,
                division_count: 0,
                offset: 0,
                section_size: 0,
                section_count: 0,
                end_offset: 0,
            };
            let outcome = self.complete(MessageType::SEND_RECEIVE_BUFFER_COMPLETE, &failed);
            return NvspOutcome::refused(Refusal::Buffer(request.gpadl), outcome.actions);
        };
        let section_count = memory.len() as u32 / section_size;
        let complete = ReceiveBufferComplete {
            status: Status::SUCCESS,
            division_count: 1,
            offset: 0,
            section_size,
            section_count,
            end_offset: section_size * section_count,
        };
        self.generation += 1;
        let (id, generation) = (request.id, self.generation);
        let buffer = ReceiveBuffer { memory, gpadl: request.gpadl, id, section_size, section_count, generation };
        let mut outcome = self.change_path(|path| path.receive = Some(buffer));
        outcome.actions = smallvec![NvspAction::UpdatePath];
        outcome.actions.extend(self.complete(MessageType::SEND_RECEIVE_BUFFER_COMPLETE, &complete).actions);
        outcome
    }

    fn send_buffer(&mut self, request: &wire::SendBuffer, gpadls: &impl Gpadls) -> NvspOutcome {
        let memory = self.buffer(request.gpadl, gpadls, SEND_SECTION);
        let (Some(memory), None) = (memory, &self.path.send) else {
            let failed = SendBufferComplete { status: Status::FAIL, section_size: 0 };
            let outcome = self.complete(MessageType::SEND_SEND_BUFFER_COMPLETE, &failed);
            return NvspOutcome::refused(Refusal::Buffer(request.gpadl), outcome.actions);
        };
        let buffer = SendBuffer { memory, gpadl: request.gpadl, section_size: SEND_SECTION };
        let complete = SendBufferComplete { status: Status::SUCCESS, section_size: SEND_SECTION };
        let mut outcome = self.change_path(|path| path.send = Some(buffer));
        outcome.actions = smallvec![NvspAction::UpdatePath];
        outcome.actions.extend(self.complete(MessageType::SEND_SEND_BUFFER_COMPLETE, &complete).actions);
        outcome
    }

    fn buffer(&self, id: GpadlId, gpadls: &impl Gpadls, least: u32) -> Option<crate::memory::buffer::GuestBuffer> {
        let gpadl = gpadls.find(id)?;
        let buffer = gpadl.single()?;
        (least as usize..=MAX_BUFFER).contains(&buffer.len()).then(|| buffer.clone())
    }

    fn subchannels(&mut self, request: &Subchannel) -> NvspOutcome {
        const ALLOCATE: u32 = 1;
        let possible = self.adapter.settings().queues.saturating_sub(1);
        let answer = |status: Status, count: u16| Subchannel { operation_or_status: status.0, count: count.into() };
        if request.operation_or_status != ALLOCATE || self.subchannels_asked || self.path.receive.is_none() {
            let outcome = self.complete(MessageType::SUBCHANNEL, &answer(Status::FAIL, 0));
            return NvspOutcome::refused(Refusal::Unexpected(MessageType::SUBCHANNEL), outcome.actions);
        }
        let count = u16::try_from(request.count).unwrap_or(u16::MAX).min(possible);
        self.subchannels_asked = true;
        let mut actions = self.complete(MessageType::SUBCHANNEL, &answer(Status::SUCCESS, count)).actions;
        if count > 0 {
            actions.push(NvspAction::OfferSubchannels(count));
            actions.push(NvspAction::Send(indirection_table(u32::from(count) + 1)));
        }
        NvspOutcome::actions(actions)
    }

    /// Updates the number of open channels, including the primary one.
    pub fn set_channels(&mut self, channels: u16) -> NvspActions {
        self.change_path(|path| path.channels = channels);
        smallvec![NvspAction::UpdatePath]
    }

    /// Handles the teardown of a GPADL, revoked or not: its memory is no longer used once the actions have been taken.
    pub fn release(&mut self, gpadl: GpadlId) -> NvspActions {
        self.change_path(|path| {
            path.receive.take_if(|buffer| buffer.gpadl == gpadl);
            path.send.take_if(|buffer| buffer.gpadl == gpadl);
        });
        smallvec![NvspAction::UpdatePath]
    }

    /// Changes the path, and completes the message that requires this.
    fn change_path(&mut self, change: impl FnOnce(&mut Path)) -> NvspOutcome {
        let path = Arc::make_mut(&mut self.path);
        change(path);
        path.follow(&self.adapter);
        NvspOutcome::actions(smallvec![NvspAction::UpdatePath, NvspAction::Complete(Vec::new())])
    }

    fn complete(&self, message_type: MessageType, body: &(impl IntoBytes + Immutable)) -> NvspOutcome {
        let length = self.version.unwrap_or(Version::V1).message_length();
        NvspOutcome::actions(smallvec![NvspAction::Complete(message(message_type, body, length))])
    }
}

/// Completes a message without a reply, in case the guest has requested a completion.
fn done() -> NvspActions {
    smallvec![NvspAction::Complete(Vec::new())]
}

/// Returns the completion of a packet with RNDIS messages.
pub fn rndis_complete(status: Status) -> Vec<u8> {
    let length = Version::V1.message_length();
    message(MessageType::SEND_RNDIS_PACKET_COMPLETE, &SendRndisPacketComplete { status }, length)
}

/// Parses the body of a message.
fn with<T: FromBytes + KnownLayout + Immutable>(
    message_type: MessageType,
    body: &[u8],
    take: impl FnOnce(T) -> NvspOutcome,
) -> NvspOutcome {
    match T::read_from_prefix(body) {
        Ok((body, _)) => take(body),
        Err(_) => NvspOutcome::refused(Refusal::Short { message_type, length: body.len() }, done()),
    }
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
