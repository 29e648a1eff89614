//! The dynamic memory of a machine, if it has any.

use std::sync::Arc;

use serde_json::Value;

use super::device::MemoryDevice;
use super::provider::{MemoryHandle, MemoryVsp, Populate};
use super::{Event, Layout, Limits};
use crate::device::{Devices, Registration};
use crate::vmbus::bus::VmBus;
use crate::vmbus::connection::OfferError;

/// The name under which events are announced.
const NAME: &str = "memory";

/// The dynamic memory of a machine, if it has any.
pub struct DynamicMemory(Option<(MemoryHandle, Registration)>);

impl DynamicMemory {
    /// Offers the device and makes it join `devices`, if the size changes within `limits`.
    ///
    /// # Errors
    /// Returns an error if it cannot be offered.
    pub fn new(bus: &VmBus, devices: &Devices, limits: Option<Limits>) -> Result<Self, OfferError> {
        let Some(limits) = limits else { return Ok(Self(None)) };
        let outlet = devices.outlet().clone();
        let announce = move |event: &Event| {
            log::debug!("{NAME}: {event}");
            outlet.tell(NAME, event.to_string(), Value::Null);
        };
        let vsp = MemoryVsp::new(limits, Layout::of(&limits), Arc::new(announce));
        let handle = vsp.handle();
        let joined = devices.add(Arc::new(MemoryDevice(handle.clone())))?;
        bus.offer_provider(Box::new(vsp))?;
        Ok(Self(Some((handle, joined))))
    }

    /// Returns the memory, if its size changes.
    pub fn handle(&self) -> Option<&MemoryHandle> {
        self.0.as_ref().map(|(handle, _)| handle)
    }

    /// Uses `room` to map memory into the guest, until the result is dropped.
    pub fn begin_life(&self, room: Arc<dyn Populate>) -> LifeOfMemory<'_> {
        let handle = self.handle();
        handle.inspect(|handle| handle.set_room(Some(room)));
        LifeOfMemory(handle)
    }
}

/// Ends the mapping of memory into a guest.
#[must_use]
pub struct LifeOfMemory<'a>(Option<&'a MemoryHandle>);

impl Drop for LifeOfMemory<'_> {
    fn drop(&mut self) {
        self.0.inspect(|handle| handle.set_room(None));
    }
}
