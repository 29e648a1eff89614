//! The services of a machine.

use std::collections::BTreeMap;

use super::config::ServiceOptions;
use super::provider::{EventSink, ServiceHandle, ServiceVsp};
use super::service::Forced;
use super::table::Kind;
use crate::host::lock::Mutex;
use crate::vmbus::bus::{DeviceId, VmBus};
use crate::vmbus::connection::OfferError;

/// The services of a machine: those that it starts with, and those that are enabled and disabled while it runs.
pub struct Services {
    bus: VmBus,
    events: EventSink,
    enabled: Mutex<BTreeMap<Kind, (DeviceId, ServiceHandle)>>,
}

impl Services {
    /// Offers the services that the settings name. Their events go to `events`.
    ///
    /// # Errors
    /// Returns an error if one cannot be offered.
    pub fn new(bus: VmBus, options: &ServiceOptions, events: EventSink) -> Result<Self, OfferError> {
        let services = Self { bus, events, enabled: Mutex::default() };
        for (kind, forced) in options.services() {
            services.enable(kind, forced)?;
        }
        Ok(services)
    }

    /// Offers a service, if it is not offered already.
    ///
    /// # Errors
    /// Returns an error if it cannot be offered.
    pub fn enable(&self, kind: Kind, forced: Forced) -> Result<ServiceHandle, OfferError> {
        let mut enabled = self.enabled.lock();
        if let Some((_, handle)) = enabled.get(&kind) {
            return Ok(handle.clone());
        }
        let vsp = ServiceVsp::new(kind, forced, self.events.clone());
        let handle = vsp.handle();
        enabled.insert(kind, (self.bus.offer(Box::new(vsp))?, handle.clone()));
        Ok(handle)
    }

    /// Rescinds a service. Returns `false` if it is not offered. Requests that are under way fail.
    pub fn disable(&self, kind: Kind) -> bool {
        let removed = self.enabled.lock().remove(&kind);
        removed.is_some_and(|(device, _)| self.bus.rescind(device))
    }

    /// Returns a service, if it is offered.
    pub fn get(&self, kind: Kind) -> Option<ServiceHandle> {
        self.enabled.lock().get(&kind).map(|(_, handle)| handle.clone())
    }
}
