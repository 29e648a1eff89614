//! What the connection remembers of one channel: how it stands with the guest, and how with the device.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Action, Actions, GpadlTable};
use crate::vmbus::ids::{ChannelId, GpadlId};
use crate::vmbus::vsp::Offer;
use crate::vmbus::wire::OpenChannel;

/// What the guest knows of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing yet.
    Waiting,
    /// That it is offered.
    Offered,
    /// That it was offered and is no more; the guest still owes us its release.
    Rescinded,
    /// It did, and has let go of it.
    Released,
}

/// What the device does with a channel. The one thing that changes without the guest is the end of `Opening` and `Closing`.
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
    /// With the guest's wish to open it again, which it may send at once: there is no answer to a close that it could wait for.
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

    /// Returns the wish to open the channel again, which comes to nothing.
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
    /// The device is gone, or about to go.
    pub(super) withdrawn: bool,
    /// The guest is told of the rescind only when the device has closed the channel.
    pub(super) untold: bool,
    pub(super) usage: Usage,
    pub(super) gpadls: Arc<GpadlTable>,
    /// GPADLs that the guest wants back and the device still has, with their words.
    pub(super) leaving: BTreeMap<GpadlId, usize>,
}

impl Entry {
    pub(super) fn new(offer: Offer) -> Self {
        Self {
            offer,
            standing: Standing::Waiting,
            withdrawn: false,
            untold: false,
            usage: Usage::Closed,
            gpadls: Arc::default(),
            leaving: BTreeMap::new(),
        }
    }

    /// Returns `true` if the guest may name the channel.
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

    /// Has the device close the channel if it is open. One that is opening is closed when it has opened.
    /// Returns the wish to open it again that comes to nothing by this.
    pub(super) fn begin_close(&mut self, channel: ChannelId, actions: &mut Actions) -> Option<OpenChannel> {
        match &mut self.usage {
            Usage::Open { ring } => {
                self.usage = Usage::Closing { ring: *ring, reopen: None };
                actions.push(Action::Close(channel));
                None
            }
            usage => usage.take_reopen(),
        }
    }
}
