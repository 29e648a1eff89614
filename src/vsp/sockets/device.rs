//! The sockets as a device of their machine.

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::shared::Shared;
use super::table::Origin;
use crate::device::{Device, Floor, Identity, Value};

/// The sockets. While the machine is paused, data waits in Unix sockets, and no time of a wait passes.
pub struct SocketsDevice(pub Arc<Shared>);

impl Device for SocketsDevice {
    fn identity(&self) -> Identity {
        Identity::new("sockets", "sockets", Floor::Provider)
    }

    /// Ends all connections. Listeners stay.
    fn reset(&self) {
        for record in self.0.table.present() {
            self.0.bus.rescind(record.device);
        }
    }

    fn pause(&self) {
        self.0.clock.lock().stop(Instant::now());
    }

    fn resume(&self) {
        self.0.clock.lock().resume(Instant::now());
        self.0.attention.signal();
    }

    fn inspect(&self) -> Value {
        let present = self.0.table.present();
        let connections = present.iter().map(|record| {
            let (state, from_guest, to_guest) = record.facts();
            let origin = match record.origin {
                Origin::Guest => "guest",
                Origin::Host => "host",
            };
            json!({
                "service": record.service.to_string(),
                "from": origin,
                "state": state,
                "bytes-from-guest": from_guest,
                "bytes-to-guest": to_guest,
            })
        });
        let listeners = self.0.listeners.lock();
        let listeners = listeners
            .iter()
            .map(|(service, backlog)| json!({ "service": service.to_string(), "waiting": backlog.len() }));
        let (opened, refused) = self.0.table.counts();
        json!({
            "path": self.0.path,
            "listeners": listeners.collect::<Vec<_>>(),
            "connections": connections.collect::<Vec<_>>(),
            "opened": opened,
            "refused": refused,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::contract::device_contract;
    use crate::vmbus::bus::VmBus;

    device_contract! {
        sockets_keep_the_contract: {
            let shared = Shared::new("test".into(), VmBus::default(), None).expect("an eventfd");
            Arc::new(SocketsDevice(Arc::new(shared)))
        };
    }
}
