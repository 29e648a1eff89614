//! The integration services of a machine.

use std::sync::Arc;

use super::MachineError;
use crate::device::Devices;
use crate::vmbus::bus::VmBus;
use crate::vsp::services::Event;
use crate::vsp::services::config::ServiceOptions;
use crate::vsp::services::set::Services;
use crate::vsp::services::table::Kind;

/// Offers the services that the settings name, and announces their events.
pub(super) fn offer(bus: &VmBus, devices: &Devices, options: &ServiceOptions) -> Result<Services, MachineError> {
    options.check()?;
    let outlet = devices.outlet().clone();
    let announce = move |kind: Kind, event: &Event| {
        log::debug!("{kind}: {event}");
        outlet.tell(kind.profile().name, event.to_string(), event.details());
    };
    Ok(Services::new(bus.clone(), options, Arc::new(announce), devices.clone())?)
}
