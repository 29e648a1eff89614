//! The integration services of a machine.

use std::sync::Arc;

use super::events::Announcer;
use super::{Machine, MachineError};
use crate::vmbus::bus::VmBus;
use crate::vsp::services::Event;
use crate::vsp::services::config::ServiceOptions;
use crate::vsp::services::set::Services;
use crate::vsp::services::table::Kind;

/// Offers the services that the settings name, and announces their events.
pub(super) fn offer(
    bus: &VmBus,
    options: &ServiceOptions,
    announcer: &Arc<Announcer>,
) -> Result<Services, MachineError> {
    options.check()?;
    let announcer = announcer.clone();
    let announce = move |kind: Kind, event: &Event| announcer.service(kind, event);
    Ok(Services::new(bus.clone(), options, Arc::new(announce))?)
}

impl Machine {
    /// Returns the integration services, for the package's own tests.
    #[doc(hidden)]
    pub fn services(&self) -> &Services {
        &self.shared.services
    }
}
