//! The state of one channel in the connection: as the guest knows it, and as the device uses it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{BusAction, BusActions, GpadlTable};
use crate::vmbus::ids::{ChannelId, GpadlId};
use crate::vmbus::vsp::Offer;
use crate::vmbus::wire::OpenChannel;

/// The guest's knowledge of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing yet.
    Waiting,
    /// The channel is offered.
    Offered,
    /// The offer was rescinded; the guest has not released the channel yet.
    Rescinded,
    /// The offer was rescinded, and the guest has released the channel.
    Released,
}

/// How the device uses a channel. Only the ends of `Opening` and `Closing` happen without a message from the guest.
#[derive(Clone, Debug)]
pub(super) enum Usage {
    Closed,
    Opening {
        open_id: u32,
        ring: GpadlId,
    },
    Open {
        ring: GpadlId,
    },
    /// Contains the guest's request to open the channel again, which it may send at once: CLOSECHANNEL has no reply
    /// that it could wait for.
    Closing {
        ring: GpadlId,
        reopen: Option<OpenChannel>,
    },
}

impl Usage {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Opening { .. } => "opening",
            Self::Open { .. } => "open",
            Self::Closing { .. } => "closing",
        }
    }

    /// Removes and returns the request to open the channel again.
    pub(super) fn take_reopen(&mut self) -> Option<OpenChannel> {
        match self {
            Self::Closing { reopen, .. } => reopen.take(),
            Self::Closed | Self::Opening { .. } | Self::Open { .. } => None,
        }
    }

    /// Returns the GPADL of the rings that the device uses or may use.
    pub(super) fn ring(&self) -> Option<GpadlId> {
        match self {
            Self::Closed => None,
            Self::Opening { ring, .. } | Self::Open { ring } | Self::Closing { ring, .. } => Some(*ring),
        }
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) offer: Offer,
    pub(super) standing: Standing,
    /// The channel is offered only to this guest, and only once: it is a connection of hvsocket.
    pub(super) once: bool,
    /// The device has been removed, or is about to be.
    pub(super) withdrawn: bool,
    /// The guest is notified of the rescind only when the device has closed the channel.
    pub(super) untold: bool,
    pub(super) usage: Usage,
    pub(super) gpadls: Arc<GpadlTable>,
    /// GPADLs that the guest has torn down and the device has not released yet, with their sizes in words.
    pub(super) leaving: BTreeMap<GpadlId, usize>,
}

impl Entry {
    pub(super) fn new(offer: Offer) -> Self {
        Self {
            offer,
            standing: Standing::Waiting,
            once: false,
            withdrawn: false,
            untold: false,
            usage: Usage::Closed,
            gpadls: Arc::default(),
            leaving: BTreeMap::new(),
        }
    }

    /// Returns `true` if the guest may refer to the channel.
    pub(super) fn is_known(&self) -> bool {
        matches!(self.standing, Standing::Offered | Standing::Rescinded)
    }

    /// Returns `true` if both are offers of the same channel of the same device.
    pub(super) fn is_twin(&self, other: &Offer) -> bool {
        self.is_sibling(other) && self.offer.subchannel_index == other.subchannel_index
    }

    /// Returns `true` if both are offers of the same device.
    pub(super) fn is_sibling(&self, other: &Offer) -> bool {
        self.offer.interface == other.interface && self.offer.instance == other.instance
    }

    /// Makes the device close the channel if it is open. A channel that is opening is closed once it is open. Returns
    /// the request to open it again, which is dropped.
    pub(super) fn begin_close(&mut self, channel: ChannelId, actions: &mut BusActions) -> Option<OpenChannel> {
        match &mut self.usage {
            Usage::Open { ring } => {
                self.usage = Usage::Closing { ring: *ring, reopen: None };
                actions.push(BusAction::Close(channel));
                None
            }
            usage => usage.take_reopen(),
        }
    }
}
