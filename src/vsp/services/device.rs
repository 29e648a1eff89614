//! A service as a device of its machine.

use serde_json::json;

use super::provider::ServiceHandle;
use crate::device::{Device, Floor, Identity, Value};

/// A service. While the machine is paused, its timers stand still, and requests of the host wait.
pub(super) struct ServiceDevice(pub ServiceHandle);

impl Device for ServiceDevice {
    fn identity(&self) -> Identity {
        Identity::new(self.0.kind().profile().name, "service", Floor::Provider)
    }

    fn inspect(&self) -> Value {
        json!({ "status": self.0.status() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::contract;
    use crate::vsp::services::provider::ServiceVsp;
    use crate::vsp::services::service::Forced;
    use crate::vsp::services::table::Kind;
    use std::sync::Arc;

    #[test]
    fn every_service_keeps_the_contract() {
        for kind in Kind::ALL {
            contract::check(|| {
                let vsp = ServiceVsp::new(kind, Forced::default(), &[], Arc::new(|_, _| ()));
                Arc::new(ServiceDevice(vsp.handle()))
            });
        }
    }
}
