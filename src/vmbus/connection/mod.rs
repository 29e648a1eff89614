//! The control protocol of one guest: versions, offers, GPADLs, opening and closing, unload.
//!
//! A [`Connection`] processes the guest's messages and the host's requests, and returns [`BusAction`]s. Its messages for
//! the guest wait in it until the caller asks for the [`next_message`](Connection::next_message), because a SynIC slot
//! holds one message at a time. The caller carries out all actions of a call before it sends the next message, so the
//! guest is never told of something that has not happened yet.
//!
//! Actions that take a device time are completed later: [`BusAction::Open`] by [`opened`](Connection::opened),
//! [`BusAction::Close`] by [`closed`](Connection::closed), [`BusAction::ReleaseGpadl`] by
//! [`gpadl_released`](Connection::gpadl_released). Meanwhile, the guest and the host can continue. A channel can be
//! rescinded while it opens. The next kernel of a crashed guest can make contact while the rings of the previous one
//! are being released; it is answered once they are.
//!
//! # Bounds
//! A guest can make the host hold [`MAX_GPADLS`] GPADLs of [`MAX_GPADL_WORDS`] words in total, [`MAX_BUILDING`] of them
//! incomplete, and about [`MAX_HELD_BACK`] messages. A guest that posts requests without reading the replies is
//! refused: `HvCallPostMessage` returns `HV_STATUS_INSUFFICIENT_BUFFERS`, and the guest has to try again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;

use super::gpadl::GpadlBuilder;
use super::ids::{ChannelId, ConnectionId, GpadlId, Version, VpIndex};
use super::message::{Message, Request};
use super::ring::RingMemory;
use super::wire::{InitiateContact, UserDefined, VersionResponse};
use crate::hyperv::types::SintIndex;
use crate::memory::GuestMemory;

mod channel;
mod gpadls;
mod offers;
mod opening;
mod refusal;
mod sockets;

use channel::{Entry, Standing, Usage};
pub use gpadls::GpadlTable;
#[cfg(test)]
use gpadls::{MAX_BUILDING, MAX_GPADL_WORDS};
pub use offers::{MAX_CHANNELS, OfferError};
pub use refusal::Refusal;
pub use sockets::ConnectRequest;

/// When this many messages wait for the guest, its requests are refused. It is more than enough for every offer and
/// rescind.
pub const MAX_HELD_BACK: usize = 2 * MAX_CHANNELS + 2;

/// The settings of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The newest version that the guest can use (`--vmbus-max-version`).
    pub max_version: Version,
    /// Number of VPs of the partition.
    pub vp_count: u32,
}

/// An action for the caller.
#[derive(Clone, Debug)]
pub enum BusAction {
    /// Make the device open the channel, then call [`Connection::opened`].
    Open(Box<Opening>),
    /// Make the device release the channel's rings and GPADLs, then call [`Connection::closed`].
    Close(ChannelId),
    /// Make the device release the GPADL, then call [`Connection::gpadl_released`].
    ReleaseGpadl(ChannelId, GpadlId),
    /// Send the channel's interrupts to another VP from now on.
    Retarget(ChannelId, VpIndex),
    /// The channel has been removed. Its id is free, and none of its memory is in use.
    Remove(ChannelId),
    /// The guest connects a socket to a service of the host. Call [`Connection::offer_socket`] or
    /// [`Connection::refuse_socket`].
    Connect(ConnectRequest),
    /// No effect; only for the log.
    Refuse(Refusal),
}

/// The result of one call: usually one action, or none.
pub type BusActions = SmallVec<[BusAction; 2]>;

/// The data that a device needs to open a channel.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The channel.
    pub channel: ChannelId,
    /// The guest-to-host ring.
    pub incoming: RingMemory,
    /// The host-to-guest ring.
    pub outgoing: RingMemory,
    /// The VP to interrupt, if any.
    pub target: Option<VpIndex>,
    /// The driver's data.
    pub user_defined: UserDefined,
    /// The channel's GPADLs, including those that it gets later.
    pub gpadls: Arc<GpadlTable>,
    /// The version that guest and host use.
    pub version: Version,
}

/// A message for the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The target VP.
    pub vp: VpIndex,
    /// The target SINT.
    pub sint: SintIndex,
    /// The content.
    pub message: Message,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Disconnected,
    Connected {
        version: Version,
        offers_requested: bool,
    },
    /// Channels of the previous connection are still being closed.
    Disconnecting(Next),
}

/// What happens next once the previous connection has ended.
#[derive(Clone, Copy, Debug)]
enum Next {
    Contact(InitiateContact),
    Unload,
    #[cfg(test)]
    Reset,
}

/// One guest's connection to VMBus. See the module's description.
#[derive(Debug)]
pub struct Connection {
    memory: GuestMemory,
    settings: Settings,
    state: State,
    channels: BTreeMap<ChannelId, Entry>,
    building: BTreeMap<GpadlId, (ChannelId, GpadlBuilder)>,
    /// Size in words and number of all GPADLs, including those that are incomplete or being torn down.
    gpadl_words: usize,
    gpadl_count: usize,
    /// The target of messages, as the guest set it last.
    target: VpIndex,
    outbox: VecDeque<Message>,
    /// Number of connections that the guest has begun.
    contacts: u64,
    /// Number of requests to connect a socket that are not decided.
    undecided: usize,
    /// The guest has started again, so messages for its previous connection are obsolete.
    began_anew: bool,
}

impl Connection {
    /// Creates a connection to a guest that has not made contact yet.
    pub fn new(memory: GuestMemory, settings: Settings) -> Self {
        Self {
            memory,
            settings,
            state: State::Disconnected,
            channels: BTreeMap::new(),
            building: BTreeMap::new(),
            gpadl_words: 0,
            gpadl_count: 0,
            target: VpIndex::BOOT,
            outbox: VecDeque::new(),
            contacts: 0,
            undecided: 0,
            began_anew: false,
        }
    }

    /// Returns `true` if messages may be posted to `connection`. Hosts without 5.x have only the first port, by which
    /// guests detect that.
    pub fn listens_on(&self, connection: ConnectionId) -> bool {
        connection == ConnectionId::MESSAGES
            || connection == ConnectionId::MESSAGES_5 && self.settings.max_version >= Version::V5_0
    }

    /// Returns `true` if the guest has to read messages before it may post more (`HV_STATUS_INSUFFICIENT_BUFFERS`).
    pub fn is_busy(&self) -> bool {
        self.outbox.len() >= MAX_HELD_BACK
    }

    /// Returns the version that guest and host have agreed on.
    pub fn version(&self) -> Option<Version> {
        match self.state {
            State::Connected { version, .. } => Some(version),
            _ => None,
        }
    }

    /// Removes and returns the next message for the guest.
    pub fn next_message(&mut self) -> Option<Outgoing> {
        let (vp, sint) = (self.target, SintIndex::VMBUS);
        self.outbox.pop_front().map(|message| Outgoing { vp, sint, message })
    }

    /// Puts back a message for which there was no room, so that it is the next one again, unless the guest has
    /// disconnected since.
    pub fn put_back(&mut self, outgoing: Outgoing) {
        self.outbox.push_front(outgoing.message);
    }

    /// Returns `true` once after the guest has started again: by making contact, by unloading, or by a reset. Messages
    /// that were sent before and not delivered yet must then be withdrawn before the [next](Self::next_message) one is
    /// sent, because the kernel that they are for may no longer exist.
    pub fn takes_back_messages(&mut self) -> bool {
        std::mem::take(&mut self.began_anew)
    }

    /// Processes one message that the guest posted to `connection`, and returns the actions to take.
    ///
    /// Never fails: a message that the protocol does not allow now is answered as the protocol answers it, or dropped
    /// with a [`Refusal`] for the log.
    pub fn receive(&mut self, connection: ConnectionId, message: &[u8]) -> BusActions {
        let mut actions = BusActions::new();
        if let Err(refusal) = self.try_receive(connection, message, &mut actions) {
            actions.push(BusAction::Refuse(refusal));
        }
        actions
    }

    fn try_receive(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
        actions: &mut BusActions,
    ) -> Result<(), Refusal> {
        let request = Request::parse(message)?;
        // These two are accepted at any time: a kernel that starts after a crash does not know the previous state.
        match request {
            Request::InitiateContact(contact) => return self.disconnect(Next::Contact(contact), actions),
            Request::Unload => return self.disconnect(Next::Unload, actions),
            _ => {}
        }
        let version = self.version().ok_or(Refusal::NotConnected)?;
        let expected = message_connection(version);
        if connection != expected {
            return Err(Refusal::WrongConnection { connection, expected });
        }
        if self.is_busy() {
            return Err(Refusal::Busy);
        }
        match request {
            Request::RequestOffers => self.request_offers(),
            Request::OpenChannel(request) => self.open_channel(request, actions),
            Request::CloseChannel(request) => self.close_channel(request.channel, actions),
            Request::GpadlHeader(header, ranges) => self.gpadl_header(header, ranges),
            Request::GpadlBody(body, ranges) => self.gpadl_body(body, ranges),
            Request::GpadlTeardown(request) => self.gpadl_teardown(request, actions),
            Request::RelidReleased(request) => self.relid_released(request.channel, actions),
            Request::TlConnectRequest(request) => self.tl_connect_request(request, version, actions),
            Request::ModifyChannel(request) => self.modify_channel(request, version, actions),
            Request::InitiateContact(_) | Request::Unload => Ok(()),
        }
    }

    /// Handles a reset of the machine. Channels are closed; offers stay for the next guest.
    #[cfg(test)]
    pub fn reset(&mut self) -> BusActions {
        let mut actions = BusActions::new();
        if let Err(refusal) = self.disconnect(Next::Reset, &mut actions) {
            actions.push(BusAction::Refuse(refusal));
        }
        actions
    }

    /// Ends the connection. When no device uses the guest's memory any longer, continues with `next`.
    fn disconnect(&mut self, next: Next, actions: &mut BusActions) -> Result<(), Refusal> {
        self.outbox.clear();
        self.began_anew = true;
        self.contacts += 1;
        self.undecided = 0;
        self.building.clear();
        (self.gpadl_words, self.gpadl_count) = (0, 0);
        let channels: Vec<ChannelId> = self.channels.keys().copied().collect();
        for channel in channels {
            let Some(entry) = self.channels.get_mut(&channel) else { continue };
            entry.standing = Standing::Waiting;
            entry.untold = false;
            entry.gpadls = Arc::default();
            entry.leaving.clear();
            // A subchannel does not outlive its open primary channel, and a socket not the guest.
            entry.withdrawn |= entry.offer.subchannel_index != 0 || entry.once;
            entry.begin_close(channel, actions);
            self.settle(channel, actions);
        }
        self.state = State::Disconnecting(next);
        self.finish_disconnect()
    }

    fn finish_disconnect(&mut self) -> Result<(), Refusal> {
        let State::Disconnecting(next) = self.state else { return Ok(()) };
        if self.channels.values().any(|entry| !matches!(entry.usage, Usage::Closed)) {
            return Ok(());
        }
        self.state = State::Disconnected;
        match next {
            Next::Contact(contact) => return self.answer_contact(&contact),
            Next::Unload => self.outbox.push_back(Message::UnloadResponse),
            #[cfg(test)]
            Next::Reset => self.target = VpIndex::BOOT,
        }
        Ok(())
    }

    fn answer_contact(&mut self, contact: &InitiateContact) -> Result<(), Refusal> {
        let agreed = self.agree(contact);
        let response = match &agreed {
            Ok(version) => {
                self.state = State::Connected { version: *version, offers_requested: false };
                let new = *version >= Version::V5_0;
                let connection_id = if new { message_connection(*version).0 } else { version.0 };
                VersionResponse { supported: 1, connection_state: 0, reserved: 0, connection_id }
            }
            Err(_) => VersionResponse { supported: 0, connection_state: 0, reserved: 0, connection_id: 0 },
        };
        self.outbox.push_back(Message::VersionResponse(response));
        agreed.map(|_| ())
    }

    /// Decides about the version and the target of messages.
    fn agree(&mut self, contact: &InitiateContact) -> Result<Version, Refusal> {
        let InitiateContact { version, mut target_vp, .. } = *contact;
        self.target = VpIndex::BOOT;
        let max_version = self.settings.max_version;
        if !Version::ALL.contains(&version) || version > max_version {
            return Err(Refusal::Version { version, max_version });
        }
        if version < Version::V3_0 {
            target_vp = VpIndex::BOOT;
        }
        if target_vp.0 >= self.settings.vp_count {
            return Err(Refusal::NoSuchVp { target: target_vp, vp_count: self.settings.vp_count });
        }
        self.target = target_vp;
        let target = contact.target();
        if version >= Version::V5_0 && target.sint != SintIndex::VMBUS.get() {
            return Err(Refusal::Sint(target.sint));
        }
        if version >= Version::V5_1 && target.vtl != 0 {
            return Err(Refusal::Vtl(target.vtl));
        }
        Ok(version)
    }
}

/// Returns the connection to which a guest posts its messages once a version is agreed on.
fn message_connection(version: Version) -> ConnectionId {
    if version >= Version::V5_0 { ConnectionId::MESSAGES_5 } else { ConnectionId::MESSAGES }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod model_tests;
#[cfg(test)]
mod test_guest;
#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
