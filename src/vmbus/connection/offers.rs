//! Offers, rescinds and the release of channel ids.

use std::collections::btree_map;

use zerocopy::FromZeros;

use super::channel::{Entry, Standing, Usage};
use super::{BusAction, BusActions, Connection, Refusal, State};
use crate::vmbus::ids::ChannelId;
use crate::vmbus::message::Message;
use crate::vmbus::vsp::Offer;
use crate::vmbus::wire::{ChannelReference, MessageType, OfferChannel, OpenChannel, Status};

/// Channel ids are event flags of one SINT, of which there are 2048 (TLFS, `HV_EVENT_FLAGS_COUNT`), and 0 is not a
/// channel.
pub const MAX_CHANNELS: usize = 2047;

/// Maximum number of channels of sockets, including those that have ended and that the guest has not released. Other devices
/// have the rest of the channel ids.
pub const MAX_SOCKETS: usize = 1024;

/// The monitor id that means none.
const NO_MONITOR: u8 = 0xff;

/// The reason why a channel cannot be offered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// The device is already offered.
    #[error(
        "a device {interface} with instance {instance} and subchannel {subchannel_index} is offered already; give each device an instance GUID of its own"
    )]
    Duplicate {
        /// Its interface.
        interface: crate::wire::guid::Guid,
        /// Its instance.
        instance: crate::wire::guid::Guid,
        /// The index of its channel.
        subchannel_index: u16,
    },
    /// A subchannel requires that the guest has opened the primary channel.
    #[error("subchannel {0} cannot be offered: its device's primary channel is not open")]
    NoPrimary(u16),
    /// The guest has not requested offers, or its version of VMBus has no connections of hvsocket.
    #[error("the guest is not connected to VMBus 4.0 or later; start its driver (Linux: hv_sock) first")]
    NoGuest,
    /// The guest has too many connections of hvsocket, or has not released the channels of those that ended.
    #[error("the guest has {MAX_SOCKETS} connections of hvsocket; close some first")]
    TooManySockets,
    /// No channel id is free.
    #[error("VMBus has room for {MAX_CHANNELS} channels; offer fewer devices or subchannels")]
    TooMany,
    /// The device's code panicked when it was asked for its name and its offer.
    #[error("a device panicked when it was asked for its name and its offer: {0}")]
    Panicked(String),
    /// Another device of the machine has the device's name.
    #[error(transparent)]
    Name(#[from] crate::device::AddError),
}

impl Connection {
    /// Offers a channel: at once to a guest that has requested offers, else together with the others.
    ///
    /// The channel keeps its id until [`BusAction::Remove`]. If the guest has not yet released the previous offer of the
    /// same device, this offer waits for that.
    ///
    /// # Errors
    /// Returns an [`OfferError`].
    pub fn offer(&mut self, offer: Offer) -> Result<ChannelId, OfferError> {
        self.add(Entry::new(offer))
    }

    /// Offers a channel as [`offer`](Self::offer) does, but to this guest only, and once.
    pub(super) fn offer_once(&mut self, offer: Offer) -> Result<ChannelId, OfferError> {
        self.add(Entry { once: true, ..Entry::new(offer) })
    }

    fn add(&mut self, new: Entry) -> Result<ChannelId, OfferError> {
        let offer = &new.offer;
        if self.channels.values().any(|entry| !entry.withdrawn && entry.is_twin(offer)) {
            let Offer { interface, instance, subchannel_index, .. } = *offer;
            return Err(OfferError::Duplicate { interface, instance, subchannel_index });
        }
        let is_open_primary = |entry: &Entry| {
            let open = matches!(entry.usage, Usage::Open { .. }) && entry.standing == Standing::Offered;
            open && entry.offer.subchannel_index == 0 && entry.is_sibling(offer)
        };
        if offer.subchannel_index != 0 && !self.channels.values().any(is_open_primary) {
            return Err(OfferError::NoPrimary(offer.subchannel_index));
        }
        for id in 1..=MAX_CHANNELS as u32 {
            if let btree_map::Entry::Vacant(vacant) = self.channels.entry(ChannelId(id)) {
                vacant.insert(new);
                self.announce();
                return Ok(ChannelId(id));
            }
        }
        Err(OfferError::TooMany)
    }

    /// Rescinds an offer and those of its subchannels at once, even if the channel is in use.
    ///
    /// The guest is notified of a channel in use only when the device has closed it, because Linux then frees the pages
    /// of the rings at once, without waiting for a reply.
    pub fn rescind(&mut self, channel: ChannelId) -> BusActions {
        let mut actions = BusActions::new();
        let subchannels = self.subchannels(channel);
        [channel].into_iter().chain(subchannels).for_each(|channel| self.cut_off(channel, &mut actions));
        actions
    }

    /// Rescinds an offer and those of its subchannels. Open channels stay open until the guest closes them.
    pub fn retire(&mut self, channel: ChannelId) -> BusActions {
        let mut actions = BusActions::new();
        let subchannels = self.subchannels(channel);
        [channel].into_iter().chain(subchannels).for_each(|channel| self.withdraw(channel, false, &mut actions));
        actions
    }

    /// Rescinds and closes the subchannels of a channel: they do not outlive their open primary channel.
    pub(super) fn cut_off_subchannels(&mut self, primary: ChannelId, actions: &mut BusActions) {
        self.subchannels(primary).into_iter().for_each(|channel| self.cut_off(channel, actions));
    }

    /// Returns the subchannels of a channel. Only primary channels have any.
    fn subchannels(&self, primary: ChannelId) -> Vec<ChannelId> {
        let Some(Entry { offer, .. }) = self.channels.get(&primary) else { return Vec::new() };
        let is_subchannel = |entry: &Entry| entry.offer.subchannel_index != 0 && entry.is_sibling(offer);
        let all = self.channels.iter().filter(|(_, entry)| offer.subchannel_index == 0 && is_subchannel(entry));
        all.map(|(channel, _)| *channel).collect()
    }

    fn cut_off(&mut self, channel: ChannelId, actions: &mut BusActions) {
        self.withdraw(channel, true, actions);
        // A request to open it again is dropped.
        self.channels.get_mut(&channel).and_then(|entry| entry.begin_close(channel, actions));
    }

    /// `closes`: the device closes the channel, if it is in use.
    fn withdraw(&mut self, channel: ChannelId, closes: bool, actions: &mut BusActions) {
        let Some(entry) = self.channels.get_mut(&channel).filter(|entry| !entry.withdrawn) else { return };
        entry.withdrawn = true;
        entry.untold = closes && !matches!(entry.usage, Usage::Closed);
        if let Some(OpenChannel { open_id, .. }) = entry.usage.take_reopen() {
            self.send_open_result(channel, open_id, Status::UNSUCCESSFUL);
        }
        self.tell_rescinded(channel);
        self.settle(channel, actions);
    }

    fn tell_rescinded(&mut self, channel: ChannelId) {
        let Some(entry) = self.channels.get_mut(&channel) else { return };
        if entry.standing != Standing::Offered {
            return;
        }
        // A guest that has neither read the offer nor guessed the id need not be notified.
        let is_offer = |message: &Message| matches!(message, Message::OfferChannel(offer) if offer.channel == channel);
        let unread = self.outbox.iter().position(is_offer);
        let untouched = matches!(entry.usage, Usage::Closed)
            && entry.gpadls.is_empty()
            && entry.leaving.is_empty()
            && !self.building.values().any(|(owner, _)| *owner == channel);
        if let Some(index) = unread.filter(|_| untouched) {
            entry.standing = Standing::Waiting;
            self.outbox.remove(index);
        } else {
            entry.standing = Standing::Rescinded;
            if !entry.untold {
                self.outbox.push_back(Message::RescindChannelOffer(ChannelReference { channel }));
            }
        }
    }

    /// Notifies the guest of a rescind that waited for the device to close the channel.
    pub(super) fn tell_of_late_rescind(&mut self, channel: ChannelId) {
        let Some(entry) = self.channels.get_mut(&channel) else { return };
        if std::mem::take(&mut entry.untold) && entry.standing == Standing::Rescinded {
            self.outbox.push_back(Message::RescindChannelOffer(ChannelReference { channel }));
        }
    }

    /// Returns `true` if the guest was notified that the channel is rescinded. Once it has closed such a channel, Linux frees
    /// the pages of the rings at once, without waiting for a reply.
    pub fn frees_at_once(&self, channel: ChannelId) -> bool {
        let entry = self.channels.get(&channel);
        entry.is_some_and(|entry| entry.standing == Standing::Rescinded && !entry.untold)
    }

    pub(super) fn request_offers(&mut self) -> Result<(), Refusal> {
        let State::Connected { offers_requested, .. } = &mut self.state else { return Err(Refusal::NotConnected) };
        if std::mem::replace(offers_requested, true) {
            return Err(Refusal::OffersRequested);
        }
        self.announce();
        self.outbox.push_back(Message::AllOffersDelivered);
        Ok(())
    }

    /// Offers every channel that waits to be offered, unless the guest has not released its twin yet.
    fn announce(&mut self) {
        if !matches!(self.state, State::Connected { offers_requested: true, .. }) {
            return;
        }
        let waits = |entry: &Entry| entry.standing == Standing::Waiting && !entry.withdrawn;
        let free = |entry: &Entry| !self.channels.values().any(|other| other.is_known() && other.is_twin(&entry.offer));
        let ready = self.channels.iter().filter(|(_, entry)| waits(entry) && free(entry));
        let ready: Vec<ChannelId> = ready.map(|(channel, _)| *channel).collect();
        for channel in ready {
            if let Some(entry) = self.channels.get_mut(&channel) {
                entry.standing = Standing::Offered;
                self.outbox.push_back(Message::OfferChannel(offer_message(&entry.offer, channel)));
            }
        }
    }

    pub(super) fn relid_released(&mut self, channel: ChannelId, actions: &mut BusActions) -> Result<(), Refusal> {
        let entry = self.known(channel)?;
        let in_use = matches!(entry.usage, Usage::Opening { .. } | Usage::Open { .. });
        if entry.standing == Standing::Offered && in_use {
            let message_type = MessageType::RELID_RELEASED;
            return Err(Refusal::State { message_type, channel, usage: entry.usage.name() });
        }
        entry.standing = Standing::Released;
        // A channel that is offered only once is not offered again.
        entry.withdrawn |= entry.once;
        entry.begin_close(channel, actions);
        if in_use {
            self.cut_off_subchannels(channel, actions);
        }
        self.forget_gpadls(channel);
        self.settle(channel, actions);
        self.announce();
        Ok(())
    }

    /// Removes a channel that neither device nor guest uses any longer, and ends the connection if that was waiting for
    /// it.
    pub(super) fn settle(&mut self, channel: ChannelId, actions: &mut BusActions) {
        let Some(entry) = self.channels.get(&channel) else { return };
        if matches!(entry.usage, Usage::Closed) && entry.withdrawn && !entry.is_known() {
            self.channels.remove(&channel);
            actions.push(BusAction::Remove(channel));
        }
    }

    /// Returns the channel, if the guest may refer to it.
    pub(super) fn known(&mut self, channel: ChannelId) -> Result<&mut Entry, Refusal> {
        let entry = self.channels.get_mut(&channel).filter(|entry| entry.is_known());
        entry.ok_or(Refusal::NoSuchChannel(channel))
    }
}

fn offer_message(offer: &Offer, channel: ChannelId) -> OfferChannel {
    OfferChannel {
        interface: offer.interface,
        instance: offer.instance,
        flags: offer.flags,
        mmio_megabytes: offer.mmio_megabytes,
        user_defined: offer.user_defined,
        subchannel_index: offer.subchannel_index,
        channel,
        monitor_id: NO_MONITOR,
        is_dedicated_interrupt: 1,
        connection: channel.connection(),
        ..OfferChannel::new_zeroed()
    }
}

#[cfg(test)]
#[path = "offers_tests.rs"]
mod tests;
