//! The bus and what is offered on it, as devices of the machine.

use std::sync::{Arc, Weak};

use serde_json::{Map, json};

use super::{BusDevice, Inner, VmBus};
use crate::device::{CommandError, Device, Floor, Identity, Value};
use crate::vmbus::vsp::Vsp;
use crate::wire::guid::interface;

/// A device of a library's user, as the machine sees it.
pub(super) struct Offered {
    pub name: String,
    pub part: Arc<BusDevice>,
}

impl Offered {
    fn with<T>(&self, call: impl FnOnce(&mut dyn Vsp) -> T) -> Option<T> {
        self.part.vsp.lock().as_mut().map(|vsp| call(&mut **vsp))
    }
}

impl Device for Offered {
    fn identity(&self) -> Identity {
        Identity::new(&*self.name, "vsp", Floor::Provider)
    }

    fn reset(&self) {
        self.with(|vsp| vsp.reset());
    }

    fn inspect(&self) -> Value {
        let (instance, interface) = (self.part.offer.instance, interface::name(self.part.offer.interface));
        let mut tree = Map::from_iter([
            ("instance".to_owned(), json!(instance.to_string())),
            ("interface".to_owned(), json!(interface)),
        ]);
        // While the device opens a channel, nobody waits for it.
        match self.part.vsp.try_lock() {
            Some(vsp) => match vsp.as_ref().map(|vsp| vsp.inspect()) {
                Some(Value::Object(own)) => tree.extend(own),
                Some(Value::Null) | None => {}
                Some(other) => drop(tree.insert("value".into(), other)),
            },
            None => drop(tree.insert("busy".into(), json!(true))),
        }
        Value::Object(tree)
    }

    fn command(&self, name: &str, arguments: &Value) -> Result<Value, CommandError> {
        let gone = || Err(CommandError::Failed("the device is gone".into()));
        self.with(|vsp| vsp.command(name, arguments)).unwrap_or_else(gone)
    }
}

/// VMBus, as the machine sees it.
struct Bus(Weak<Inner>);

impl VmBus {
    /// Returns the bus as a device of the machine. After the bus is gone, it has no effect.
    pub(crate) fn as_device(&self) -> Arc<dyn Device> {
        Arc::new(Bus(Arc::downgrade(&self.0)))
    }
}

impl Device for Bus {
    fn identity(&self) -> Identity {
        Identity::new("vmbus", "vmbus", Floor::Bus)
    }

    /// Waits for what other threads are writing to guest memory. The gate has stopped the threads of the channels. Control
    /// messages and signals wait until the machine goes on.
    fn pause(&self) {
        if let Some(link) = self.0.upgrade().and_then(|bus| VmBus(bus).link()) {
            link.settle();
        }
    }

    fn resume(&self) {
        if let Some(link) = self.0.upgrade().and_then(|bus| VmBus(bus).link()) {
            link.resume();
        }
    }

    fn inspect(&self) -> Value {
        let Some(bus) = self.0.upgrade().map(VmBus) else { return Value::Null };
        let link = bus.link();
        let version = link.as_ref().and_then(|link| link.version()).map(|version| version.to_string());
        json!({ "version": version, "channels": link.map_or_else(Vec::new, |link| link.inspect()) })
    }
}
