//! Connections of hvsocket: each is a channel that is offered once.
//!
//! A guest asks for a connection with TL_CONNECT_REQUEST. The host offers it a channel, or refuses with
//! TL_CONNECT_RESULT. The host itself connects with an offer alone. A guest that has no listener says nothing.

use super::channel::{Entry, Usage};
use super::offers::MAX_SOCKETS;
use super::{BusAction, BusActions, Connection, OfferError, Refusal, State};
use crate::vmbus::ids::{ChannelId, Version};
use crate::vmbus::message::Message;
use crate::vmbus::vsp::Offer;
use crate::vmbus::wire::{MessageType, Status, TlConnectRequest, TlConnectResult};
use crate::wire::guid::Guid;

/// Maximum number of requests to connect that are not decided. Further ones are refused at once.
pub const MAX_UNDECIDED: usize = 256;

/// A request of the guest to connect a socket to a service of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// The guest's connection to VMBus. A decision that comes after its end has no effect.
    pub contact: u64,
    /// The endpoint of the guest.
    pub endpoint: Guid,
    /// The service of the host.
    pub service: Guid,
}

impl Connection {
    pub(super) fn tl_connect_request(
        &mut self,
        request: TlConnectRequest,
        version: Version,
        actions: &mut BusActions,
    ) -> Result<(), Refusal> {
        if version < Version::V4_0 {
            return Err(Refusal::NotInVersion { message_type: MessageType::TL_CONNECT_REQUEST, version });
        }
        let TlConnectRequest { endpoint, service } = request;
        let request = ConnectRequest { contact: self.contacts, endpoint, service };
        if self.undecided >= MAX_UNDECIDED {
            self.send_connect_result(&request);
            return Err(Refusal::Undecided(self.undecided));
        }
        self.undecided += 1;
        actions.push(BusAction::Connect(request));
        Ok(())
    }

    /// Completes [`BusAction::Connect`]: nobody listens.
    pub fn refuse_socket(&mut self, request: &ConnectRequest) {
        if self.decide(request) {
            self.send_connect_result(request);
        }
    }

    /// Offers a connection: one that the guest has requested, or one of the host. It is removed when the guest or the host has
    /// ended it, or when the guest ends its connection to VMBus.
    ///
    /// # Errors
    /// Returns an [`OfferError`]. A request is then refused.
    pub fn offer_socket(&mut self, offer: Offer, request: Option<&ConnectRequest>) -> Result<ChannelId, OfferError> {
        let is_meant = request.is_none_or(|request| self.decide(request));
        if !is_meant || !self.takes_sockets() {
            return Err(OfferError::NoGuest);
        }
        let result = match self.sockets() {
            count if count >= MAX_SOCKETS => Err(OfferError::TooManySockets),
            _ => self.offer_once(offer),
        };
        if result.is_err() {
            request.into_iter().for_each(|request| self.send_connect_result(request));
        }
        result
    }

    /// Returns `true` if the guest has begun to open a channel: it has described pages, or more.
    pub fn is_answered(&self, channel: ChannelId) -> bool {
        let is_used = |entry: &Entry| !entry.gpadls.is_empty() || !matches!(entry.usage, Usage::Closed);
        self.channels.get(&channel).is_some_and(is_used) || self.building.values().any(|(owner, _)| *owner == channel)
    }

    /// Returns `true` if the guest has requested offers, and uses a version that has sockets.
    fn takes_sockets(&self) -> bool {
        matches!(self.state, State::Connected { version, offers_requested: true } if version >= Version::V4_0)
    }

    fn sockets(&self) -> usize {
        self.channels.values().filter(|entry| entry.once).count()
    }

    /// Returns `true` if the request is of the guest's present connection, and undecided.
    fn decide(&mut self, request: &ConnectRequest) -> bool {
        let is_present = request.contact == self.contacts && self.undecided > 0;
        self.undecided -= usize::from(is_present);
        is_present
    }

    fn send_connect_result(&mut self, request: &ConnectRequest) {
        if self.version().is_some_and(|version| version >= Version::V4_1) {
            let ConnectRequest { endpoint, service, .. } = *request;
            let result = TlConnectResult { endpoint, service, status: Status::CONNECTION_REFUSED };
            self.outbox.push_back(Message::TlConnectResult(result));
        }
    }
}

#[cfg(test)]
#[path = "sockets_tests.rs"]
mod tests;
