//! Connections of hvsocket on a bus: single channels, of which each is offered to one guest and once.

use std::sync::Arc;

use super::connects::{Asked, ConnectSink};
use super::link::Link;
use super::{BusDevice, DeviceId, VmBus};
use crate::host::lock::Mutex;
use crate::vmbus::connection::OfferError;
use crate::vmbus::vsp::Vsp;

impl VmBus {
    /// Returns what decides requests to connect.
    pub(crate) fn connects(&self) -> &ConnectSink {
        &self.0.settings.connects
    }

    /// Returns an id for [`offer_socket`](Self::offer_socket).
    pub(crate) fn new_device_id(&self) -> DeviceId {
        let mut state = self.lock();
        let id = DeviceId(state.next_device);
        state.next_device += 1;
        id
    }

    /// Offers a connection to the present guest: one that it has requested, or one of the host. The device is dropped when the
    /// channel is removed: because either side ended it, or with the guest. [`rescind`](Self::rescind) ends it.
    ///
    /// # Errors
    /// Returns an [`OfferError`]. The request is then refused.
    pub(crate) fn offer_socket(
        &self,
        id: DeviceId,
        vsp: Box<dyn Vsp>,
        asked: Option<&Asked>,
    ) -> Result<(), OfferError> {
        let link = self.link().filter(|link| asked.is_none_or(|asked| link.is(asked)));
        let failures = self.0.settings.failures.clone();
        let device = Arc::new(BusDevice { id, offer: vsp.offer(), vsp: Mutex::new(Some(vsp)), failures });
        // If it is not offered, the device is dropped here, without a lock.
        link.ok_or(OfferError::NoGuest)?.offer_socket(&device, asked)
    }

    /// Refuses a request to connect.
    pub(crate) fn refuse_socket(&self, asked: &Asked) {
        if let Some(link) = self.link().filter(|link| link.is(asked)) {
            link.refuse_socket(asked);
        }
    }

    /// Returns `true` if the guest has answered an offer of a connection: it has begun to open the channel.
    pub(crate) fn is_socket_answered(&self, id: DeviceId) -> bool {
        self.link().is_some_and(|link| link.is_answered(id))
    }
}

impl Link {
    fn is(&self, asked: &Asked) -> bool {
        self.number() == asked.link
    }
}
