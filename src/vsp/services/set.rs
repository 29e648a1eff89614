//! The services of a machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Event;
use super::config::ServiceOptions;
use super::device::ServiceDevice;
use super::kvp::Item;
use super::provider::{EventSink, ServiceHandle, ServiceVsp};
use super::service::Forced;
use super::table::Kind;
use crate::device::{Devices, Registration};
use crate::host::lock::Mutex;
use crate::vmbus::bus::{DeviceId, VmBus};
use crate::vmbus::connection::OfferError;

/// The services of a machine: those that it starts with, and those that are enabled and disabled while it runs.
pub struct Services {
    bus: VmBus,
    events: EventSink,
    devices: Devices,
    enabled: Mutex<BTreeMap<Kind, Enabled>>,
    /// The settings of the services that the machine started with.
    forced: BTreeMap<Kind, Forced>,
    /// The items about the host that a guest gets by KVP.
    facts: Vec<Item>,
}

struct Enabled {
    device: DeviceId,
    handle: ServiceHandle,
    joined: Registration,
}

impl Services {
    /// Offers the services that the settings name. Their events go to `events`, and they join `devices`. KVP tells the guest the items
    /// `facts`.
    ///
    /// # Errors
    /// Returns an error if one cannot be offered.
    pub fn new(
        bus: VmBus,
        options: &ServiceOptions,
        facts: Vec<Item>,
        events: EventSink,
        devices: Devices,
    ) -> Result<Self, OfferError> {
        let forced = options.services().collect();
        let services = Self { bus, events, devices, enabled: Mutex::default(), forced, facts };
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
        if let Some(Enabled { handle, .. }) = enabled.get(&kind) {
            return Ok(handle.clone());
        }
        let vsp = ServiceVsp::new(kind, forced, &self.facts, self.events.clone());
        let handle = vsp.handle();
        let joined = self.devices.add(Arc::new(ServiceDevice(handle.clone())))?;
        let device = self.bus.offer_provider(Box::new(vsp))?;
        enabled.insert(kind, Enabled { device, handle: handle.clone(), joined });
        Ok(handle)
    }

    /// Offers a service with the versions of the machine's settings, if it is not offered already.
    ///
    /// # Errors
    /// Returns an error if it cannot be offered.
    pub fn enable_as_configured(&self, kind: Kind) -> Result<ServiceHandle, OfferError> {
        self.enable(kind, self.forced.get(&kind).copied().unwrap_or_default())
    }

    /// Rescinds a service. Returns `false` if it is not offered. Requests that are under way fail.
    pub fn disable(&self, kind: Kind) -> bool {
        let removed = self.enabled.lock().remove(&kind);
        removed.is_some_and(|Enabled { device, joined, .. }| {
            drop(joined);
            let was_offered = self.bus.rescind(device);
            (self.events)(kind, &Event::Disabled);
            was_offered
        })
    }

    /// Returns a service, if it is offered.
    pub fn get(&self, kind: Kind) -> Option<ServiceHandle> {
        self.enabled.lock().get(&kind).map(|enabled| enabled.handle.clone())
    }
}
