//! The offer of a channel.

use super::wire::{UserDefined, offer_flags};
use crate::wire::guid::Guid;

/// The description of a channel in its offer to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The kind of device: see [`interface`](crate::wire::guid::interface).
    pub interface: Guid,
    /// The instance. No two devices of a machine have the same.
    pub instance: Guid,
    /// 0 for the primary channel, which every device has.
    pub subchannel_index: u16,
    /// See [`offer_flags`].
    pub flags: u16,
    /// The MMIO space that the device needs, in MiB.
    pub mmio_megabytes: u16,
    /// Data for the driver; its meaning depends on the device.
    pub user_defined: UserDefined,
}

impl Offer {
    /// Creates an offer of the primary channel of an ordinary device.
    pub fn new(interface: Guid, instance: Guid) -> Self {
        let flags = offer_flags::ENUMERATE_DEVICE_INTERFACE;
        Self {
            interface,
            instance,
            subchannel_index: 0,
            flags,
            mmio_megabytes: 0,
            user_defined: UserDefined::default(),
        }
    }

    /// Creates an offer of a pipe channel: each payload starts with a pipe header, as for the mouse.
    pub fn pipe(interface: Guid, instance: Guid) -> Self {
        const PIPE_MODE_MESSAGE: u8 = 4;
        let mut offer = Self::new(interface, instance);
        offer.flags |= offer_flags::NAMED_PIPE_MODE;
        offer.user_defined.0[0] = PIPE_MODE_MESSAGE;
        offer
    }

    /// Returns `true` if the offer is of the device with these GUIDs.
    pub(crate) fn is_of(&self, interface: Guid, instance: Guid) -> bool {
        self.interface == interface && self.instance == instance
    }

    /// Returns the offer of the same device's channel number `index`.
    pub(crate) fn subchannel(&self, index: u16) -> Self {
        Self { subchannel_index: index, ..self.clone() }
    }
}
