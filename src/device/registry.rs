//! The devices of a machine.

use std::fmt;
use std::sync::{Arc, Weak};

use serde_json::{Map, json};

use super::{Call, CommandError, Device, Identity, Lifecycle, Outlet, SavedState, StateError, Value, Words};
use crate::host::lock::{Mutex, MutexGuard};
use crate::host::panics::caught;

/// The devices of a machine, which makes their calls in the order of the [contract](super). Clones refer to the same devices.
///
/// # Locks
/// One lock serializes the calls that the contract orders, and a second one guards the list of devices. No device is called
/// under the second one, so `inspect` and `command` do not wait for a device that is being paused. Code that adds or removes
/// a device may hold locks of its own, as long as no device takes them when it is paused, resumed or reset.
#[derive(Clone, Default)]
pub struct Devices(Arc<Inner>);

#[derive(Default)]
struct Inner {
    outlet: Outlet,
    /// `true` while the machine is paused. Locked during calls that the contract orders.
    turn: Mutex<bool>,
    /// From the top floor down, and in the order in which they were added on each floor.
    slots: Mutex<Vec<Arc<Slot>>>,
}

struct Slot {
    identity: Identity,
    device: Arc<dyn Device>,
    state: Mutex<Lifecycle>,
}

/// The reason why a device cannot join a machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is a device `{0}` already; names are unique in a machine")]
pub struct AddError(pub String);

/// The membership of a device. The device leaves the machine when this is dropped.
#[must_use = "the device leaves the machine when this is dropped"]
pub struct Registration {
    devices: Weak<Inner>,
    slot: Weak<Slot>,
}

impl Devices {
    /// Creates an empty registry of a machine that is `paused` or not. `outlet` takes the events of devices.
    pub fn new(paused: bool, outlet: Outlet) -> Self {
        Self(Arc::new(Inner { outlet, turn: Mutex::new(paused), slots: Mutex::default() }))
    }

    /// Returns where devices report events.
    pub fn outlet(&self) -> &Outlet {
        &self.0.outlet
    }

    /// Adds a device. If the machine is paused, the device is paused first.
    ///
    /// # Errors
    /// Returns an error if another device has the name.
    pub fn add(&self, device: Arc<dyn Device>) -> Result<Registration, AddError> {
        let identity = device.identity();
        let paused = self.turn();
        if self.slot(&identity.name).is_some() {
            return Err(AddError(identity.name));
        }
        let slot = Arc::new(Slot { identity, device, state: Mutex::new(Lifecycle::Running) });
        if *paused {
            // A device that has just been made can be paused.
            let _ = self.order(&slot, Call::Pause, |device| device.pause());
        }
        let mut slots = self.slots();
        let place = slots.partition_point(|other| other.identity.floor >= slot.identity.floor);
        slots.insert(place, slot.clone());
        Ok(Registration { devices: Arc::downgrade(&self.0), slot: Arc::downgrade(&slot) })
    }

    /// Pauses all devices that run, from the top floor down.
    pub fn pause(&self) {
        let mut paused = self.turn();
        *paused = true;
        for slot in &self.list() {
            // A device that is already paused refuses the call and stays paused.
            let _ = self.order(slot, Call::Pause, |device| device.pause());
        }
    }

    /// Resumes all devices that are paused, from the bottom floor up.
    pub fn resume(&self) {
        let mut paused = self.turn();
        *paused = false;
        for slot in self.list().iter().rev() {
            let _ = self.order(slot, Call::Resume, |device| device.resume());
        }
    }

    /// Resets all devices, from the bottom floor up.
    pub fn reset(&self) {
        let _turn = self.turn();
        for slot in self.list().iter().rev() {
            let _ = self.order(slot, Call::Reset, |device| device.reset());
        }
    }

    /// Saves all devices of a paused machine, from the top floor down. Returns their states by name.
    ///
    /// # Errors
    /// Returns the name of the first device that cannot be saved, and the reason.
    pub fn save(&self) -> Result<Vec<(String, SavedState)>, (String, StateError)> {
        let _turn = self.turn();
        let save = |slot: &Arc<Slot>| {
            let saved = self.order(slot, Call::Save, |device| device.save());
            let named = |error| (slot.identity.name.clone(), error);
            Ok((slot.identity.name.clone(), flat(saved).map_err(named)?))
        };
        self.list().iter().map(save).collect()
    }

    /// Restores one device of a paused machine.
    ///
    /// # Errors
    /// Returns an error if there is no such device or the state is none that it takes.
    pub fn restore(&self, name: &str, state: &SavedState) -> Result<(), StateError> {
        let _turn = self.turn();
        let slot = self.slot(name).ok_or_else(|| StateError::Invalid(format!("there is no device `{name}`")))?;
        if state.kind != slot.identity.kind {
            return Err(StateError::Kind { found: state.kind.clone(), wanted: slot.identity.kind });
        }
        flat(self.order(&slot, Call::Restore, |device| device.restore(state)))
    }

    /// Returns the device with that name.
    pub fn find(&self, name: &str) -> Option<Arc<dyn Device>> {
        self.slot(name).map(|slot| slot.device.clone())
    }

    /// Returns the names of the devices of that kind, from the top floor down.
    pub fn of_kind(&self, kind: &str) -> Vec<String> {
        let slots = self.slots();
        slots.iter().filter(|slot| slot.identity.kind == kind).map(|slot| slot.identity.name.clone()).collect()
    }

    /// Returns the state of all devices: an object for each, with its kind, its state and what it
    /// [says](Device::inspect) itself.
    pub fn inspect(&self) -> Value {
        let inspect = |slot: &Arc<Slot>| {
            let state = slot.state().to_string();
            let own = caught(|| slot.device.inspect());
            let mut tree = Map::new();
            match own {
                Ok(Value::Object(own)) => tree = own,
                Ok(Value::Null) => {}
                Ok(other) => drop(tree.insert("value".into(), other)),
                Err(message) => drop(tree.insert("panicked".into(), json!(message))),
            }
            tree.insert("kind".into(), json!(slot.identity.kind));
            tree.insert("state".into(), json!(state));
            (slot.identity.name.clone(), Value::Object(tree))
        };
        Value::Object(self.list().iter().map(inspect).collect())
    }

    /// Executes a command on a device.
    ///
    /// # Errors
    /// Returns an error if there is no such device, or the device's error.
    pub fn command(&self, device: &str, name: &str, arguments: &Value) -> Result<Value, CommandError> {
        let Some(slot) = self.slot(device) else {
            let list = self.list();
            let known = Words(list.iter().map(|slot| slot.identity.name.as_str()).collect()).to_string();
            return Err(CommandError::NoDevice { name: device.to_owned(), known });
        };
        match caught(|| slot.device.command(name, arguments)) {
            Ok(result) => result,
            Err(message) => {
                self.panicked(&slot, &message);
                Err(CommandError::Failed(format!("the device's own code panicked: {message}")))
            }
        }
    }

    /// Makes a call that the contract orders. The caller holds the turn.
    fn order<T>(&self, slot: &Slot, call: Call, make: impl FnOnce(&dyn Device) -> T) -> Result<T, StateError> {
        let next = slot.state().after(call)?;
        let result = caught(|| make(&*slot.device));
        *slot.state() = next;
        result.map_err(|message| {
            self.panicked(slot, &message);
            StateError::Invalid(format!("the device's own code panicked: {message}"))
        })
    }

    fn panicked(&self, slot: &Slot, message: &str) {
        self.0.outlet.tell(&slot.identity.name, "panicked", json!({ "message": message }));
    }

    fn turn(&self) -> MutexGuard<'_, bool> {
        self.0.turn.lock()
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.0.slots.lock()
    }

    /// Returns the devices from the top floor down.
    fn list(&self) -> Vec<Arc<Slot>> {
        self.slots().clone()
    }

    fn slot(&self, name: &str) -> Option<Arc<Slot>> {
        self.slots().iter().find(|slot| slot.identity.name == name).cloned()
    }
}

/// Returns the inner error or the outer one.
fn flat<T>(result: Result<Result<T, StateError>, StateError>) -> Result<T, StateError> {
    result.and_then(|result| result)
}

impl fmt::Debug for Devices {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.slots().iter().map(|slot| &slot.identity)).finish()
    }
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, Lifecycle> {
        self.state.lock()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let (Some(inner), Some(slot)) = (self.devices.upgrade(), self.slot.upgrade()) else { return };
        let devices = Devices(inner);
        let turn = devices.turn();
        devices.slots().retain(|other| !Arc::ptr_eq(other, &slot));
        let _ = devices.order(&slot, Call::Remove, |_| ());
        drop(turn);
        // The device may be dropped here, without a lock.
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Registration")
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
